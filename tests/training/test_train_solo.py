"""Cells that train alone: as a pack or a plain loop trains them, and the base model is left alone."""

import dataclasses
import json
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from plain_peft import gpt2, llama
from safetensors.torch import load_file
from solo_cells import SILENT, Heard, assert_untouched, base_model, cell, cell_folder, encoded, state
from test_refusals import quantised_layer, soft_capped, unused_layer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, get_scheduler
from transformers.utils import logging

from loralaw.errors import InputError, ModelError, StorageError
from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.training import EncodedTask, train_pack
from loralaw.training.encoded_task import batches
from loralaw.training.train_solo import train_solo

torch.set_num_threads(1)
BUILDS = pytest.mark.parametrize("build", [llama, gpt2])


def adapter_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert float((ours[name].detach() - expected.detach()).norm()) <= relative * float(expected.detach().norm()), (
            name
        )


def train_plainly(model: nn.Module, base: BaseModel, one: Cell, task: EncodedTask) -> list[float]:
    """The losses of a torch loop on what is trainable, everything in evaluation mode."""
    training, parameters = one.training, [p for p in model.eval().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training["learning_rate"], weight_decay=0.0)
    scheduler = get_scheduler(training["schedule"], optimizer, training["warmup_steps"], training["steps"])
    stream = batches(task.train(one.seed), one.n_train_examples, training["batch_size"], one.seed)
    losses = []
    for _, (ids, labels) in zip(range(training["steps"]), stream, strict=False):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, training["max_grad_norm"])
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


@BUILDS
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("lora", {}),
        ("rslora", {"weight_decay": 0.1, "max_grad_norm": 0.05, "schedule": "cosine", "target_modules": "some"}),
    ],
)
def test_equals_a_pack(
    method: str, changes: dict[str, Any], build: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    """The pack itself is tested against plain PEFT; gpt2 has dropout of its own, which stays off in both."""
    if changes:
        changes = {**changes, "target_modules": ["q_proj", "down_proj"] if build is llama else ["c_attn"]}
    base, one = base_model(build), cell(method, steps=20, **changes)
    task, packed, solo = encoded(base, one), Heard(), Heard()
    [theirs] = train_pack(base, task, [one], cell_folder(tmp_path), packed.events)
    ours = train_solo(base, task, one, tmp_path / "solo", solo.events)
    assert (ours["status"], ours.keys()) == ("finished", theirs.keys())
    assert (ours["counts"], ours["absent_metrics"]) == (theirs["counts"], theirs["absent_metrics"])
    assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5, abs=1e-7)
    for row, expected in zip(ours["layers"], theirs["layers"], strict=True):
        assert row.pop("layer") == expected.pop("layer")
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert solo.n_steps == packed.n_steps == 20
    assert [line["step"] for line in solo.lines] == [10, 20]
    for line, expected in zip(solo.lines, packed.lines, strict=True):
        assert line.pop("key") == expected.pop("key") == one.key
        assert line == pytest.approx(expected, rel=1e-6)
    assert_near(adapter_of(tmp_path / "solo"), adapter_of(tmp_path / one.key))
    configs = [folder / "adapter" / "adapter_config.json" for folder in (tmp_path / "solo", tmp_path / one.key)]
    assert json.loads(configs[0].read_text()) == json.loads(configs[1].read_text())


@BUILDS
def test_dora_equals_a_plain_loop(build: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    base, one = base_model(build), cell("dora", steps=10)
    task, heard = encoded(base, one), Heard()
    assert train_solo(base, task, one, tmp_path, heard.events)["status"] == "finished"
    model = build()
    torch.manual_seed(one.seed)
    config = LoraConfig(
        r=4, lora_alpha=16.0, target_modules="all-linear", use_dora=True, fan_in_fan_out=build is gpt2,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(model, config)
    losses = train_plainly(model, base, one, task)
    assert heard.lines[0]["train_loss"] == pytest.approx(sum(losses) / 10, rel=1e-5)
    assert_near(adapter_of(tmp_path), get_peft_model_state_dict(model), 1e-4)


@BUILDS
def test_full_equals_a_plain_loop(build: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    """Every weight learns, tied embeddings once, and the model's own dropout stays off."""
    base, one = base_model(build), cell("full", steps=10)
    task, heard = encoded(base, one), Heard()
    record, model = train_solo(base, task, one, tmp_path, heard.events), build()
    losses = train_plainly(model, base, one, task)
    assert heard.lines[0]["train_loss"] == pytest.approx(sum(losses) / 10, rel=1e-5)
    saved = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "model").named_parameters())
    # Together: in exact arithmetic a key's bias has no gradient, and Adam makes steps of what rounding leaves of it.
    moved = [(p - base.model.get_parameter(name)).detach().flatten() for name, p in model.named_parameters()]
    wrong = [(p - saved[name]).detach().flatten() for name, p in model.named_parameters()]
    assert len(wrong) == len(saved)
    assert float(torch.cat(wrong).norm()) <= 1e-3 * float(torch.cat(moved).norm())
    assert record["layers"] == []
    assert record["counts"]["n_params_trainable"] == record["counts"]["n_params_total"] == base.n_params_total
    assert record["absent_metrics"].keys() == {"miub_nats", "jsd_nats", "norm_ratio", "cosine", "effective_rank"}
    assert set(record["absent_metrics"].values()) == {"there is no adapter"}
    assert not record["metrics"].keys() & record["absent_metrics"].keys()


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapter_dropout_is_on_in_training_and_off_in_measuring(method: str, tmp_path: Path) -> None:
    base, one = base_model(), cell(method)
    task = encoded(base, one)
    plain = train_solo(base, task, one, tmp_path / "plain", SILENT)
    dropped = train_solo(base, task, cell(method, lora_dropout=0.5), tmp_path / "dropped", SILENT)
    again = train_solo(base, task, cell(method, lora_dropout=0.5), tmp_path / "again", SILENT)
    assert dropped["metrics"] == again["metrics"]
    assert dropped["metrics"]["train_loss"] != pytest.approx(plain["metrics"]["train_loss"], rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "dora", "alpha-lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_is_left_as_it_was(method: str, dtype: str, tmp_path: Path) -> None:
    """Also in the middle of a training; and modes and what learns, whatever they were."""
    base, one = base_model(gpt2), cell(method, dtype=dtype)
    base.model.transformer.h[0].train()
    base.model.transformer.h[1].attn.c_attn.weight.requires_grad_(True)
    task, before = encoded(base, one), state(base.model)
    assert train_solo(base, task, one, tmp_path / "a", SILENT)["status"] == "finished"
    assert_untouched(base.model, before)
    with pytest.raises(RuntimeError, match="in the middle"):
        train_solo(base, task, one, tmp_path / "b", Heard(fail_at=5).events)
    assert_untouched(base.model, before)
    assert not (tmp_path / "b").exists()


def test_nothing_is_shown_written_or_left_in_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    for method, wrote in (("dora", "adapter"), ("alpha-lora", "adapter"), ("full", "model")):
        base, one = base_model(), cell(method)
        task = encoded(base, one)
        environment, verbosity = dict(os.environ), logging.get_verbosity()
        randomness = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
        train_solo(base, task, one, tmp_path / method, SILENT)
        assert [path.name for path in (tmp_path / method).iterdir()] == [wrote]
        assert (dict(os.environ), logging.get_verbosity()) == (environment, verbosity)
        assert random.getstate() == randomness[0]
        assert torch.equal(torch.get_rng_state(), randomness[1])
        assert np.random.get_state()[1].tolist() == randomness[2]
    assert list((tmp_path / "temporary").iterdir()) == list((tmp_path / "here").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", ["lora", "alpha-lora", "full"])
def test_divergence_ends_a_cell(method: str, tmp_path: Path) -> None:
    base, one, heard = base_model(), cell(method, learning_rate=1e30), Heard()
    record = train_solo(base, encoded(base, one), one, tmp_path, heard.events)
    assert record["status"] == "diverged"
    assert f"at step {heard.n_steps}; lower learning_rate" in record["reason"]
    assert heard.n_steps < 12
    assert not list(tmp_path.iterdir())
    assert record["cost"]["train_seconds"] > 0
    json.dumps(record, allow_nan=False)


def test_bfloat16_is_as_close_to_float32_as_a_pack_is(tmp_path: Path) -> None:
    """And a float32 cell after it is the float32 cell before it: nothing of autocast stays in the process."""
    base, exact, rounded = base_model(), cell("lora"), cell("lora", dtype="bfloat16")
    task = encoded(base, exact)
    loss = {}
    for name, one in (("exact", exact), ("rounded", rounded), ("exact again", exact)):
        loss[name] = train_solo(base, task, one, tmp_path / name, SILENT)["metrics"]
    [packed] = train_pack(base, task, [rounded], cell_folder(tmp_path), SILENT)
    assert loss["exact"] == loss["exact again"]
    for metric in ("train_loss", "cross_entropy"):
        worst = 2 * abs(packed["metrics"][metric] - loss["exact"][metric]) + 2e-3
        assert 0 < abs(loss["rounded"][metric] - loss["exact"][metric]) < worst


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_method_may_have_its_own_learning_rate(method: str, tmp_path: Path) -> None:
    base, of_training, of_method = base_model(), cell(method, learning_rate=1e-3), cell(method, learning_rate=9.0)
    of_method = dataclasses.replace(of_method, method={**of_method.method, "learning_rate": 1e-3})
    task = encoded(base, of_training)
    for one in (of_training, of_method):
        if method == "lora":
            list(train_pack(base, task, [one], cell_folder(tmp_path), SILENT))
        else:
            train_solo(base, task, one, tmp_path / one.key, SILENT)
    assert_near(adapter_of(tmp_path / of_method.key), adapter_of(tmp_path / of_training.key), 0.0)


@pytest.mark.parametrize(
    ("protocol", "every", "n_steps", "n_examples"),
    [("held-out", 1, 12, 4), ("held-out", 5, 3, 4), ("joint", 1, 12, 16), ("authors", 5, 3, 4)],
)
def test_alpha_lora_learns_from_its_examples_only(
    protocol: str, every: int, n_steps: int, n_examples: int, tmp_path: Path
) -> None:
    base = base_model()
    one = cell("alpha-lora", row_scale_protocol=protocol, row_scale_every=every)
    task, heard = encoded(base, one), Heard()
    record = train_solo(base, task, one, tmp_path / "whole", heard.events)
    assert record["counts"]["n_row_scale_steps"] == n_steps
    assert record["counts"]["n_row_scale_examples"] == n_examples
    assert heard.lines[0]["row_scale_rms_change"] > 0
    drift = record["row_scale"]["drift"]
    assert [point["step"] for point in drift] == list(range(13))
    assert set(drift[0]["rms_change"].values()) == {0.0}
    saved = {name: alpha for name, alpha in adapter_of(tmp_path / "whole").items() if "row_scale" in name}
    assert len(record["row_scale"]["layers"]) == len(saved) == 14
    for layer in record["row_scale"]["layers"]:
        [alpha] = [alpha for name, alpha in saved.items() if f".{layer['layer']}." in name]
        assert layer["rms_change"] == pytest.approx(float((alpha - 1).square().mean().sqrt()), rel=1e-5)
    task.train(one.seed).ids[16:] = 7  # rows beyond the cell's 16 must not matter
    again = train_solo(base, task, one, tmp_path / "cut", SILENT)
    assert again["metrics"] == record["metrics"]


@pytest.mark.parametrize("protocol", ["joint", "authors"])
def test_a_row_scale_that_hardly_moves_leaves_lora(protocol: str, tmp_path: Path) -> None:
    """In these protocols the adapter has all rows: losses, adapter and measurements are those of LoRA on them."""
    still = {"row_scale_protocol": protocol, "row_scale_learning_rate": 1e-30}
    base, one, lora = base_model(), cell("alpha-lora", max_grad_norm=1e9, **still), cell("lora", max_grad_norm=1e9)
    task, heard, expected = encoded(base, one), Heard(), Heard()
    ours = train_solo(base, task, one, tmp_path / "ours", heard.events)
    theirs = train_solo(base, task, lora, tmp_path / "theirs", expected.events)
    assert heard.lines[0]["train_loss"] == pytest.approx(expected.lines[0]["train_loss"], rel=1e-6)
    assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-4, abs=1e-7)
    saved = {name: tensor for name, tensor in adapter_of(tmp_path / "ours").items() if "row_scale" not in name}
    assert_near(saved, adapter_of(tmp_path / "theirs"), 1e-4)


def test_the_drift_of_a_long_training_is_thinned(tmp_path: Path) -> None:
    base, one = base_model(), cell("alpha-lora", rank=1, steps=101, target_modules=["q_proj"])
    drift = train_solo(base, encoded(base, one), one, tmp_path, SILENT)["row_scale"]["drift"]
    assert [point["step"] for point in drift] == [*range(0, 100, 3), 101]


@pytest.mark.parametrize(
    ("build", "message"),
    [(soft_capped, "soft cap"), (quantised_layer, "up_proj is a Linear4bit"), (unused_layer, "never calls")],
)
def test_models_that_a_pack_refuses_are_refused(
    build: Callable[[], PreTrainedModel], message: str, tmp_path: Path
) -> None:
    base, one = base_model(build), cell("dora")
    with pytest.raises(ModelError, match=message):
        train_solo(base, encoded(base, one), one, tmp_path, SILENT)


@pytest.mark.parametrize("method", ["dora", "alpha-lora", "full"])
def test_a_batch_without_a_scored_token_is_no_divergence(method: str, tmp_path: Path) -> None:
    base, one = base_model(), cell(method)
    task = encoded(base, one)
    task.train(one.seed).labels.fill_(-100)
    with pytest.raises(InputError, match="no token of the batch is scored"):
        train_solo(base, task, one, tmp_path, SILENT)


def test_too_few_examples_for_a_share(tmp_path: Path) -> None:
    base, one = base_model(), cell("alpha-lora", n=1)
    with pytest.raises(InputError, match="at least 1 each"):
        train_solo(base, encoded(base, one), one, tmp_path, SILENT)


def test_unknown_targets(tmp_path: Path) -> None:
    base, one = base_model(), cell("dora")
    with pytest.raises(ModelError, match='Did you mean "q_proj"'):
        train_solo(base, encoded(base, one), cell("dora", target_modules=["q_prj"]), tmp_path, SILENT)


@pytest.mark.parametrize("method", ["dora", "full"])
def test_a_disk_that_refuses(method: str, tmp_path: Path) -> None:
    base, one = base_model(), cell(method)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        train_solo(base, encoded(base, one), one, tmp_path / "file", SILENT)
