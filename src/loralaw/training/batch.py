"""Token batches: what a cell is given, checked and padded."""

import torch
import torch.nn.functional as F
from torch import Tensor

from loralaw.errors import InputError
from loralaw.tasks import NOT_SCORED
from loralaw.training.cell import PackCell

Batch = tuple[Tensor, Tensor]
"""(token ids, labels), both (rows, length) int64; label -100 is not scored, label t is predicted from those before."""


def check_tokens(ids: Tensor, labels: Tensor, whose: str) -> None:
    """Raise `InputError` unless both are (rows, length) int64, of one shape and not empty."""
    fits = ids.dim() == 2 and ids.shape == labels.shape and 0 not in ids.shape
    if not fits or (ids.dtype, labels.dtype) != (torch.int64, torch.int64):
        raise InputError(
            f"{whose}: ids are {tuple(ids.shape)} {ids.dtype} and labels {tuple(labels.shape)} {labels.dtype}; "
            "give two int64 tensors of the same shape (rows, length), neither of them 0"
        )


def check_batch(cell: PackCell, batch: Batch, pad_to: int) -> None:
    """Raise `InputError` unless a training batch is the cell's size, fits and has a scored token."""
    ids, labels = batch
    check_tokens(ids, labels, f'cell "{cell.key}"')
    if ids.shape[0] != cell.batch_size or ids.shape[1] > pad_to:
        raise InputError(
            f'cell "{cell.key}": the batch is {tuple(ids.shape)}; '
            f"give its {cell.batch_size} rows of at most pad_to={pad_to} tokens"
        )
    check_scored(cell.key, labels)


def check_scored(key: str, labels: Tensor) -> None:
    """Raise `InputError` unless a cell's batch has a scored token."""
    if not bool((labels[:, 1:] != NOT_SCORED).any()):
        raise InputError(f'cell "{key}": no token of the batch is scored (labels of -100), so nothing to learn')


def pad_right(tokens: Tensor, length: int, value: int) -> Tensor:
    """(rows, shorter) -> (rows, length)."""
    return F.pad(tokens, (0, length - tokens.shape[1]), value=value)
