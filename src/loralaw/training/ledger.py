"""Losses, seconds and counts of cells in training, from which their records are made."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.tasks import NOT_SCORED
from loralaw.training import machine
from loralaw.training.cell_settings import TrainingPath, n_steps_of, row_scale_counts_of
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.flops import ModelShapes, TrainingShape, evaluate_flops, n_tokens_processed, train_flops
from loralaw.training.record import cell_record

LOG_EVERY = 10
"""Steps between two lines of a cell's log; `train_loss` is the mean over as many steps."""


@dataclass(frozen=True)
class PackEvents:
    """What the caller hears of while cells train."""

    step: Callable[[int], None]
    """After every step, with the number of cells that took it."""
    log: Callable[[str, dict[str, Any]], None]
    """A cell's key, and one line of its log."""


class Ledger:
    """What is noted of cells that train together, or of one that trains alone.

    Args:
        base: the frozen base.
        task: its token rows.
        cells: those that train together.
        n_params_trainable: of each cell, by key.
        path: how they are trained.
        n_micro_batches: parts that a batch goes through in.
    """

    def __init__(
        self,
        base: BaseModel,
        task: EncodedTask,
        cells: Sequence[Cell],
        n_params_trainable: Mapping[str, int],
        path: TrainingPath,
        n_micro_batches: int,
    ) -> None:
        self._path, self._n_micro_batches = path, n_micro_batches
        self._cells = {cell.key: cell for cell in cells}
        self._losses = {cell.key: deque[float](maxlen=LOG_EVERY) for cell in cells}
        self._seconds = dict.fromkeys(self._cells, 0.0)
        self._n_steps_taken = dict.fromkeys(self._cells, 0)
        self._shapes = ModelShapes.of(base.model)
        self._n_rows_measured = len(task.test.ids) + len(task.probe.ids) + len(task.choices.rows.ids)
        self._counts = {
            cell.key: {
                "n_params_total": base.n_params_total,
                "n_params_trainable": n_params_trainable[cell.key],
                "n_train_tokens": int(task.train(cell.seed).n_tokens[: cell.n_train_examples].sum()),
                "n_train_examples_cut": int(task.train(cell.seed).is_cut[: cell.n_train_examples].sum()),
                "n_steps": n_steps_of(cell),
                "n_test_tokens_scored": int((task.test.labels[:, 1:] != NOT_SCORED).sum()),
                **row_scale_counts_of(cell),
            }
            for cell in cells
        }

    def add_losses(self, losses: Mapping[str, float]) -> None:
        """A step of some cells, each with its loss before it."""
        for key, loss in losses.items():
            self._losses[key].append(loss)
            self._n_steps_taken[key] += 1

    def add_seconds(self, keys: Collection[str], seconds: float) -> None:
        """Training time, shared equally by the cells that used it."""
        for key in keys:
            self._seconds[key] += seconds / len(keys)

    def train_loss(self, key: str) -> float:
        """Mean over the last steps, in nats a token."""
        return sum(self._losses[key]) / len(self._losses[key])

    def diverged(self, key: str, reason: str) -> dict[str, Any]:
        """The record of a cell that came to no result."""
        return self._record(key, "diverged", reason=reason, cost=self._cost(key, None))

    def finished(
        self,
        key: str,
        measured: dict[str, Any],
        evaluate_seconds: float,
        row_scale: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The record of a cell that `measure` has measured."""
        metrics = {**measured["metrics"], "train_loss": self.train_loss(key)}
        cost = self._cost(key, evaluate_seconds)
        return self._record(key, "finished", **{**measured, "metrics": metrics}, cost=cost, row_scale=row_scale)

    def _cost(self, key: str, evaluate_seconds: float | None) -> dict[str, float | str | None]:
        """What the cell took, up to where it came: a diverged one did not take all of its steps."""
        cell, n_trainable = self._cells[key], self._counts[key]["n_params_trainable"]
        batch_size, length = cell.training["batch_size"], cell.training["max_length"]
        training = TrainingShape(self._n_steps_taken[key], batch_size, length)
        of_evaluation = evaluate_flops(self._shapes, cell.method, n_trainable, self._n_rows_measured, length)
        return {
            "train_seconds": self._seconds[key],
            "train_flops": train_flops(self._shapes, cell.method, n_trainable, training),
            "n_tokens_processed": n_tokens_processed(cell.method, training),
            "evaluate_seconds": evaluate_seconds,
            "evaluate_flops": None if evaluate_seconds is None else of_evaluation,
            "peak_memory_bytes": machine.peak_memory_bytes(),
        }

    def _record(self, key: str, status: str, **parts: Any) -> dict[str, Any]:
        return cell_record(
            self._cells[key],
            status,
            pack=list(self._cells),
            path=self._path,
            n_micro_batches=self._n_micro_batches,
            counts=self._counts[key],
            **parts,
        )
