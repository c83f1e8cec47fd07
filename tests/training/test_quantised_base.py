"""A base model that bitsandbytes has quantised: adapters train on it alone, full fine-tuning is refused."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from plain_peft import cell as pack_cell
from plain_peft import llama
from safetensors.torch import load_file
from solo_cells import SILENT, Heard, assert_untouched, base_model, cell, cell_folder, encoded, state
from test_solo_model import assert_scores
from test_train_solo import assert_near, train_plainly
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from loralaw.errors import InputError, ModelError
from loralaw.models import BaseModel, Loading, find_model, is_quantised, load_base_model, skeleton
from loralaw.training import Pack, path_of, train_cells
from loralaw.training.quantised import quantised_bytes

pytest.importorskip("bitsandbytes", reason="quantises layers on a processor")
torch.set_num_threads(1)
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]
SETTINGS = {
    4: {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
    8: {"load_in_8bit": True},
}


@pytest.fixture(scope="module", params=[4, 8])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers saves it after loading in 4 or 8 bits."""
    place = tmp_path_factory.mktemp(f"{request.param}bit")
    llama().save_pretrained(place / "whole")
    settings = BitsAndBytesConfig(**SETTINGS[request.param])
    model = AutoModelForCausalLM.from_pretrained(place / "whole", quantization_config=settings, dtype=torch.float32)
    model.save_pretrained(place / "model")
    base_model().tokenizer.save_pretrained(place / "model")
    return place / "model"


def quantised(folder: Path) -> BaseModel:
    base = load_base_model(find_model(str(folder)))
    assert is_quantised(base.model.config)
    return base


def load(folder: Path) -> PreTrainedModel:
    return quantised(folder).model


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "alpha-lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_train_alone_and_the_base_is_left_as_it_was(
    method: str, dtype: str, folder: Path, tmp_path: Path
) -> None:
    base, one = quantised(folder), cell(method, steps=20, dtype=dtype)
    if method == "dora" and "8bit" in str(folder):
        with pytest.raises(InputError, match="dora on a base model in 8 bits needs a GPU"):
            list(train_cells(base, encoded(base, one), [one], cell_folder(tmp_path), SILENT))
        return
    task, before = encoded(base, one), state(base.model)
    [record] = train_cells(base, task, [one], cell_folder(tmp_path), SILENT)
    assert record["status"] == "finished"
    assert record["provenance"]["path"] == "trainer"
    assert len(record["layers"]) == 14
    assert record["counts"]["n_params_total"] == sum(p.numel() for p in llama().parameters())
    assert_untouched(base.model, before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loaded = PeftModel.from_pretrained(load(folder), tmp_path / one.key / "adapter").eval()
    if dtype == "float32":
        assert_scores(record["metrics"], loaded, task)


def test_lora_equals_a_plain_loop_on_the_quantised_model(folder: Path, tmp_path: Path) -> None:
    base, one, heard = quantised(folder), cell("lora", steps=10), Heard()
    task = encoded(base, one)
    list(train_cells(base, task, [one], cell_folder(tmp_path), heard.events))
    torch.manual_seed(one.seed)
    # A base of its own: the cell's must not have spoilt it.
    config = LoraConfig(r=4, lora_alpha=16.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load(folder), config)
    losses = train_plainly(model, base, one, task)
    assert heard.lines[0]["train_loss"] == pytest.approx(sum(losses) / 10, rel=1e-5)
    saved = load_file(tmp_path / one.key / "adapter" / "adapter_model.safetensors")
    assert_near(saved, get_peft_model_state_dict(model), 1e-4)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_cell_trains_on_weights_that_are_quantised_while_they_are_loaded(
    bits: Any, tiny_model: Path, tmp_path: Path
) -> None:
    base, one = load_base_model(find_model(str(tiny_model), Loading(bits))), cell("lora", steps=4)
    [record] = train_cells(base, encoded(base, one), [one], cell_folder(tmp_path), SILENT)
    assert record["status"] == "finished"
    assert record["provenance"]["path"] == "trainer"
    assert record["metrics"]["miub_nats"] >= 0


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    base, one = quantised(folder), cell("full")
    with pytest.raises(InputError, match=r"is quantised, and full fine-tuning.*choose a method with an adapter"):
        list(train_cells(base, encoded(base, one), [one], cell_folder(tmp_path), SILENT))
    with pytest.raises(ModelError, match="quantised: packed training"):
        Pack(base.model, [pack_cell("a")], pad_to=8)


def test_the_memory_of_the_weights_is_told_before_they_are_loaded(folder: Path) -> None:
    loaded = load(folder)
    of_weights = sum(p.numel() * p.element_size() for p in loaded.parameters())
    states = [getattr(p, "quant_state", None) for p in loaded.parameters()]
    of_weights += sum(s.absmax.numel() * s.absmax.element_size() for s in states if s is not None)
    assert quantised_bytes(skeleton(find_model(str(folder)))) == pytest.approx(of_weights, rel=0.02)


@pytest.mark.parametrize(
    ("method", "changes", "path"),
    [
        ("lora", {}, "packed"),
        ("rslora", {}, "packed"),
        ("alpha-lora", {}, "packed"),
        ("dora", {}, "trainer"),
        ("full", {}, "trainer"),
        ("lora", {"engine": "trainer"}, "trainer"),
        ("lora", {"quantised": True}, "trainer"),
    ],
)
def test_the_path_follows_from_method_engine_and_base_model(method: str, changes: dict[str, Any], path: str) -> None:
    config, changes = copy.copy(llama().config), {**changes}
    if changes.pop("quantised", False):
        config.quantization_config = {"load_in_4bit": True}
    assert path_of(cell(method, **changes), config) == path
