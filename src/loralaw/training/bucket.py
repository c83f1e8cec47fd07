"""A bucket: the adapters of cells that can be multiplied together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loralaw.training.adapters import Adapter, LayerAdapter
from loralaw.training.cell import RunningCell


def padded_rank(rank: int) -> int:
    """16, 32, 64, ...: ranks up to 16 cost the same, and above that few buckets beat little padding.

    By the cell's rank alone, so that a cell's arithmetic does not depend on its company.
    """
    return max(16, 1 << (rank - 1).bit_length())


@dataclass(frozen=True)
class LayerFactors:
    """One layer's stacked factors, and where their gradients go; views of the bucket's matrices."""

    a: Tensor
    """(K, in, r)"""
    b: Tensor
    """(K, r, out)"""
    gradient_a: Tensor
    gradient_b: Tensor


BucketKey = tuple[int, int, float, tuple[str, ...]]
"""(padded rank, batch size, dropout, adapted layers); cells that share it share a bucket."""


def bucket_key(cell: RunningCell) -> BucketKey:
    return padded_rank(cell.adapter.rank), cell.cell.batch_size, cell.dropout, tuple(cell.adapter.layers)


class Bucket:
    """Cells of one `bucket_key`; their parameters are one matrix, a row a cell.

    A layer's A (K, in, r) and B (K, r, out) are views of that matrix, and so are the gradients. The columns beyond a
    cell's rank hold zeros in A *and* B: the gradient of each is a product with the other, so they stay zero for ever.
    """

    def __init__(self, cells: Sequence[RunningCell]) -> None:
        """Move the cells' numbers in here: their parameters and gradients become rows of this bucket."""
        self.cells = list(cells)
        self.rank, self.batch_size, self.dropout, _ = bucket_key(cells[0])
        n_params, device = cells[0].parameter.numel(), cells[0].parameter.device
        # Two allocations: values and gradients cut from one would share a version counter, which autograd refuses.
        self._values = torch.empty(len(cells), n_params, device=device)
        self._gradients = torch.zeros(len(cells), n_params, device=device)
        # Kept in float32: rounded to bfloat16, 16/√8 is wrong by up to 0.4 %, always the same way.
        self.scaling = torch.tensor([cell.adapter.scaling for cell in cells], device=device).view(-1, 1, 1)
        for row, cell in enumerate(self.cells):
            self._values[row].copy_(cell.parameter.data)
            cell.parameter.data = self._values[row]
            cell.parameter.grad = self._gradients[row]
        self._layers = self._cut()

    def layer(self, name: str) -> LayerFactors | None:
        """None where the bucket's cells do not adapt the layer."""
        return self._layers.get(name)

    def zero_gradients(self) -> None:
        self._gradients.zero_()

    def adapter_of(self, cell: RunningCell) -> dict[str, LayerAdapter]:
        """A cell's trained factors without the padding, as views."""
        row, rank = self.cells.index(cell), cell.adapter.rank
        return {
            name: LayerAdapter(factors.a[row, :, :rank], factors.b[row, :rank])
            for name, factors in self._layers.items()
        }

    def _cut(self) -> dict[str, LayerFactors]:
        layers, at, rank = {}, 0, self.rank
        for name, layer in self.cells[0].adapter.layers.items():
            n_in, n_out = layer.a.shape[0], layer.b.shape[1]
            a, b = slice(at, at + n_in * rank), slice(at + n_in * rank, at + (n_in + n_out) * rank)
            layers[name] = LayerFactors(
                self._values[:, a].view(-1, n_in, rank),
                self._values[:, b].view(-1, rank, n_out),
                self._gradients[:, a].view(-1, n_in, rank),
                self._gradients[:, b].view(-1, rank, n_out),
            )
            at = b.stop
        return layers


def flatten_adapter(adapter: Adapter) -> Tensor:
    """An adapter as one row of a bucket: every layer's A then B, padded with zeros to the bucket's rank."""
    parts, rank = [], padded_rank(adapter.rank)
    for layer in adapter.layers.values():
        a, b = torch.zeros(layer.a.shape[0], rank), torch.zeros(rank, layer.b.shape[1])
        a[:, : adapter.rank], b[: adapter.rank] = layer.a, layer.b
        parts += [a.reshape(-1), b.reshape(-1)]
    return torch.cat(parts)
