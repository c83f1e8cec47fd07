"""A labelled task as one base model sees it: token rows, made once and shared by all cells of that base."""

from collections.abc import Sequence
from typing import Any

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.tasks import LabelledRows, TaskData, encode_labelled, sample
from loralaw.training.cell_settings import estimators_of


class EncodedLabels:
    """Held-out rows that are the same for every cell, and training rows by seed.

    Args:
        data: the task, with a target.
        base: gives the tokenizer.
        cell: any cell of the task; its lengths and evaluation settings are those of all.
        n_train_max: the largest training set that will be asked for.
    """

    def __init__(self, data: TaskData, base: BaseModel, cell: Cell, n_train_max: int) -> None:
        assert data.target is not None
        self.target, self._data, self._tokenizer, self._n_train_max = data.target, data, base.tokenizer, n_train_max
        self._train: dict[int, LabelledRows] = {}
        self.max_length, self.estimators = int(cell.training["max_length"]), estimators_of(cell)
        self.test = self._encode(sample(data.test, cell.evaluation["test_examples"]))
        self.probe = self._encode(sample(data.validation, cell.evaluation["probe_examples"]))
        self.majority_accuracy = data.majority_accuracy(cell.evaluation["test_examples"])

    def train(self, seed: int) -> LabelledRows:
        """The largest training set of a seed; a cell's own set is its first `n_train_examples` rows."""
        if seed not in self._train:
            self._train[seed] = self._encode(self._data.train_subset(self._n_train_max, seed))
        return self._train[seed]

    @property
    def n_rows_measured(self) -> int:
        """Rows that go through the model to measure a cell."""
        return len(self.test) + len(self.probe)

    def counts(self, cell: Cell) -> dict[str, int]:
        """How much a cell reads and is measured on, and how much of that was too long."""
        train = self.train(cell.seed)
        return {
            "n_train_tokens": int(train.n_tokens[: cell.n_train_examples].sum()),
            "n_train_examples_cut": int(train.is_cut[: cell.n_train_examples].sum()),
            "n_test_rows": len(self.test),
            "n_test_rows_cut": int(self.test.is_cut.sum()),
        }

    def _encode(self, rows: Sequence[Any]) -> LabelledRows:
        return encode_labelled(rows, self._tokenizer, self.max_length, not self.target.classes)
