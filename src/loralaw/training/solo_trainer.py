"""transformers' Trainer set up to train a cell as a pack does: same data and order, loss, optimizer and schedule."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from loralaw.spec import Cell
from loralaw.tasks import NOT_SCORED, EncodedRows, LabelledRows
from loralaw.training.batch import raise_unscored
from loralaw.training.cell_settings import (
    learning_rate_of,
    n_devices_of,
    n_steps_of,
    row_scale_protocol_of,
    warmup_steps_of,
)
from loralaw.training.device_group import sum_over_group
from loralaw.training.encoded_task import batch_rows
from loralaw.tuners.alpha_lora_trainer import AlphaLoraTrainer

LossSum = Callable[[Tensor, Tensor], Tensor]


class TrainingRows(Dataset[dict[str, Tensor]]):
    """The first rows of a seed's training rows: those that a cell may learn from."""

    def __init__(self, rows: EncodedRows, n_examples: int) -> None:
        self._rows, self._n_examples = rows, n_examples

    def __len__(self) -> int:
        return self._n_examples

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self._rows.ids[row], "labels": self._rows.labels[row]}


class LabelledTrainingRows(Dataset[dict[str, Tensor]]):
    """The same of labelled rows; `collate` makes a batch as long as its longest row."""

    def __init__(self, rows: LabelledRows, n_examples: int) -> None:
        self._rows, self._n_examples = rows, n_examples

    def __len__(self) -> int:
        return self._n_examples

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {**{name: tensor[row] for name, tensor in self._rows.inputs.items()}, "labels": self._rows.labels[row]}

    @staticmethod
    def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        length = int(batch["attention_mask"].sum(1).max())
        return {name: values if name == "labels" else values[:, :length] for name, values in batch.items()}


class _PackOrder:
    """A Trainer that takes the rows of all steps in the order of a pack: one long epoch of full batches."""

    args: TrainingArguments

    def _get_train_sampler(self, train_dataset: Any = None) -> list[int]:
        of_a_device = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        batches = batch_rows(len(train_dataset), of_a_device * self.args.world_size, self.args.seed)
        return [row for batch in itertools.islice(batches, self.args.max_steps) for row in batch]


class _Trainer(_PackOrder, Trainer):  # type: ignore[misc]  # transformers has no types
    """For methods without a row scale."""


class _AlphaLoraTrainer(_PackOrder, AlphaLoraTrainer):
    """The order is that of the adapter's rows; α has a stream of its own."""


def token_loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the scored tokens, (rows, length, vocabulary) and (rows, length)."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=NOT_SCORED, reduction="sum"
    )


def class_loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of rows, (rows, classes) and (rows,)."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def value_loss_sum(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared errors of rows, (rows, 1) and (rows,)."""
    return (outputs[:, 0].float() - labels).square().sum()


class LossOfStep:
    """The mean loss of a batch over what it scores, as `Trainer(compute_loss_func=...)` calls it.

    It is called for a part of the batch at a time, and gives the part's share of the mean. It keeps the last value of a
    whole batch, that of all devices: the Trainer's own log rounds and averages.

    Args:
        key: the cell's.
        n_micro_batches: parts of a batch.
        loss_sum: of logits and labels, summed over the tokens or rows that are scored.

    Raises:
        InputError: when called for a batch without a scored token.
    """

    def __init__(self, key: str, n_micro_batches: int, loss_sum: LossSum = token_loss_sum) -> None:
        self.last = torch.tensor(float("nan"))
        self._key, self._n_micro_batches, self._parts = key, n_micro_batches, list[Tensor]()
        self._loss_sum = loss_sum

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        """`num_items_in_batch` are the scored tokens or rows of the whole batch, as the Trainer counts them."""
        if not num_items_in_batch:
            raise_unscored(self._key)
        loss = self._loss_sum(outputs["logits"], labels) / num_items_in_batch
        self._parts.append(loss.detach().clone())  # the Trainer multiplies what it is given in place
        if len(self._parts) == self._n_micro_batches:
            self.last, self._parts = sum_over_group(torch.stack(self._parts).sum()), []
        return loss


def solo_trainer(
    model: Any, rows: EncodedRows | LabelledRows, cell: Cell, folder: str, loss: LossOfStep, n_micro_batches: int
) -> Trainer:
    """The Trainer of a cell: nothing is saved, reported or shown.

    Held out or not, the rows of α are out of the cell's own `n_train_examples`.

    Args:
        model: what to train, on its device.
        rows: the training rows of the cell's seed.
        cell: what to train.
        folder: a place that is deleted afterwards.
        loss: is told the loss of every step.
        n_micro_batches: parts of a batch.
    """
    protocol = row_scale_protocol_of(cell)
    of_row_scale: dict[str, Any] = {}
    if protocol is not None:
        of_row_scale = {
            "row_scale_protocol": protocol.name,
            "row_scale_learning_rate": protocol.learning_rate,
            "row_scale_every": protocol.every,
            "row_scale_share": protocol.share,
        }
    trainer = (_AlphaLoraTrainer if protocol else _Trainer)(
        model,
        _arguments(cell, model.device, folder, n_micro_batches),
        **_training_rows(rows, cell.n_train_examples),
        compute_loss_func=loss,
        **of_row_scale,
    )
    trainer.remove_callback(PrinterCallback)  # without bars the Trainer prints its last log
    return trainer


def _training_rows(rows: EncodedRows | LabelledRows, n_examples: int) -> dict[str, Any]:
    """What the Trainer calls the rows, and how they become a batch."""
    if isinstance(rows, EncodedRows):
        return {"train_dataset": TrainingRows(rows, n_examples)}
    labelled = LabelledTrainingRows(rows, n_examples)
    return {"train_dataset": labelled, "data_collator": labelled.collate}


def _arguments(cell: Cell, device: torch.device, folder: str, n_micro_batches: int) -> TrainingArguments:
    """A cell's settings in the Trainer's words."""
    training = cell.training
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=n_steps_of(cell),
        per_device_train_batch_size=training["batch_size"] // (n_devices_of(cell) * n_micro_batches),
        gradient_accumulation_steps=n_micro_batches,
        learning_rate=learning_rate_of(cell),
        lr_scheduler_type=training["schedule"],
        warmup_steps=warmup_steps_of(cell),
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        optim="adamw_torch_fused",
        seed=cell.seed,
        bf16=training["dtype"] == "bfloat16",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # or it would spread the batch over all that there are
    return arguments


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """The Trainer seeds torch, numpy and Python for the whole process; afterwards all three are as before."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
