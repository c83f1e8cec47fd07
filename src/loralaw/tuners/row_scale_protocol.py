"""Where and when α learns: its settings, its rows, its steps."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, Subset

from loralaw.errors import InputError, did_you_mean

PROTOCOLS = ("held-out", "joint", "authors")
DEFAULT_EVERY = 10
AUTHORS_BETAS = (0.9, 0.99)
"""Of Adam for α, and for the adapter where both are trained as the authors do."""


@dataclass(frozen=True)
class RowScaleProtocol:
    """How α learns beside the adapter; the protocols are those of `AlphaLoraTrainer`.

    Args:
        name: "held-out", "joint" or "authors".
        learning_rate: of α, constant.
        every: T, the adapter's steps for one of α; None: 10, and 1 in "joint".
        share: of the training rows that α reads, in (0, 1).
        batch_size: rows of a micro-batch of α in one process; None: as many as the adapter's.

    Raises:
        InputError: a setting that cannot be.
    """

    name: str = "held-out"
    learning_rate: float = 5e-3
    every: int | None = None
    share: float = 0.1
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise InputError(
                f"row_scale_protocol={self.name!r} is not known. Accepted: {', '.join(PROTOCOLS)}."
                + did_you_mean(self.name, PROTOCOLS)
            )
        if not _is_number(self.learning_rate) or not 0 < self.learning_rate < math.inf:
            raise InputError(f"row_scale_learning_rate={self.learning_rate!r}: give a number above 0, such as 5e-3")
        if self.every is not None and not _is_count(self.every):
            raise InputError(
                f"row_scale_every={self.every!r}: give a whole number from 1, the steps of the adapter for one of α"
            )
        if not _is_number(self.share) or not 0 < self.share < 1:
            raise InputError(
                f"row_scale_share={self.share!r}: give a share of the training rows in (0, 1), such as 0.2"
            )
        if self.batch_size is not None and not _is_count(self.batch_size):
            raise InputError(f"row_scale_batch_size={self.batch_size!r}: give a whole number from 1, or None")
        if self.name == "joint" and (self.every not in (None, 1) or self.batch_size is not None):
            raise InputError(
                f"row_scale_every={self.every}, row_scale_batch_size={self.batch_size} with "
                'row_scale_protocol="joint": there α learns in every step of the adapter, from the same batch. '
                'Leave both out, or use "held-out"'
            )

    def split(self, train_dataset: Any, row_scale_dataset: Any, seed: int) -> tuple[Any, Any]:
        """(the rows of the adapter, the rows of α or None where α has none of its own).

        Raises:
            InputError: rows that cannot be counted and picked, too few rows, or rows of α in a protocol that takes
                them from the training rows.
        """
        if row_scale_dataset is not None and self.name != "held-out":
            raise InputError(
                f'row_scale_dataset is given, but row_scale_protocol="{self.name}" lets α learn from the training '
                'rows. Leave it out, or use "held-out"'
            )
        if self.name == "joint":
            return train_dataset, None
        if row_scale_dataset is not None:
            if _n_rows("row_scale_dataset", row_scale_dataset) < 1:
                raise InputError("row_scale_dataset has no rows: α needs at least 1")
            return train_dataset, row_scale_dataset
        n_rows = _n_rows("train_dataset", train_dataset)
        n_share = round(self.share * n_rows)
        if not 0 < n_share < n_rows:
            raise InputError(
                f"train_dataset has {n_rows} rows, of which row_scale_share={self.share} gives α {n_share}: α and the "
                "adapter need at least 1 each. Give more rows or another share"
            )
        order = np.random.default_rng(seed).permutation(n_rows)
        share = _pick(train_dataset, order[:n_share])
        return (train_dataset if self.name == "authors" else _pick(train_dataset, order[n_share:])), share

    def step_number(self, global_step: int, steps_per_epoch: int | None) -> int | None:
        """Which step of α, counted from 0, follows the adapter's step number `global_step`, counted from 1; or None.

        The steps of the adapter are counted through the whole training, or, where `steps_per_epoch` is given, anew in
        every epoch.
        """
        if self.name == "joint":
            return None
        every = DEFAULT_EVERY if self.every is None else self.every
        i, n_before = global_step - 1, 0
        if steps_per_epoch is not None:
            n_epochs, i = divmod(i, steps_per_epoch)
            n_before = n_epochs * math.ceil(steps_per_epoch / every)
        return None if i % every else n_before + i // every


def _n_rows(name: str, dataset: Any) -> int:
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(
            f"{name} is of type {type(dataset).__name__}, whose rows cannot be counted and picked: α's batches need "
            "both. Give a dataset with __len__ and __getitem__"
            + (', or a row_scale_dataset that has them, or row_scale_protocol="joint"' * (name == "train_dataset"))
        )
    return len(dataset)


def _pick(dataset: Any, rows: np.ndarray) -> Any:
    """These rows of the dataset in its own order; a `datasets.Dataset` stays one, and with it its columns."""
    picked = np.sort(rows).tolist()
    return dataset.select(picked) if hasattr(dataset, "column_names") else Subset(dataset, picked)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
