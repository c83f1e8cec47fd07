"""A pack of cells in, their adapters and measurements out."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.store import ADAPTER
from loralaw.training import machine
from loralaw.training.cell import PackCell
from loralaw.training.cell_settings import learning_rate_of, n_steps_of, peft_config_of, warmup_steps_of
from loralaw.training.encoded_task import EncodedTask, batches
from loralaw.training.ledger import LOG_EVERY, Ledger, PackEvents
from loralaw.training.measure import measure
from loralaw.training.pack import Pack


def train_pack(
    base: BaseModel, task: EncodedTask, cells: Sequence[Cell], folder_of: Callable[[str], Path], events: PackEvents
) -> Iterator[dict[str, Any]]:
    """Train cells of one base model and one number of steps together, and measure each.

    Args:
        base: the frozen base.
        task: its token rows.
        cells: one or more, of methods that `is_packed`.
        folder_of: the folder of a key; `adapter` below it is written before the record is given out.
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
        ledger = Ledger(base, task, cells, {key: pack.n_params_trainable(key) for key in pack.keys})
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
            pack.save_adapter(key, folder_of(key) / ADAPTER)
            yield ledger.finished(key, measured[key], seconds)


def _train(
    pack: Pack, task: EncodedTask, cells: Sequence[Cell], ledger: Ledger, events: PackEvents
) -> Iterator[dict[str, Any]]:
    """All steps; gives out the records of cells that diverge, which leave the pack without disturbing the others."""
    rows = {c.key: batches(task.train(c.seed), c.n_train_examples, c.training["batch_size"], c.seed) for c in cells}
    for step in range(1, n_steps_of(cells[0]) + 1):
        started = time.perf_counter()
        losses = pack.step({key: next(rows[key]) for key in pack.keys})
        ledger.add_losses(losses)
        ledger.add_seconds(losses, time.perf_counter() - started)
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


def _pack_cell(cell: Cell) -> PackCell:
    training = cell.training
    return PackCell(
        key=cell.key,
        peft_config=peft_config_of(cell),
        seed=cell.seed,
        learning_rate=learning_rate_of(cell),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        n_steps=n_steps_of(cell),
        warmup_steps=warmup_steps_of(cell),
        schedule=training["schedule"],
        batch_size=training["batch_size"],
    )
