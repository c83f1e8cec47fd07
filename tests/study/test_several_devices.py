"""A cell on several devices: here two processes of this machine's processor, which speak through gloo."""

import os
import signal
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

import loralaw
from loralaw.errors import InputError, SpecError
from loralaw.models import find_model, load_base_model
from loralaw.spec import StudySpec, parse_study
from loralaw.store import Study
from loralaw.study import check, plan_cells
from loralaw.study.cell_needs import Needs
from loralaw.study.device_processes import _raise_failure, train_on_devices
from loralaw.study.failure import Failure, PackFailed
from loralaw.study.plan import check_hardware, plan_jobs
from loralaw.study.worker_process import DeathWatch
from loralaw.training import machine

TRAINING = {"steps": 12, "batch_size": 4, "max_length": 16, "dtype": "float32"}


@pytest.fixture(scope="module")
def untied_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with a head of its own, as large models have it."""
    folder = tmp_path_factory.mktemp("models") / "untied"
    config = AutoConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings, config.num_hidden_layers = False, 2
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def study(model: Path, rows: Path, **training: Any) -> StudySpec:
    settings = {
        "base_models": [str(model)],
        "task": str(rows),
        "methods": ["lora", {"name": "full", "learning_rate": 1e-3}],
        "ranks": [4],
        "sizes": [16],
        "seeds": [0],
        "training": {**TRAINING, **training},
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study(settings, "the study")


@pytest.fixture(scope="module")
def on_one(untied_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return loralaw.run(study(untied_model, rows, engine="trainer"), tmp_path_factory.mktemp("one"), executor="inline")


@pytest.fixture(scope="module")
def on_two(untied_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """In a worker process, which begins the two."""
    folder = tmp_path_factory.mktemp("two")
    return loralaw.run(study(untied_model, rows, devices_per_cell=2), folder, executor="local", jobs=1)


def row(done: Study, method: str) -> dict[str, Any]:
    (found,) = [row for row in done.table().to_dicts() if row["method"].startswith(method)]
    return found


METRICS = ("cross_entropy", "train_loss", "miub_nats", "norm_ratio", "effective_rank")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_measures_what_one_device_measures(on_one: Study, on_two: Study, method: str) -> None:
    one, two = row(on_one, method), row(on_two, method)
    assert two["status"] == "finished"
    assert two["path"] == "trainer"
    compared = [name for name in METRICS if one.get(name) is not None]
    assert len(compared) == (len(METRICS) if method == "lora" else 2)
    for name in compared:
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    for name in ("n_params_total", "n_params_trainable", "n_train_tokens", "n_steps", "train_flops"):
        assert two[name] == one[name], name


def test_every_step_has_the_loss_of_the_whole_batch(on_one: Study, on_two: Study) -> None:
    one, two = (done.cell(row(done, "lora")["key"]).events() for done in (on_one, on_two))
    assert [line["step"] for line in two] == [line["step"] for line in one]
    assert [line["train_loss"] for line in two] == pytest.approx([line["train_loss"] for line in one], rel=1e-5)


def test_the_adapter_is_an_ordinary_one(on_one: Study, on_two: Study) -> None:
    one, two = (
        load_file(done.cell(row(done, "lora")["key"]).path / "adapter" / "adapter_model.safetensors")
        for done in (on_one, on_two)
    )
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_the_model_of_full_is_whole_and_loads_anywhere(on_one: Study, on_two: Study) -> None:
    one, two = (
        AutoModelForCausalLM.from_pretrained(done.cell(row(done, "full")["key"]).path / "model").state_dict()
        for done in (on_one, on_two)
    )
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


@dataclass
class Shares:
    """Numbers of the base that each process holds."""

    model: Path

    def __call__(self) -> dict[str, Any]:
        base = load_base_model(find_model(str(self.model)), "cpu", 2)
        local = sum(parameter.to_local().numel() for parameter in base.model.parameters())  # type: ignore[attr-defined]
        return {"local": local, "all": base.n_params_total}


def test_each_process_holds_half_of_the_weights(tiny_model: Path) -> None:
    shares = train_on_devices(Shares(tiny_model), 2, lambda: None)
    assert shares["local"] / shares["all"] == pytest.approx(0.5, abs=0.01)


def _die() -> dict[str, Any]:
    if torch.distributed.get_rank() == 0:
        torch.distributed.barrier()  # waits for one that never comes
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_one_that_dies_ends_all() -> None:
    with pytest.raises(PackFailed) as raised:
        train_on_devices(_die, 2, lambda: None)
    assert raised.value.failure.kind == "killed"
    assert "SIGKILL" in raised.value.failure.reason
    assert not [child for child in psutil.Process().children() if "loky.backend.popen" in " ".join(child.cmdline())]


def test_what_one_of_them_raises_is_the_failure_of_the_cell() -> None:
    ended: Future[Any] = Future()
    ended.set_result(Failure.of(MemoryError("no room")))
    with pytest.raises(PackFailed) as raised:
        _raise_failure(ended, DeathWatch())
    assert raised.value.failure.kind == "out-of-memory"


def problems(spec: StudySpec) -> str:
    with pytest.raises(SpecError) as raised:
        check(spec)
    return str(raised.value)


def test_refuses_what_cannot_be_spread(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="3 devices cannot share a batch of 4 rows equally"):
        study(tiny_model, rows, devices_per_cell=3)
    for method in ("alpha-lora", "dora"):
        bound = parse_study({**_least(tiny_model, rows), "methods": [method]}, "s").methods
        spread = study(tiny_model, rows, devices_per_cell=2).model_copy(update={"methods": bound})
        assert f"training.devices_per_cell: {method} trains on one device" in problems(spread)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    gpt2 = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=32, **ids)
    GPT2LMHeadModel(gpt2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "transformers has no plan for the layers of GPT2LMHeadModel" in problems(
        study(tmp_path, rows, devices_per_cell=2)
    )


def _least(model: Path, rows: Path) -> dict[str, Any]:
    return {"base_models": [str(model)], "task": str(rows), "ranks": [4], "sizes": [16]}


class Gpus:
    """A machine with GPUs of so many bytes."""

    def __init__(self, n: int, n_bytes: int) -> None:
        self._n, self._n_bytes = n, n_bytes

    def n_gpus(self) -> int:
        return self._n

    def n_gpus_of_a_machine(self) -> int:
        return self._n

    def n_cores(self) -> int:
        return 16

    def available_bytes(self) -> int:
        return self._n * self._n_bytes


def test_is_planned_for_gpus(tiny_model: Path, rows: Path) -> None:
    checked = check(study(tiny_model, rows, devices_per_cell=2))
    cells, needs = plan_cells(checked), Needs(checked)
    plan = plan_jobs(cells, checked, needs, hardware=Gpus(5, 10**9))
    assert (plan.n_workers, plan.n_devices) == (2, 2)
    assert [len(job.cells) for job in plan.jobs] == [1, 1]
    with pytest.raises(InputError, match=r"training\.devices_per_cell is 2, and the GPUs of one machine are 1"):
        check_hardware(cells, needs, Gpus(1, 10**9))
    needed = max(needs.process_bytes(cell.base_model) + needs.of(cell).least_memory_bytes for cell in cells)
    assert needed > 2 * machine.PROCESS_BYTES  # each of the two has its libraries, and a part of the same weights
    check_hardware(cells, needs, Gpus(8, needed // 2 + 1))
    with pytest.raises(InputError, match="more GPUs for a cell"):
        check_hardware(cells, needs, Gpus(8, needed // 2 - 1))


def test_one_device_is_not_all_of_them(tiny_model: Path, rows: Path) -> None:
    """Eight GPUs together would have room for the cell, but it trains on one."""
    checked = check(study(tiny_model, rows))
    cells, needs = plan_cells(checked), Needs(checked)
    needed = max(needs.process_bytes(cell.base_model) + needs.of(cell).least_memory_bytes for cell in cells)
    with pytest.raises(InputError, match="needs about"):
        check_hardware(cells, needs, Gpus(8, needed - 1))
