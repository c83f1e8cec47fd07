"""The layers of a pack: one product with the frozen weights for all cells, batched small products for the adapters."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from loralaw.errors import ModelError
from loralaw.training.pack_pass import Learns, PackPass, Part, PassSlot
from loralaw.training.targets import layer_dimensions


class PackedProduct:
    """One or more frozen linear layers of the same input with the adapters of all cells, each on its own rows.

        y = α ⊙ (xW₀ᵀ + b) + s·(xA)B        (no α for cells without a row scale)

    Layers beside each other (q, k and v) are one product: the input is read once, and its gradient is summed inside of
    the product.

    Args:
        layers: by their names in the base model; all with a bias, or none.
        dtype: of the products; the frozen weights are cast once, not at every step.
        slot: where the pack says what belongs to whom.
    """

    def __init__(self, layers: Mapping[str, nn.Linear | Conv1D], dtype: torch.dtype, slot: PassSlot) -> None:
        self._layers, self._dtype, self._slot = layers, dtype, slot
        ends = list(itertools.accumulate(layer_dimensions(layer)[1] for layer in layers.values()))
        self._columns = dict(zip(layers, map(slice, [0, *ends[:-1]], ends), strict=True))
        # Requires a gradient only so that autograd calls backward, which writes into the buckets.
        self._tie_to_autograd = torch.zeros((), requires_grad=True, device=next(iter(layers.values())).weight.device)

    @cached_property
    def _weight(self) -> Tensor:
        """(Σ out, in); made when first used, as a layer that is part of another product has no use for its own."""
        layers = self._layers.values()
        weights = [layer.weight.mT if isinstance(layer, Conv1D) else layer.weight for layer in layers]
        return _below([weight.detach().to(self._dtype) for weight in weights])

    @cached_property
    def _bias(self) -> Tensor | None:
        biases = [layer.bias.detach().to(self._dtype) for layer in self._layers.values() if layer.bias is not None]
        return _below(biases) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (rows, length, in) -> (rows, length, Σ out), the layers beside each other."""
        current = self._slot.current
        if current is None:
            raise ModelError("this base model is inside a Pack: use the pack's step and score, or Pack.unload() first")
        for name in self._columns:
            current.check_input(name, x)
            current.layers_seen.add(name)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = _PackedProduct.apply(  # type: ignore[no-untyped-call]
                x, self._tie_to_autograd, self._weight, self._bias, current, current.parts(self._columns)
            )
            return y


class PackedLinear(nn.Module):
    """The module of a `PackedProduct` of one layer, to stand in the base model for it.

    Args:
        name: the layer's name in the base model.
        base: the layer that this one stands for; it is kept, to be put back.
        dtype, slot: as of `PackedProduct`.
    """

    def __init__(self, name: str, base: nn.Linear | Conv1D, dtype: torch.dtype, slot: PassSlot) -> None:
        super().__init__()
        self.name, self.base, self._product = name, base, PackedProduct({name: base}, dtype, slot)

    def __getattr__(self, name: str) -> Any:
        """What models read off a linear layer besides calling it, such as `weight.dtype` or `out_features`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        """x: (rows, length, in) -> (rows, length, out)."""
        return self._product(x)


class _PackedProduct(torch.autograd.Function):
    """The whole product in one autograd node, so that neither direction makes an extra full-size pass for the sum.

    Saves the cast input once, h = s·xA, and z = xW₀ᵀ + b where α learns. The gradients of adapters and row scales are
    added straight into the buckets' matrices. α is a float32 factor, as s is.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _: Tensor, weight: Tensor, bias: Tensor | None, current: PackPass, parts: list[Part]
    ) -> Tensor:
        flat, saved = current.cast(x), []
        y = F.linear(flat, weight, bias)
        for part in parts:
            x_cells, y_cells, z = part.cells(flat), part.cells(y), None
            masks = [current.dropout_masks(part.bucket, x_cells) for _ in part.layers]
            a, b = part.a(weight.dtype), part.b(len(weight), weight.dtype)
            h = _beside([torch.bmm(taken, a[..., own]) for taken, own in part.inputs(x_cells, masks)])
            if part.row_scales and current.row_scale_learns(part.bucket):
                z = y_cells.clone()
            for name, row_scale in part.row_scales.items():
                _rescale(y_cells[..., part.columns[name]], row_scale.values)
            if current.probe is not None:
                for name, own in part.ranks.items():
                    columns = part.columns[name]
                    u = torch.bmm(h[..., own], b[:, own, columns])
                    current.probe(name, part.bucket, y_cells[..., columns], u)
            y_cells.baddbmm_(h, b)
            saved += [a, b, h, z, *masks]
        ctx.save_for_backward(flat, weight, *saved)
        ctx.parts, ctx.learns, ctx.x_shape, ctx.x_dtype = parts, current.learns, x.shape, x.dtype
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, *saved = ctx.saved_tensors
        g = gradient.reshape(-1, len(weight))
        grad_x = _frozen_gradient(g, ctx.parts) @ weight if ctx.needs_input_grad[0] else None
        for part in ctx.parts:
            (a, b, h, z), masks = saved[:4], saved[4 : 4 + len(part.layers)]
            saved = saved[4 + len(part.layers) :]
            x_cells, g_cells = part.cells(flat), part.cells(g)
            grad_h = torch.bmm(g_cells, b.mT)
            if ctx.learns is Learns.ADAPTER:
                inputs = part.inputs(x_cells, masks)
                grad_a = _beside([torch.bmm(taken.mT, grad_h[..., own]) for taken, own in inputs])
                grad_a = grad_a.float() * part.bucket.scaling
                grad_b = torch.bmm(h.mT, g_cells)
                for name, own in part.ranks.items():
                    part.layers[name].a.gradients.add_(grad_a[..., own])
                    part.layers[name].b.gradients.add_(grad_b[:, own, part.columns[name]])
            if z is not None:
                for name, row_scale in part.row_scales.items():
                    own = part.columns[name]
                    _add_row_scale_gradients(row_scale.gradients, g_cells[..., own], z[..., own])
            if grad_x is not None:
                grad_cells = part.cells(grad_x)
                if masks[0] is None:
                    grad_cells.baddbmm_(grad_h, a.mT)
                else:
                    for mask, own in zip(masks, part.ranks.values(), strict=True):
                        grad_cells.add_(torch.bmm(grad_h[..., own], a[..., own].mT).mul_(mask))
        return None if grad_x is None else grad_x.to(ctx.x_dtype).view(ctx.x_shape), None, None, None, None, None


def _below(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _beside(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _frozen_gradient(gradient: Tensor, parts: Sequence[Part]) -> Tensor:
    """The gradient of xW₀ᵀ + b, from that of the product's output (tokens, out): α ⊙ it where a cell has α."""
    scaled = [part for part in parts if part.row_scales]
    if not scaled:
        return gradient
    of_frozen = gradient.clone()
    for part in scaled:
        for name, row_scale in part.row_scales.items():
            _rescale(part.cells(of_frozen)[..., part.columns[name]], row_scale.values)
    return of_frozen


def _rescale(values: Tensor, row_scale: Tensor) -> None:
    """values (K, tokens, out) times row_scale (K, 1, out), in place; the product is in float32.

    On a processor cell by cell: one product of the two types takes 1.5 to 10 times as long.
    """
    if values.is_cuda:
        values.mul_(row_scale)
        return
    for own, factor in zip(values, row_scale, strict=True):
        own.copy_(own.float().mul_(factor))


def _add_row_scale_gradients(gradients: Tensor, g: Tensor, z: Tensor) -> None:
    """Add Σ over tokens of g ⊙ z, both (K, tokens, out), to gradients (K, 1, out); in float32.

    On a processor cell by cell: the sum over the middle dimension of all takes 5 times as long.
    """
    if g.is_cuda:
        gradients.add_((g.float() * z).sum(1, keepdim=True))
        return
    for own, g_cell, z_cell in zip(gradients, g, z, strict=True):
        own.add_((g_cell.float() * z_cell.float()).sum(0))
