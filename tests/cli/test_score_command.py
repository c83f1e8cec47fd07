"""`loralaw score`: what it prints and writes, and what it refuses."""

import json
import warnings
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from loralaw.cli.app import app
from loralaw.errors import InputError

RUNNER = CliRunner()
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def scored(*arguments: str) -> str:
    result = RUNNER.invoke(app, ["score", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_model_by_both_scorers(tiny_model: Path, tmp_path: Path) -> None:
    common = [str(tiny_model), "--task", "stdlib-code", "--questions", "12"]
    output = scored(*common, "--json", str(tmp_path / "ours.json"))
    assert "12 questions of stdlib-code" in output
    assert "choice_accuracy_sum" in output
    ours = json.loads((tmp_path / "ours.json").read_text())
    assert ours["n_questions"] == len(ours["loss_sums"]) == 12
    pytest.importorskip("lm_eval")
    scored(*common, "--max-length", "64", "--by", "lm-eval", "--json", str(tmp_path / "theirs.json"))
    assert json.loads((tmp_path / "theirs.json").read_text())["by"] == "lm-eval"


def test_an_adapter(tiny_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    common = ["--task", "stdlib-code", "--questions", "5", "--json"]
    scored(str(tiny_model), *common, str(tmp_path / "base.json"))
    scored(str(tmp_path / "adapter"), *common, str(tmp_path / "named.json"))
    scored(str(tmp_path / "adapter"), "--base", str(tiny_model), *common, str(tmp_path / "given.json"))
    base, named, given = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("base", "named", "given"))
    assert named["loss_sums"] == given["loss_sums"] != base["loss_sums"]


def test_an_unknown_task(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="stdlib-code"):
        RUNNER.invoke(app, ["score", str(tiny_model), "--task", "stdlib-cod"], catch_exceptions=False)
