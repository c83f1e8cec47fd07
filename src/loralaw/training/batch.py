"""Token batches: what a cell is given, checked, cut and padded."""

from collections.abc import Sequence
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from loralaw.errors import InputError
from loralaw.tasks import NOT_SCORED
from loralaw.training.cell import PackCell

Batch = tuple[Tensor, Tensor]
"""(token ids, labels), both (rows, length) int64; label -100 is not scored, label t is predicted from those before."""


def micro_batch_counts(batch_size: int) -> list[int]:
    """Into how many equal parts a batch can be cut: what `n_micro_batches` may be, in ascending order.

    >>> micro_batch_counts(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [n for n in range(1, batch_size + 1) if batch_size % n == 0]


def check_micro_batches(n_micro_batches: int, batch_size: int) -> None:
    """Raise `InputError` unless a batch can be cut into so many equal parts."""
    accepted = micro_batch_counts(batch_size)
    if n_micro_batches not in accepted:
        raise InputError(
            f"n_micro_batches is {n_micro_batches}, which does not divide the batch of {batch_size} rows; accepted: "
            f"{', '.join(map(str, accepted))}"
        )


def check_tokens(ids: Tensor, labels: Tensor, whose: str) -> None:
    """Raise `InputError` unless both are (rows, length) int64, of one shape and not empty."""
    fits = ids.dim() == 2 and ids.shape == labels.shape and 0 not in ids.shape
    if not fits or (ids.dtype, labels.dtype) != (torch.int64, torch.int64):
        raise InputError(
            f"{whose}: ids are {tuple(ids.shape)} {ids.dtype} and labels {tuple(labels.shape)} {labels.dtype}; "
            "give two int64 tensors of the same shape (rows, length), neither of them 0"
        )


def check_cells(cells: Sequence[PackCell], pad_to: int, n_micro_batches: int) -> None:
    """Raise `InputError` unless the cells can be a pack."""
    keys = [cell.key for cell in cells]
    if not keys or len(set(keys)) < len(keys):
        raise InputError(f"a pack needs cells with different keys; given: {keys}")
    if pad_to < 2:
        raise InputError(f"pad_to is {pad_to}; a row needs at least 2 tokens to predict one")
    for batch_size in {cell.batch_size for cell in cells}:
        check_micro_batches(n_micro_batches, batch_size)


def check_batch(cell: PackCell, batch: Batch, pad_to: int) -> None:
    """Raise `InputError` unless a training batch is the cell's size, fits and has a scored token."""
    ids, labels = batch
    check_tokens(ids, labels, f'cell "{cell.key}"')
    if ids.shape[0] != cell.batch_size or ids.shape[1] > pad_to:
        raise InputError(
            f'cell "{cell.key}": the batch is {tuple(ids.shape)}; '
            f"give its {cell.batch_size} rows of at most pad_to={pad_to} tokens"
        )
    if not bool((labels[:, 1:] != NOT_SCORED).any()):
        raise_unscored(cell.key)


def raise_unscored(key: str) -> NoReturn:
    """Raise `InputError`: a cell's batch has no scored token."""
    raise InputError(f'cell "{key}": no token of the batch is scored (labels of -100), so nothing to learn')


def pad_right(tokens: Tensor, length: int, value: int) -> Tensor:
    """(rows, shorter) -> (rows, length)."""
    return F.pad(tokens, (0, length - tokens.shape[1]), value=value)
