"""`loralaw train` as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loralaw.cli import main

LORALAW = Path(sys.executable).with_name("loralaw")
MODEL = ["--model", "micro-0.4m", "--task", "stdlib-code", "--examples", "20"]
SHORT = ["--steps", "10", "--batch-size", "2", "--max-length", "16"]


def train(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LORALAW), "train", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.mark.parametrize(
    ("words", "folder", "weights", "load"),
    [
        (["--rank", 2], "micro-0.4m-lora-r2-s0", "adapter/adapter_model.safetensors", "PeftModel.from_pretrained(base"),
        (
            ["--rank", 2, "--method", "alpha-lora", "--seed", 1, "--row-scale-every", 2],
            "micro-0.4m-alpha-lora-r2-s1",
            "adapter/adapter_model.safetensors",
            "import loralaw.tuners; PeftModel.from_pretrained(base",
        ),
        (
            ["--method", "full", "--learning-rate", "5e-4"],
            "micro-0.4m-full-s0",
            "model/model.safetensors",
            "AutoModelForCausalLM.from_pretrained(",
        ),
    ],
)
def test_one_model_in_a_folder_of_its_own(
    words: list[object], folder: str, weights: str, load: str, tmp_path: Path
) -> None:
    result = train(*MODEL, *SHORT, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    home = tmp_path / "runs" / folder
    assert (home / weights).exists()
    assert len((home / "events.jsonl").read_text().splitlines()) == 1
    record = json.loads((home / "record.json").read_text())
    for part in ("test cross-entropy", " ± ", "perplexity", "accuracy", "MIUB", "peak memory", "of training", load):
        assert part in result.stdout
    assert f"{record['counts']['n_params_trainable']:,}" in result.stdout
    assert f'{Path("runs", folder, weights).parent.as_posix()}")' in result.stdout
    if folder != "micro-0.4m-lora-r2-s0":
        return  # once is enough
    again = train(*MODEL, *SHORT, *words, cwd=tmp_path)
    assert again.returncode == 2
    assert "--out: " in again.stderr
    assert "give another folder" in again.stderr
    assert json.loads((home / "record.json").read_text()) == record


def test_every_mistake_at_once_by_the_name_of_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["loralaw", "train", *MODEL, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    (tmp_path / "record.json").write_text("{}")
    wrong = refused("--target-module", "q_prj", "--max-length", "9999", "--out", str(tmp_path), "--seed", "-1")
    assert "loralaw train: 5 problems" in wrong
    for option in ("--rank", "--target-module", "--max-length", "--seed", "--out"):
        assert f"\n  {option}: " in wrong
    full = refused("--method", "full", "--rank", "4", "--lora-alpha", "8")
    assert "--lora-alpha: full has no such setting" in full


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"body": "row {i}: the cat sat {i * 7}"}}\n' for i in range(60)))
    data = ["--task", "rows.jsonl", "--text-column", "body", "--examples", "8"]
    result = train("--model", "micro-0.4m", *data, *SHORT, "--rank", 1, "--learning-rate", "1e30", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "diverged" in result.stdout
    assert "lower learning_rate" in result.stdout
    record = json.loads((tmp_path / "runs" / "micro-0.4m-lora-r1-s0" / "record.json").read_text())
    assert record["status"] == "diverged"
