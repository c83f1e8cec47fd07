"""A bucket: the adapters of cells that can be multiplied together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loralaw.training.adapters import Adapter, LayerAdapter
from loralaw.training.cell import RunningCell


def padded_rank(rank: int) -> int:
    """16, 32, 64, ...: ranks up to 16 cost the same, and above that few buckets beat little padding.

    By the cell's rank alone, so that a cell's arithmetic does not depend on its company.
    """
    return max(16, 1 << (rank - 1).bit_length())


@dataclass(frozen=True)
class Stacked:
    """One part of one layer, of all cells of a bucket: values and where their gradients go, views of its matrices."""

    values: Tensor
    """(K, …), float32."""
    gradients: Tensor


@dataclass(frozen=True)
class LayerFactors:
    """One layer's stacked factors."""

    a: Stacked
    """(K, in, r)"""
    b: Stacked
    """(K, r, out)"""
    row_scale: Stacked | None
    """(K, 1, out); None where the bucket's cells have none."""


BucketKey = tuple[int, int, float, tuple[str, ...], bool, bool]
"""(padded rank, batch size, dropout, adapted layers, has row scale, which is joint); cells that share it share a
bucket."""


def bucket_key(cell: RunningCell) -> BucketKey:
    adapter = cell.adapter
    return (
        padded_rank(adapter.rank),
        cell.cell.batch_size,
        cell.dropout,
        tuple(adapter.layers),
        adapter.has_row_scale,
        cell.is_joint,
    )


class Bucket:
    """Cells of one `bucket_key`; their parameters are one matrix, a row a cell, and their row scales another.

    A layer's A (K, in, r) and B (K, r, out) are views of that matrix, and so are the gradients. The columns beyond a
    cell's rank hold zeros in A *and* B: the gradient of each is a product with the other, so they stay zero for ever.
    """

    def __init__(self, cells: Sequence[RunningCell]) -> None:
        """Move the cells' numbers in here: their parameters and gradients become rows of this bucket."""
        self.cells = list(cells)
        self.rank, self.batch_size, self.dropout, _, _, self.is_joint = bucket_key(cells[0])
        row_scales = [cell.row_scale for cell in cells if cell.row_scale is not None]
        self._adapters = _Matrix([cell.parameter for cell in cells])
        self._row_scales = _Matrix(row_scales) if row_scales else None
        # Kept in float32: rounded to bfloat16, 16/√8 is wrong by up to 0.4 %, always the same way.
        self.scaling = torch.tensor([cell.adapter.scaling for cell in cells], device=cells[0].parameter.device)
        self.scaling = self.scaling.view(-1, 1, 1)
        self._layers = self._cut()

    def layer(self, name: str) -> LayerFactors | None:
        """None where the bucket's cells do not adapt the layer."""
        return self._layers.get(name)

    def zero_gradients(self) -> None:
        self._adapters.gradients.zero_()
        if self._row_scales is not None:
            self._row_scales.gradients.zero_()

    def adapter_of(self, cell: RunningCell) -> dict[str, LayerAdapter]:
        """A cell's trained factors without the padding, as views."""
        row, rank = self.cells.index(cell), cell.adapter.rank
        return {
            name: LayerAdapter(
                factors.a.values[row, :, :rank],
                factors.b.values[row, :rank],
                None if factors.row_scale is None else factors.row_scale.values[row, 0],
            )
            for name, factors in self._layers.items()
        }

    def _cut(self) -> dict[str, LayerFactors]:
        layers, at, row = {}, 0, 0
        for name, layer in self.cells[0].adapter.layers.items():
            n_in, n_out = layer.a.shape[0], layer.b.shape[1]
            layers[name] = LayerFactors(
                self._adapters.cut(at, n_in, self.rank),
                self._adapters.cut(at + n_in * self.rank, self.rank, n_out),
                None if self._row_scales is None else self._row_scales.cut(row, 1, n_out),
            )
            at, row = at + (n_in + n_out) * self.rank, row + n_out
        return layers


class _Matrix:
    """Parameters of as many cells, each a row of one matrix, and their gradients, the rows of another."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        shape, device = (len(parameters), parameters[0].numel()), parameters[0].device
        # Two allocations: values and gradients cut from one would share a version counter, which autograd refuses.
        self.values, self.gradients = torch.empty(shape, device=device), torch.zeros(shape, device=device)
        for row, parameter in enumerate(parameters):
            self.values[row].copy_(parameter.data)
            parameter.data, parameter.grad = self.values[row], self.gradients[row]

    def cut(self, first: int, n_rows: int, n_columns: int) -> Stacked:
        """(K, n_rows, n_columns), from this place of every cell's vector on."""
        part = slice(first, first + n_rows * n_columns)
        shape = -1, n_rows, n_columns
        return Stacked(self.values[:, part].view(shape), self.gradients[:, part].view(shape))


def flatten_adapter(adapter: Adapter) -> Tensor:
    """An adapter as one row of a bucket: every layer's A then B, padded with zeros to the bucket's rank."""
    parts, rank = [], padded_rank(adapter.rank)
    for layer in adapter.layers.values():
        a, b = torch.zeros(layer.a.shape[0], rank), torch.zeros(rank, layer.b.shape[1])
        a[:, : adapter.rank], b[: adapter.rank] = layer.a, layer.b
        parts += [a.reshape(-1), b.reshape(-1)]
    return torch.cat(parts)


def flatten_row_scale(adapter: Adapter) -> Tensor | None:
    """The row scales of an adapter's layers, one after the other; None where it has none."""
    parts = [layer.row_scale for layer in adapter.layers.values() if layer.row_scale is not None]
    return torch.cat(parts) if parts else None
