"""Adapters that do not fit, are broken, or meet a program without this package: each fails at once and says why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapted_models import CASES, as_if_trained, llama
from peft import PeftModel
from safetensors.torch import load_file, save_file

from loralaw.errors import ModelError
from loralaw.tuners import ROW_SCALE

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LAYER = r"base_model\.model\.model\.layers\.0\.self_attn\.q_proj"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    as_if_trained(CASES["linear"].adapted()).save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, edit: str) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if ROW_SCALE in name and "layers.0.self_attn.q_proj" in name)
    if edit == "missing":
        del tensors[name]
    elif edit == "short":
        tensors[name] = tensors[name][:-3].clone()
    else:
        tensors[name][5] = float(edit)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("missing", rf"no row scale for {LAYER}: it is not an α-LoRA adapter"),
        ("short", rf"row scale of {LAYER} .* shape \(29,\), the layer has 32 rows: .* another base model"),
        ("nan", rf"row scale of {LAYER} .* has 1 of 32 entries that are not finite"),
        ("inf", "1 of 32 entries that are not finite: its training diverged"),
    ],
)
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_row_scale_that_is_not_right(folder: Path, edit: str, words: str, low_memory: bool) -> None:
    change(folder, edit)
    with pytest.raises(ModelError, match=words):
        PeftModel.from_pretrained(llama(), folder, low_cpu_mem_usage=low_memory)


def test_an_adapter_beside_another_does_not_ask_for_its_row_scale(folder: Path) -> None:
    model = CASES["linear"].adapted()
    model.load_adapter(folder, "second")
    assert sum(ROW_SCALE in name and ".second." in name for name, _ in model.named_parameters()) == 6


def without_this_package(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def test_a_program_without_this_package_cannot_load_it(folder: Path) -> None:
    """Never as plain LoRA, which would drop α in silence."""
    llama().save_pretrained(folder / "base")
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "ALPHALORA"
    code = (
        "import sys, peft, transformers; folder = sys.argv[1]\n"
        "model = transformers.AutoModelForCausalLM.from_pretrained(folder + '/base')\n"
        "peft.PeftModel.from_pretrained(model, folder)"
    )
    assert "ALPHALORA" in without_this_package(code, folder).splitlines()[-1]


def test_pickled_weights_are_read_as_torch_reads_them_safely(folder: Path) -> None:
    """PEFT's own rule: an adapter without safetensors is unpickled with weights_only."""
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    loaded = PeftModel.from_pretrained(llama(), folder)
    assert sum(ROW_SCALE in name for name, _ in loaded.named_parameters()) == 6
