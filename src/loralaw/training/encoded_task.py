"""A task as one base model sees it: token rows, made once and shared by all cells of that base."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.tasks import NOT_SCORED, EncodedRows, TaskData, encode_examples, encode_questions, sample
from loralaw.training.cell_settings import estimators_of


class TokenRows(Protocol):
    """What is noted of a task's token rows, whatever is learned from them."""

    @property
    def n_rows_measured(self) -> int:
        """Rows that go through the model to measure a cell."""

    def counts(self, cell: Cell) -> dict[str, int]:
        """How much a cell reads and is measured on, and how much of that was too long."""


class EncodedTask:
    """Held-out rows that are the same for every cell, and training rows by seed.

    Args:
        data: the task.
        base: gives the tokenizer.
        cell: any cell of the study; its lengths and evaluation settings are those of all.
        n_train_max: the largest training set that will be asked for.
    """

    def __init__(self, data: TaskData, base: BaseModel, cell: Cell, n_train_max: int) -> None:
        self._data, self._tokenizer, self._n_train_max = data, base.tokenizer, n_train_max
        self._train: dict[int, EncodedRows] = {}
        self.max_length = int(cell.training["max_length"])
        self.estimators, settings = estimators_of(cell), cell.evaluation
        self.test = self._encode(sample(data.test, settings["test_examples"]))
        self.probe = self._encode(sample(data.validation, settings["probe_examples"]))
        questions = sample(data.choices, settings["choice_questions"])
        self.choices = encode_questions(questions, base.tokenizer, self.max_length, data.is_chat)
        self.other_questions = {
            name: encode_questions(
                sample(others, settings["choice_questions"]), base.tokenizer, self.max_length, data.is_chat
            )
            for name, others in data.other_questions.items()
        }
        self.majority_accuracy = data.majority_accuracy(settings["choice_questions"])

    def train(self, seed: int) -> EncodedRows:
        """The largest training set of a seed; a cell's own set is its first `n_train_examples` rows."""
        if seed not in self._train:
            self._train[seed] = self._encode(self._data.train_subset(self._n_train_max, seed))
        return self._train[seed]

    @property
    def n_rows_measured(self) -> int:
        """Rows that go through the model to measure a cell."""
        of_options = sum(len(asked.rows.ids) for asked in (self.choices, *self.other_questions.values()))
        return len(self.test.ids) + len(self.probe.ids) + of_options

    def counts(self, cell: Cell) -> dict[str, int]:
        """How much a cell reads and is measured on, and how much of that was too long."""
        train = self.train(cell.seed)
        return {
            "n_train_tokens": int(train.n_tokens[: cell.n_train_examples].sum()),
            "n_train_examples_cut": int(train.is_cut[: cell.n_train_examples].sum()),
            "n_test_rows": len(self.test.ids),
            "n_test_rows_cut": int(self.test.is_cut.sum()),
            "n_questions": len(self.choices),
            "n_questions_cut": sum(asked.n_cut for asked in (self.choices, *self.other_questions.values())),
            "n_test_tokens_scored": int((self.test.labels[:, 1:] != NOT_SCORED).sum()),
        }

    def _encode(self, examples: Sequence[Any]) -> EncodedRows:
        return encode_examples(examples, self._tokenizer, self.max_length, self._data.is_chat)


def batches(rows: EncodedRows, n_examples: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (ids, labels) without end: one pass after another over the examples, each in an order of its own.

    Every batch is full: where a pass ends inside a batch, the next one begins there.
    """
    return (rows.rows(batch) for batch in batch_rows(n_examples, batch_size, seed))


def batch_rows(n_examples: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Which rows are in each of the `batches`."""
    rng, queue = random.Random(seed), list[int]()
    while True:
        while len(queue) < batch_size:
            queue += rng.sample(range(n_examples), n_examples)
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch
