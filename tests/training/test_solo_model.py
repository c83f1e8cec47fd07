"""What is measured of a cell that trained alone, and what is saved of it."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel, set_peft_model_state_dict
from plain_peft import gpt2, llama
from safetensors.torch import load_file
from solo_cells import SILENT, base_model, cell, cell_folder, encoded
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from loralaw.miub import probe
from loralaw.tasks import NOT_SCORED, EncodedRows
from loralaw.training import EncodedTask, train_pack
from loralaw.training.measure import measure
from loralaw.training.solo_model import SoloModel
from loralaw.training.train_solo import train_solo

torch.set_num_threads(1)
BUILDS = pytest.mark.parametrize("build", [llama, gpt2])


def loaded(method: str, base: PreTrainedModel, folder: Path) -> nn.Module:
    """What a user gets from the cell's folder."""
    if method == "full":
        return AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(copy.deepcopy(base), folder / "adapter").eval()


@torch.no_grad()
def logits_on(model: nn.Module, rows: EncodedRows) -> torch.Tensor:
    return model(input_ids=rows.ids, attention_mask=rows.token_mask.long()).logits[:, :-1].double()


def assert_scores(metrics: dict[str, Any], model: nn.Module, task: EncodedTask) -> None:
    """The metrics of a record, from the logits of a plain model."""
    logits, targets = logits_on(model, task.test), task.test.labels[:, 1:]
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NOT_SCORED)
    scored = targets != NOT_SCORED
    assert metrics["cross_entropy"] == pytest.approx(float(expected), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(float((logits.argmax(-1) == targets)[scored].double().mean()))
    targets = task.choices.rows.labels[:, 1:]
    losses = F.cross_entropy(
        logits_on(model, task.choices.rows).transpose(1, 2), targets, ignore_index=NOT_SCORED, reduction="none"
    )
    likeliest = (losses.sum(1) / task.choices.rows.n_bytes).view(-1, 2).argmin(1).tolist()
    right = [option == label for option, label in zip(likeliest, task.choices.labels.tolist(), strict=True)]
    assert metrics["choice_accuracy"] == sum(right) / len(right)


@BUILDS
@pytest.mark.parametrize("method", ["lora", "dora", "alpha-lora", "full"])
def test_what_is_saved_is_what_was_measured(method: str, build: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    base, one = base_model(build), cell(method, steps=20)
    task = encoded(base, one)
    before = logits_on(base.model, task.test)
    record = train_solo(base, task, one, tmp_path, SILENT)
    model = loaded(method, base.model, tmp_path)
    assert not torch.allclose(logits_on(model, task.test), before, atol=1e-2)
    assert_scores(record["metrics"], model, task)
    if method == "full":
        assert AutoTokenizer.from_pretrained(tmp_path / "model")("a b").input_ids == base.tokenizer("a b").input_ids
        assert model.config.to_dict().keys() == base.model.config.to_dict().keys() | {"architectures", "dtype"}
        assert model.config.use_cache
        return
    inside = probe(model, {"input_ids": task.probe.ids, "attention_mask": task.probe.token_mask.long()})
    assert [row["layer"] for row in record["layers"]] == [row["layer"] for row in inside.layers]
    for row, expected in zip(record["layers"], inside.layers, strict=True):
        for name in ("n_tokens", "miub_nats", "jsd_nats", "norm_ratio", "cosine", "effective_rank"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-8), (row["layer"], name)
    assert record["metrics"]["miub_nats"] == pytest.approx(inside.means["miub_nats"], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_measures_as_in_a_pack(dtype: str, tmp_path: Path) -> None:
    """The same adapter, standard errors by document too."""
    base, one = base_model(), cell("rslora", steps=20, dtype=dtype)
    task = encoded(base, one)
    [record] = train_pack(base, task, [one], cell_folder(tmp_path), SILENT)
    solo = SoloModel(base.model, one)
    set_peft_model_state_dict(solo.trained, load_file(tmp_path / one.key / "adapter" / "adapter_model.safetensors"))
    measured = measure(solo, task)[one.key]
    expected = {name: value for name, value in record["metrics"].items() if name != "train_loss"}
    close = {"rel": 1e-5, "abs": 5e-8} if dtype == "float32" else {"rel": 2e-2, "abs": 1e-4}
    assert measured["metrics"] == pytest.approx(expected, **close)
    assert measured["absent_metrics"] == record["absent_metrics"]
    for row, theirs in zip(measured["layers"], record["layers"], strict=True):
        assert row.pop("layer") == theirs.pop("layer")
        # Near 0 a cosine is known only up to the rounding of the vectors, whose length is 1.
        assert row.pop("cosine") == pytest.approx(
            theirs.pop("cosine"), **(close if dtype == "float32" else {"abs": 2e-3})
        )
        assert row == pytest.approx(theirs, **close)


def test_an_adapter_shares_the_weights_of_its_base() -> None:
    base = base_model()
    shared, own = SoloModel(base.model, cell("dora")), SoloModel(base.model, cell("full"))
    places = {parameter.data_ptr() for parameter in base.model.parameters()}
    frozen = {p.data_ptr() for p in shared.trained.parameters() if not p.requires_grad}
    assert frozen == places
    assert not places & {parameter.data_ptr() for parameter in own.trained.parameters()}
