"""A pack of cells in, their adapters and measurements out."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.store import ADAPTER
from loralaw.training import machine
from loralaw.training.cell import PackCell
from loralaw.training.cell_batches import CellBatches
from loralaw.training.cell_settings import (
    dtype_of,
    has_row_scale,
    learning_rate_of,
    learning_rates_of,
    n_steps_of,
    peft_config_of,
    row_scale_protocol_of,
    warmup_steps_of,
)
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.ledger import LOG_EVERY, Ledger, PackEvents
from loralaw.training.measure import measure
from loralaw.training.pack import Pack
from loralaw.training.row_scale_watch import RowScaleWatch


def train_pack(
    base: BaseModel,
    task: EncodedTask,
    cells: Sequence[Cell],
    folder_of: Callable[[str], Path],
    events: PackEvents,
    n_micro_batches: int = 1,
) -> Iterator[dict[str, Any]]:
    """Train cells of one base model together, each for its own number of steps, and measure each.

    A cell that has done its steps is measured and leaves; the others go on undisturbed, bit for bit.

    Args:
        base: the frozen base.
        task: its token rows.
        cells: one or more, whose `path_of` is "packed".
        folder_of: the folder of a key; `adapter` below it is written before the record is given out.
        events: what to call while training.
        n_micro_batches: see `train_cells`.

    Yields:
        The record of each cell: after its last step, or when its loss stops being finite.

    Raises:
        ModelError: the base model is one that this core cannot train.

    **Source**: ours.
    """
    machine.reset_peak_memory()
    machine.prepare_memory()
    with Pack(
        base.model,
        [_pack_cell(cell, base.model) for cell in cells],
        dtype=dtype_of(cells[0]),
        pad_to=task.max_length,
        n_micro_batches=n_micro_batches,
    ) as pack:
        n_params = {key: pack.n_params_trainable(key) for key in pack.keys}
        ledger = Ledger(base, task, cells, n_params, "packed", n_micro_batches)
        yield from _Training(pack, task, cells, ledger, folder_of, events).records()


class _Training:
    """The steps of a pack, until its last cell has left."""

    def __init__(
        self,
        pack: Pack,
        task: EncodedTask,
        cells: Sequence[Cell],
        ledger: Ledger,
        folder_of: Callable[[str], Path],
        events: PackEvents,
    ) -> None:
        self._pack, self._task, self._ledger, self._folder_of, self._events = pack, task, ledger, folder_of, events
        self._n_steps = {cell.key: n_steps_of(cell) for cell in cells}
        self._batches = {cell.key: CellBatches(task.train(cell.seed), cell) for cell in cells}
        self._rates = {cell.key: learning_rates_of(cell) for cell in cells}
        self._row_scales = {
            cell.key: RowScaleWatch(n_steps_of(cell), partial(pack.row_scales, cell.key))
            for cell in cells
            if has_row_scale(cell)
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """Train; the record of a cell is given out when it leaves."""
        self._note_row_scales(0)
        for step in itertools.count(1):
            losses = self._step()
            yield from self._drop_diverged(losses, step)
            self._row_scale_step(step)
            self._note_row_scales(step)
            if step % LOG_EVERY == 0:
                self._log(step)
            yield from self._let_go([key for key in self._pack.keys if self._n_steps[key] == step])
            if not self._pack.keys:
                return

    def _step(self) -> dict[str, float]:
        """The loss of every cell that is still there, before its step."""
        started = time.perf_counter()
        losses = self._pack.step({key: self._batches[key].next() for key in self._pack.keys})
        self._ledger.add_losses(losses)
        self._ledger.add_seconds(losses, time.perf_counter() - started)
        self._events.step(len(losses))
        return losses

    def _row_scale_step(self, step: int) -> None:
        """A step of α in the cells where it is time, after this step of their adapters."""
        started = time.perf_counter()
        turns = {key: self._batches[key].of_row_scale(step) for key in self._pack.keys}
        if batches := {key: batch for key, batch in turns.items() if batch is not None}:
            self._pack.row_scale_step(batches)
            self._ledger.add_seconds(batches, time.perf_counter() - started)

    def _note_row_scales(self, step: int) -> None:
        for key in self._pack.keys:
            if key in self._row_scales:
                self._row_scales[key].note(step)

    def _log(self, step: int) -> None:
        for key in self._pack.keys:
            of_row_scale = self._row_scales[key].log_line() if key in self._row_scales else {}
            line = {"step": step, "train_loss": self._ledger.train_loss(key), **of_row_scale}
            self._events.log(key, line)

    def _drop_diverged(self, losses: dict[str, float], step: int) -> Iterator[dict[str, Any]]:
        """Cells whose loss is not finite leave."""
        diverged = [key for key, loss in losses.items() if not math.isfinite(loss)]
        self._leave(diverged)
        for key in diverged:
            reason = f"the training loss was {losses[key]} at step {step}; lower {self._rates[key]}"
            yield self._ledger.diverged(key, reason)

    def _let_go(self, done: list[str]) -> Iterator[dict[str, Any]]:
        """Cells that have done their steps are measured and saved, and leave."""
        if not done:
            return
        started = time.perf_counter()
        with self._pack.only(done):
            measured = measure(self._pack, self._task)
        seconds = (time.perf_counter() - started) / len(done)
        for key in done:
            if math.isfinite(measured[key]["metrics"]["cross_entropy"]):
                self._pack.save_adapter(key, self._folder_of(key) / ADAPTER)
                row_scale = self._row_scales[key].record() if key in self._row_scales else None
                yield self._ledger.finished(key, measured[key], seconds, row_scale)
            else:
                yield self._ledger.diverged(key, "the loss on the test rows is not finite; lower learning_rate")
        self._leave(done)

    def _leave(self, keys: list[str]) -> None:
        if keys:
            self._pack.keep([key for key in self._pack.keys if key not in keys])


def _pack_cell(cell: Cell, model: PreTrainedModel) -> PackCell:
    training = cell.training
    return PackCell(
        key=cell.key,
        peft_config=peft_config_of(cell, model),
        seed=cell.seed,
        learning_rate=learning_rate_of(cell),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        n_steps=n_steps_of(cell),
        warmup_steps=warmup_steps_of(cell),
        schedule=training["schedule"],
        batch_size=training["batch_size"],
        row_scale=row_scale_protocol_of(cell),
    )
