"""The pass under way: which rows of the batch belong to which cells, and what their adapters are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import torch
from torch import Tensor

from loralaw.errors import ModelError
from loralaw.training.bucket import Bucket, LayerFactors, Stacked

Probe = Callable[[str, Bucket, Tensor, Tensor], None]
"""Receives (layer name, bucket, z, u) of every adapted layer; z and u are (K, rows·length, out). It may not keep z."""


class Learns(Enum):
    """What a pass makes gradients of."""

    NOTHING = auto()
    ADAPTER = auto()
    """A and B; and α of the cells in which it learns with them."""
    ROW_SCALE = auto()
    """α alone."""


@dataclass
class PackPass:
    """What the layers must know about the pass under way: which rows of the batch belong to whom.

    The batch is (rows, length), its rows in the order of the buckets and of the cells in them.
    """

    buckets: Sequence[Bucket]
    rows_per_cell: Sequence[int]
    """For each bucket."""
    length: int
    dtype: torch.dtype
    """Of the products."""
    dropout_lengths: Mapping[str, int] | None = None
    """Each cell's own unpadded length where adapter dropout is active, None where it is not."""
    micro_batch: int = 0
    """Which part of each cell's batch this is, where it goes through in parts."""
    probe: Probe | None = None
    learns: Learns = Learns.NOTHING
    n_base_rows: int = 0
    """Rows that belong to no cell, after all others: the frozen base alone computes them."""
    layers_seen: set[str] = field(default_factory=set)
    _last_input: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def n_rows(self) -> int:
        of_cells = (len(b.cells) * rows for b, rows in zip(self.buckets, self.rows_per_cell, strict=True))
        return sum(of_cells) + self.n_base_rows

    def parts(self, columns: Mapping[str, slice]) -> list["Part"]:
        """The buckets that adapt some of these layers, which have these columns of one product's output."""
        parts, at = [], 0
        for bucket, rows in zip(self.buckets, self.rows_per_cell, strict=True):
            n_tokens = len(bucket.cells) * rows * self.length
            layers = {name: factors for name in columns if (factors := bucket.layer(name)) is not None}
            if layers:
                parts.append(Part(bucket, slice(at, at + n_tokens), layers, {name: columns[name] for name in layers}))
            at += n_tokens
        return parts

    def cast(self, x: Tensor) -> Tensor:
        """x as a matrix in the product's type; q, k and v (gate and up) get the same input and share one copy."""
        last, matrix = self._last_input
        if matrix is None or last is not x:
            matrix = x.detach().reshape(-1, x.shape[-1]).to(self.dtype)
            self._last_input = x, matrix
        return matrix

    def row_scale_learns(self, bucket: Bucket) -> bool:
        """Whether α of a bucket with row scales gets a gradient, for which the layers keep their frozen output."""
        return self.learns is Learns.ROW_SCALE or (self.learns is Learns.ADAPTER and bucket.is_joint)

    def forget_input(self) -> None:
        """Let go of the last input, or it would live until the next pass."""
        self._last_input = None, None

    def dropout_masks(self, bucket: Bucket, x: Tensor) -> Tensor | None:
        """Masks for x (K, rows·length, in), None without dropout; padding is masked whole."""
        if self.dropout_lengths is None or bucket.dropout == 0.0:
            return None
        n_rows = x.shape[1] // self.length
        rows = slice(self.micro_batch * n_rows, (self.micro_batch + 1) * n_rows)
        masks = torch.zeros(len(bucket.cells), n_rows, self.length, x.shape[-1], device=x.device)
        for mask, cell in zip(masks, bucket.cells, strict=True):
            length = self.dropout_lengths[cell.key]
            mask[:, :length] = cell.dropout_mask(length, x.shape[-1])[rows]
        return masks.view_as(x).to(x.dtype)

    def check_input(self, layer: str, x: Tensor) -> None:
        """The rows of a layer's input must be the batch's rows: mixtures of experts, for one, regroup the tokens."""
        if tuple(x.shape[:-1]) not in {(self.n_rows, self.length), (self.n_rows * self.length,)}:
            raise ModelError(
                f"{layer} receives {tuple(x.shape)} where the batch has {self.n_rows} rows of {self.length} tokens: "
                "packed training needs layers that see every token once; leave this layer out of target_modules"
            )


@dataclass(frozen=True)
class Part:
    """What a product knows of one bucket."""

    bucket: Bucket
    tokens: slice
    """Of the batch seen as (rows·length, features)."""
    layers: Mapping[str, LayerFactors]
    """By name: those of the product's layers that the bucket adapts."""
    columns: Mapping[str, slice]
    """Of the product's output, by layer."""

    @property
    def row_scales(self) -> dict[str, Stacked]:
        """α of each layer; empty where the bucket's cells have none."""
        return {name: layer.row_scale for name, layer in self.layers.items() if layer.row_scale is not None}

    @property
    def ranks(self) -> dict[str, slice]:
        """The columns of h = s·xA that belong to each layer."""
        rank = self.bucket.rank
        return {name: slice(i * rank, (i + 1) * rank) for i, name in enumerate(self.layers)}

    def cells(self, matrix: Tensor) -> Tensor:
        """The bucket's rows of (rows·length, features), as (K, rows of a cell·length, features)."""
        return matrix[self.tokens].view(len(self.bucket.cells), -1, matrix.shape[1])

    def inputs(self, x: Tensor, masks: Sequence[Tensor | None]) -> list[tuple[Tensor, slice]]:
        """What the layers' A take of x (K, tokens, in), and their columns of h; without dropout the same for all."""
        dropped = [(x * mask, own) for mask, own in zip(masks, self.ranks.values(), strict=True) if mask is not None]
        return dropped or [(x, slice(None))]

    def a(self, dtype: torch.dtype) -> Tensor:
        """The layers' s·A beside each other, (K, in, Σ r); s is rounded with A, not by itself."""
        factors = [(layer.a.values * self.bucket.scaling).to(dtype) for layer in self.layers.values()]
        return factors[0] if len(factors) == 1 else torch.cat(factors, -1)

    def b(self, n_out: int, dtype: torch.dtype) -> Tensor:
        """The layers' B as blocks, each in its own rows and columns of (K, Σ r, out); elsewhere zeros."""
        first = next(iter(self.layers.values())).b.values
        if first.shape[-1] == n_out:
            return first.to(dtype)
        n_cells, rank = len(self.bucket.cells), self.bucket.rank
        b = torch.zeros(n_cells, len(self.layers) * rank, n_out, dtype=dtype, device=self.bucket.scaling.device)
        for name, layer in self.layers.items():
            b[:, self.ranks[name], self.columns[name]] = layer.b.values
        return b


class PassSlot:
    """Holds the pass under way; shared by a pack and its layers."""

    def __init__(self) -> None:
        self.current: PackPass | None = None
