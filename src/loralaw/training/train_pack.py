"""A pack of cells in, their adapters and measurements out."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from loralaw.models import BaseModel
from loralaw.spec import Cell, TrainingSpec
from loralaw.tasks import NOT_SCORED
from loralaw.training import machine
from loralaw.training.cell import PackCell
from loralaw.training.encoded_task import EncodedTask, batches
from loralaw.training.measure import measure
from loralaw.training.pack import Pack
from loralaw.training.record import cell_record

LOG_EVERY = 10
"""Steps between two lines of a cell's log; `train_loss` is the mean over as many steps."""


@dataclass(frozen=True)
class PackEvents:
    """What the caller hears of while a pack trains."""

    step: Callable[[int], None]
    """After every step, with the number of cells that took it."""
    log: Callable[[str, dict[str, Any]], None]
    """A cell's key, and one line of its log."""


def train_pack(
    base: BaseModel, task: EncodedTask, cells: Sequence[Cell], adapter_folder: Callable[[str], Path], events: PackEvents
) -> Iterator[dict[str, Any]]:
    """Train cells of one base model and one number of steps together, and measure each.

    Args:
        base: the frozen base.
        task: its token rows.
        cells: one or more.
        adapter_folder: where the adapter of a key goes; it is written before the record is given out.
        events: what to call while training.

    Yields:
        The record of each cell: diverged ones when their loss stops being finite, the others at the end.

    Raises:
        ModelError: the base model is one that this core cannot train.

    **Source**: ours.
    """
    machine.reset_peak_memory()
    dtype = torch.bfloat16 if cells[0].training["dtype"] == "bfloat16" else torch.float32
    with Pack(base.model, [_pack_cell(cell) for cell in cells], dtype=dtype, pad_to=task.max_length) as pack:
        ledger = _Ledger(base, task, cells, pack)
        yield from _train(pack, task, cells, ledger, events)
        if not pack.keys:
            return
        started = time.perf_counter()
        measured = measure(pack, task)
        seconds = (time.perf_counter() - started) / len(pack.keys)
        for key in pack.keys:
            if not math.isfinite(measured[key]["metrics"]["cross_entropy"]):
                yield ledger.diverged(key, "the loss on the test rows is not finite; lower learning_rate")
                continue
            pack.save_adapter(key, adapter_folder(key))
            yield ledger.finished(key, measured[key], seconds)


def n_steps_of(cell: Cell) -> int:
    """Optimizer steps of a cell."""
    return TrainingSpec.model_validate(cell.training).n_steps(cell.n_train_examples)


def _train(
    pack: Pack, task: EncodedTask, cells: Sequence[Cell], ledger: "_Ledger", events: PackEvents
) -> Iterator[dict[str, Any]]:
    """All steps; gives out the records of cells that diverge, which leave the pack without disturbing the others."""
    rows = {c.key: batches(task.train(c.seed), c.n_train_examples, c.training["batch_size"], c.seed) for c in cells}
    for step in range(1, n_steps_of(cells[0]) + 1):
        started = time.perf_counter()
        losses = pack.step({key: next(rows[key]) for key in pack.keys})
        ledger.add(losses, time.perf_counter() - started)
        events.step(len(losses))
        diverged = [key for key, loss in losses.items() if not math.isfinite(loss)]
        if diverged:
            pack.keep([key for key in losses if key not in diverged])
            for key in diverged:
                yield ledger.diverged(key, f"the training loss was {losses[key]} at step {step}; lower learning_rate")
        if step % LOG_EVERY == 0:
            for key in pack.keys:
                events.log(key, {"step": step, "train_loss": ledger.train_loss(key)})
        if not pack.keys:
            return


class _Ledger:
    """Losses, seconds and counts of the cells of a pack, from which their records are made."""

    def __init__(self, base: BaseModel, task: EncodedTask, cells: Sequence[Cell], pack: Pack) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._losses = {cell.key: deque[float](maxlen=LOG_EVERY) for cell in cells}
        self._seconds = dict.fromkeys(self._cells, 0.0)
        self._counts = {
            cell.key: {
                "n_params_total": base.n_params_total,
                "n_params_trainable": pack.n_params_trainable(cell.key),
                "n_train_tokens": int(task.train(cell.seed).n_tokens[: cell.n_train_examples].sum()),
                "n_train_examples_cut": int(task.train(cell.seed).is_cut[: cell.n_train_examples].sum()),
                "n_steps": n_steps_of(cell),
                "n_test_tokens_scored": int((task.test.labels[:, 1:] != NOT_SCORED).sum()),
            }
            for cell in cells
        }

    def add(self, losses: dict[str, float], seconds: float) -> None:
        """A step of the pack; its time is shared equally by the cells that took it."""
        for key, loss in losses.items():
            self._losses[key].append(loss)
            self._seconds[key] += seconds / len(losses)

    def train_loss(self, key: str) -> float:
        """Mean over the last steps, in nats a token."""
        return sum(self._losses[key]) / len(self._losses[key])

    def diverged(self, key: str, reason: str) -> dict[str, Any]:
        return self._record(key, "diverged", reason=reason, cost=self._cost(key, None))

    def finished(self, key: str, measured: dict[str, Any], evaluate_seconds: float) -> dict[str, Any]:
        metrics = {**measured["metrics"], "train_loss": self.train_loss(key)}
        return self._record(key, "finished", **{**measured, "metrics": metrics}, cost=self._cost(key, evaluate_seconds))

    def _cost(self, key: str, evaluate_seconds: float | None) -> dict[str, float | None]:
        return {
            "train_seconds": self._seconds[key],
            "evaluate_seconds": evaluate_seconds,
            "peak_memory_bytes": machine.peak_memory_bytes(),
        }

    def _record(self, key: str, status: str, **parts: Any) -> dict[str, Any]:
        return cell_record(self._cells[key], status, pack=list(self._cells), counts=self._counts[key], **parts)


def _pack_cell(cell: Cell) -> PackCell:
    method, training, n_steps = cell.method, cell.training, n_steps_of(cell)
    return PackCell(
        key=cell.key,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=cell.rank,
            lora_alpha=method["lora_alpha"],
            lora_dropout=method["lora_dropout"],
            target_modules=method["target_modules"],
            use_rslora=method["name"] == "rslora",
        ),
        seed=cell.seed,
        learning_rate=training["learning_rate"],
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        n_steps=n_steps,
        warmup_steps=min(training["warmup_steps"], n_steps),
        schedule=training["schedule"],
        batch_size=training["batch_size"],
    )
