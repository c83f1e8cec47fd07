"""One cell in, its adapter or model and its measurements out: for what cannot share a forward pass."""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.training import machine
from loralaw.training.batch import check_micro_batches
from loralaw.training.cell_settings import n_devices_of
from loralaw.training.classifier import Classifier
from loralaw.training.device_group import rank
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.ledger import Ledger, PackEvents
from loralaw.training.measure import measure
from loralaw.training.measure_labels import measure_labels
from loralaw.training.solo_model import SoloModel
from loralaw.training.solo_trainer import (
    LossOfStep,
    LossSum,
    class_loss_sum,
    random_state_kept,
    solo_trainer,
    token_loss_sum,
    value_loss_sum,
)
from loralaw.training.solo_watch import SoloWatch
from loralaw.training.targets import n_params_trainable
from loralaw.training.task_rows import TaskRows


def train_solo(
    base: BaseModel,
    task: TaskRows,
    cell: Cell,
    folder: Path,
    events: PackEvents,
    n_micro_batches: int = 1,
) -> dict[str, Any]:
    """Train one cell with transformers' Trainer, and measure it; `base` is left exactly as it was.

    Data and their order, loss, optimizer, schedule, clipping and the adapter's first weights are those of a pack; only
    adapter dropout draws other numbers. Full fine-tuning does not decay biases and norms, as is the Trainer's rule.

    Where the base is spread over the devices of a group of processes, each of them calls this, and trains on its share
    of every batch; the first one writes.

    The record's peak memory is that of the whole process (of all allocations on a GPU): the base's weights are part of
    it, also beside the copy that full fine-tuning trains, and so are the logits of a whole batch.

    Args:
        base: the base model.
        task: its token rows.
        cell: of any method.
        folder: the cell's; `adapter` or `model` below it is written at the end.
        events: what to call while training.
        n_micro_batches: see `train_cells`.

    Returns:
        The cell's record: finished, or diverged at the step where the loss stops being finite.

    Raises:
        ModelError: the base model is one that cannot be trained here.
        InputError: too few examples to hold some out for α, or a batch without a scored token.
        StorageError: the disk refused.

    **Source**: ours; α's protocols are those of `AlphaLoraTrainer`.

    **Departs from source**: of the α-LoRA authors' protocol a cell has α's rows, their order and its steps, not the
    rest: a training is one long epoch, the adapter's moments and warm-up are the study's, and the last step is kept.
    """
    check_micro_batches(n_micro_batches, cell.training["batch_size"] // n_devices_of(cell))
    machine.reset_peak_memory()
    with random_state_kept(base.model.device):
        n_trainable = n_params_trainable(base.model, cell.method, cell.rank)
        # First, as a base that is spread over devices has the adapter in it afterwards.
        ledger = Ledger(base, task, [cell], {cell.key: n_trainable}, "trainer", n_micro_batches)
        solo = SoloModel(base.model, cell) if isinstance(task, EncodedTask) else Classifier(base, cell)
        watch = _train(solo, task, cell, ledger, events, n_micro_batches)
        if watch.reason:
            return ledger.diverged(cell.key, watch.reason)
        started = time.perf_counter()
        measured = _measured(solo, task)
        seconds = time.perf_counter() - started
    metrics = measured["metrics"]
    loss = metrics.get("mean_squared_error" if "mean_squared_error" in metrics else "cross_entropy")
    if loss is None or not math.isfinite(loss):
        return ledger.diverged(cell.key, "the loss on the test rows is not finite; lower learning_rate")
    solo.save(folder, base.tokenizer)
    return ledger.finished(cell.key, measured, seconds, row_scale=watch.row_scale())


def _train(
    solo: SoloModel | Classifier,
    task: TaskRows,
    cell: Cell,
    ledger: Ledger,
    events: PackEvents,
    n_micro_batches: int,
) -> SoloWatch:
    """All steps, or those until the loss is not finite."""
    loss = LossOfStep(cell.key, n_micro_batches, _loss_sum(task))
    watch = SoloWatch(solo.trained, cell, loss, ledger, events)
    with tempfile.TemporaryDirectory() as nowhere:
        trainer = solo_trainer(solo.trained, task.train(cell.seed), cell, nowhere, loss, n_micro_batches)
        trainer.add_callback(watch)
        if rank():
            torch.manual_seed(cell.seed + rank())  # or all would drop the same of their different rows
        started = time.perf_counter()
        trainer.train()
        ledger.add_seconds([cell.key], time.perf_counter() - started)
    return watch


def _measured(solo: SoloModel | Classifier, task: TaskRows) -> dict[str, Any]:
    if isinstance(task, EncodedTask):
        assert isinstance(solo, SoloModel)
        return measure(solo, task)[solo.keys[0]]
    assert isinstance(solo, Classifier)
    return measure_labels(solo, task)


def _loss_sum(task: TaskRows) -> LossSum:
    if isinstance(task, EncodedTask):
        return token_loss_sum
    return class_loss_sum if task.target.classes else value_loss_sum
