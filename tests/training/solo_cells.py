"""Tiny base models with a task of their own, and cells of every method."""

import copy
import functools
import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_peft import llama
from transformers import AutoTokenizer, PreTrainedModel

from loralaw.models import BaseModel
from loralaw.models.source import EMBEDDED_FOLDER, ModelSource
from loralaw.spec import Cell
from loralaw.tasks import Choice, Example, TaskData
from loralaw.training import EncodedTask, PackEvents

ADAPTER = {"lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": "all-linear"}
ROW_SCALE = {
    "row_scale_protocol": "held-out",
    "row_scale_learning_rate": 5e-3,
    "row_scale_every": 1,
    "row_scale_share": 0.25,
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", **ADAPTER},
    "rslora": {"name": "rslora", **ADAPTER},
    "dora": {"name": "dora", **ADAPTER},
    "alpha-lora": {"name": "alpha-lora", **ADAPTER, **ROW_SCALE},
    "full": {"name": "full"},
}
TRAINING = {
    "steps": 12,
    "epochs": None,
    "batch_size": 3,
    "max_length": 14,
    "learning_rate": 3e-3,
    "schedule": "linear",
    "warmup_steps": 2,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "dtype": "float32",
    "engine": "auto",
    "devices_per_cell": 1,
}
# The Trainer collects garbage before every training; without what was imported that takes no time.
gc.freeze()
SILENT = PackEvents(step=lambda n: None, log=lambda key, event: None)


class Heard:
    """Keeps what the events say."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.n_steps, self.lines, self._fail_at = 0, list[dict[str, Any]](), fail_at
        self.events = PackEvents(step=self._step, log=lambda key, line: self.lines.append({"key": key, **line}))

    def _step(self, n_cells: int) -> None:
        self.n_steps += n_cells
        if self.n_steps == self._fail_at:
            raise RuntimeError("in the middle")


def base_model(build: Callable[[], PreTrainedModel] = llama) -> BaseModel:
    """With the micro family's tokenizer; its numbers are folded into the model's vocabulary by `encoded`."""
    model = build().requires_grad_(False).eval()
    n_params = sum(parameter.numel() for parameter in model.parameters())
    return BaseModel(ModelSource("tiny", "nowhere", "0" * 32), model, _tokenizer(), n_params)


@functools.cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")


def cell(method: str, rank: int | None = 4, seed: int = 1, n: int = 16, **changes: Any) -> Cell:
    """A cell; changes are of its method where the method has the setting, else of its training."""
    changed = {**METHODS[method], **{k: v for k, v in changes.items() if k in METHODS[method]}}
    if changed.get("row_scale_protocol") == "joint":
        changed |= {"row_scale_every": 10, "row_scale_share": 0.1}  # the defaults, which mean nothing there
    training = {**TRAINING, **{k: v for k, v in changes.items() if k not in METHODS[method]}}
    return Cell(
        base_model="tiny",
        base_model_hash="0" * 32,
        method=changed,
        rank=None if method == "full" else rank,
        n_train_examples=n,
        seed=seed,
        task={"name": "rows"},
        data_hash="0" * 32,
        training=training,
        evaluation={"test_examples": 9, "probe_examples": 6, "choice_questions": 4, "other_estimators": []},
    )


def encoded(base: BaseModel, one: Cell) -> EncodedTask:
    """Counting rows, ragged lengths, several rows a document, and questions."""
    draw = random.Random(0)

    def examples(split: str, n: int) -> list[Example]:
        starts = [draw.randrange(40) for _ in range(n)]
        texts = [" ".join(str(start + step) for step in range(draw.randrange(3, 6))) for start in starts]
        return [Example("", text, f"{split} {i // 2}") for i, text in enumerate(texts)]

    choices = [Choice("1 2 3", (f" {i}", " 9"), i % 2, f"question {i}") for i in range(4)]
    data = TaskData("rows", examples("train", 24), examples("validation", 6), examples("test", 9), choices)
    task = EncodedTask(data, base, one, 24)
    n_known = base.model.get_input_embeddings().num_embeddings
    for rows in (task.test, task.probe, task.choices.rows, *(task.train(seed) for seed in (0, 1, 2))):
        rows.ids.remainder_(n_known)
        rows.labels.copy_(torch.where(rows.labels < 0, rows.labels, rows.labels % n_known))
    return task


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything about a model that training could change."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "places": {name: parameter.data_ptr() for name, parameter in model.named_parameters()},
        "identities": {name: id(parameter) for name, parameter in model.named_parameters()},
        "learns": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": [name for name, parameter in model.named_parameters() if parameter.grad is not None],
        "modules": {name: (id(module), type(module), module.training) for name, module in model.named_modules()},
        "hooks": {name: (len(m._forward_pre_hooks), len(m._forward_hooks)) for name, m in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
    }


def assert_untouched(model: PreTrainedModel, before: dict[str, Any]) -> None:
    now = state(model)
    weights, expected = now.pop("weights"), {**before}.pop("weights")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    for what, value in now.items():
        assert value == before[what], what


def cell_folder(folder: Path) -> Callable[[str], Path]:
    return lambda key: folder / key


def results(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what may differ from run to run."""
    return {name: value for name, value in record.items() if name not in ("cost", "provenance")}
