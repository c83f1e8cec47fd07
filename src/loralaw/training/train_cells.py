"""Cells of one base model in, their records out, whatever their methods."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.training.cell_settings import path_of
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.ledger import PackEvents
from loralaw.training.task_rows import TaskRows
from loralaw.training.train_pack import train_pack


def train_cells(
    base: BaseModel,
    task: TaskRows,
    cells: Sequence[Cell],
    folder_of: Callable[[str], Path],
    events: PackEvents,
    n_micro_batches: int = 1,
) -> Iterator[dict[str, Any]]:
    """Train cells of one base model, and measure each.

    Those whose `path_of` is "packed" train together, the others one after the other.

    Args:
        base: the base model; it is left as it was.
        task: its token rows.
        cells: one or more.
        folder_of: the folder of a key. Below it `adapter` is written (PEFT's format) or, for full fine-tuning, `model`
            (transformers' format, with the tokenizer), before the record is given out.
        events: what to call while training.
        n_micro_batches: every cell's batch goes through in so many equal parts (`micro_batch_counts` of the batch size
            has the values that can be), for where even a cell alone needs too much memory. Steps and losses are those
            of the whole batch, up to rounding.

    Yields:
        The record of each cell, as soon as it is there.

    Raises:
        InputError: the batch cannot be cut into so many parts.
        ModelError: the base model is one that cannot be trained here.
        StorageError: the disk refused; cells whose records were given out are safe.
    """
    paths = {cell.key: path_of(cell, base.model.config) for cell in cells}
    if packed := [cell for cell in cells if paths[cell.key] == "packed"]:
        assert isinstance(task, EncodedTask)  # a pack knows no heads
        yield from train_pack(base, task, packed, folder_of, events, n_micro_batches)
    if alone := [cell for cell in cells if paths[cell.key] == "trainer"]:
        from loralaw.training.train_solo import train_solo  # the Trainer, which packs do not want, takes long to import

        for cell in alone:
            yield train_solo(base, task, cell, folder_of(cell.key), events, n_micro_batches)
