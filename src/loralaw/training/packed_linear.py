"""The layer of a pack: one product with the frozen weight for all cells, batched small products for the adapters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from loralaw.errors import ModelError
from loralaw.training.bucket import Bucket, LayerFactors

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
    layers_seen: set[str] = field(default_factory=set)
    _last_input: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def n_rows(self) -> int:
        return sum(len(b.cells) * rows for b, rows in zip(self.buckets, self.rows_per_cell, strict=True))

    def parts(self, layer: str) -> list[tuple[Bucket, LayerFactors, slice]]:
        """The buckets that adapt a layer, and their tokens in the batch seen as (rows·length, features)."""
        parts, at = [], 0
        for bucket, rows in zip(self.buckets, self.rows_per_cell, strict=True):
            n_tokens, factors = len(bucket.cells) * rows * self.length, bucket.layer(layer)
            if factors is not None:
                parts.append((bucket, factors, slice(at, at + n_tokens)))
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


class PassSlot:
    """Holds the pass under way; shared by a pack and its layers."""

    def __init__(self) -> None:
        self.current: PackPass | None = None


class PackedLinear(nn.Module):
    """A frozen linear layer with the adapters of all cells, each on its own rows: y = α ⊙ (xW₀ᵀ + b) + s·(xA)B.

    Cells without a row scale have no α.

    Args:
        name: the layer's name in the base model.
        base: the layer that this one stands for; it is kept, to be put back.
        dtype: of the products; the frozen weight is cast once, not at every step.
        slot: where the pack says what belongs to whom.
    """

    def __init__(self, name: str, base: nn.Linear | Conv1D, dtype: torch.dtype, slot: PassSlot) -> None:
        super().__init__()
        self.name, self.base, self._slot = name, base, slot
        weight = base.weight.mT if isinstance(base, Conv1D) else base.weight
        self._weight = weight.detach().to(dtype)
        self._bias = None if base.bias is None else base.bias.detach().to(dtype)
        # Requires a gradient only so that autograd calls backward, which writes into the buckets.
        self._tie_to_autograd = torch.zeros((), requires_grad=True, device=weight.device)

    def __getattr__(self, name: str) -> Any:
        """What models read off a linear layer besides calling it, such as `weight.dtype` or `out_features`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        """x: (rows, length, in) -> (rows, length, out)."""
        current = self._slot.current
        if current is None:
            raise ModelError("this base model is inside a Pack: use the pack's step and score, or Pack.unload() first")
        current.check_input(self.name, x)
        current.layers_seen.add(self.name)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = _PackedProduct.apply(  # type: ignore[no-untyped-call]
                x, self._tie_to_autograd, self._weight, self._bias, current, self.name
            )
            return y


class _PackedProduct(torch.autograd.Function):
    """The whole layer in one autograd node, so that neither direction makes an extra full-size pass for the sum.

    Saves the cast input once, h = s·xA, and z = xW₀ᵀ + b where α learns. The gradients of adapters and row scales are
    added straight into the buckets' matrices. α is a float32 factor, as s is.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _: Tensor, weight: Tensor, bias: Tensor | None, current: PackPass, name: str
    ) -> Tensor:
        n_out, n_in = weight.shape
        flat = current.cast(x)
        y = F.linear(flat, weight, bias)
        parts, saved = current.parts(name), []
        for bucket, factors, tokens in parts:
            n_cells, z = len(bucket.cells), None
            x_cells, y_cells = flat[tokens].view(n_cells, -1, n_in), y[tokens].view(n_cells, -1, n_out)
            mask = current.dropout_masks(bucket, x_cells)
            a, b = factors.a.values.to(weight.dtype), factors.b.values.to(weight.dtype)
            h = torch.bmm(x_cells if mask is None else x_cells * mask, a).mul_(bucket.scaling)
            if factors.row_scale is not None:
                z = y_cells.clone() if current.row_scale_learns(bucket) else None
                y_cells.mul_(factors.row_scale.values)
            if current.probe is not None:
                current.probe(name, bucket, y_cells, torch.bmm(h, b))
            y_cells.baddbmm_(h, b)
            saved += [a, b, h, mask, z]
        ctx.save_for_backward(flat, weight, *saved)
        ctx.parts, ctx.learns, ctx.x_shape, ctx.x_dtype = parts, current.learns, x.shape, x.dtype
        return y.view(*x.shape[:-1], n_out)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, *saved = ctx.saved_tensors
        n_out, n_in = weight.shape
        g = gradient.reshape(-1, n_out)
        grad_x = _frozen_gradient(g, ctx.parts) @ weight if ctx.needs_input_grad[0] else None
        for number, (bucket, factors, tokens) in enumerate(ctx.parts):
            n_cells = len(bucket.cells)
            a, b, h, mask, z = saved[5 * number : 5 * number + 5]
            x_cells, g_cells = flat[tokens].view(n_cells, -1, n_in), g[tokens].view(n_cells, -1, n_out)
            grad_h = torch.bmm(g_cells, b.mT).mul_(bucket.scaling)
            if ctx.learns is Learns.ADAPTER:
                factors.a.gradients.add_(torch.bmm((x_cells if mask is None else x_cells * mask).mT, grad_h))
                factors.b.gradients.add_(torch.bmm(h.mT, g_cells))
            if z is not None:
                factors.row_scale.gradients.add_((g_cells.float() * z).sum(1, keepdim=True))
            if grad_x is not None:
                grad_cells = grad_x[tokens].view(n_cells, -1, n_in)
                if mask is None:
                    grad_cells.baddbmm_(grad_h, a.mT)
                else:
                    grad_cells.add_(torch.bmm(grad_h, a.mT).mul_(mask))
        return None if grad_x is None else grad_x.to(ctx.x_dtype).view(ctx.x_shape), None, None, None, None, None


def _frozen_gradient(gradient: Tensor, parts: Sequence[tuple[Bucket, LayerFactors, slice]]) -> Tensor:
    """The gradient of xW₀ᵀ + b, from that of the layer's output (tokens, out): α ⊙ it where a cell has α."""
    scaled = [(factors.row_scale.values, tokens) for _, factors, tokens in parts if factors.row_scale is not None]
    if not scaled:
        return gradient
    of_frozen = gradient.clone()
    for row_scale, tokens in scaled:
        of_frozen[tokens].view(len(row_scale), -1, gradient.shape[1]).mul_(row_scale)
    return of_frozen
