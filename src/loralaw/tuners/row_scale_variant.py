"""What a LoRA layer of PEFT does with a row scale: forward, merge and unmerge."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from loralaw.tuners.alpha_lora_config import AlphaLoraConfig
from loralaw.tuners.peft_surface import ConvNd, Embedding, LoraVariant
from loralaw.tuners.row_scale import RowScale, active_row_scale, add_row_scales, all_row_scales, freeze_row_scales

_SMALL = 0.05
"""Rows with a smaller |α| are kept as they were while merged: dividing by α would enlarge rounding by 20 and more."""


class RowScaleVariant(LoraVariant):  # type: ignore[misc]  # peft has no types
    """y = α ⊙ (Wx + b) + s·BAx, and merged W′ = α ⊙ W + s·BA, b′ = α ⊙ b.

    **Source**: α-LoRA, arXiv 2510.21345.
    """

    def supports_lora_conversion(self) -> bool:
        """No: (α - 1) ⊙ W has full rank."""
        return False

    @staticmethod
    def init(module: Any, adapter_name: str, config: AlphaLoraConfig, *, target_name: str = "", **_: Any) -> None:
        """Give the layer its α for a new adapter, trained if the adapter is active, as PEFT does with A and B.

        PEFT calls this too, where a layer gets an adapter of a name that it has already, and with the same names of
        arguments: `target_name` is the layer's whole name in the base model.
        """
        like = _first_factor(module, adapter_name)
        # PEFT makes A and B in the frozen layer's type and float32 of them afterwards; α would have been rounded.
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        n_space_dims = module.get_base_layer().weight.dim() - 2 if isinstance(module, ConvNd) else 0
        new = partial(RowScale, module.out_features, config.row_scale_of(target_name), n_space_dims, like.device, dtype)
        add_row_scales(module, adapter_name, new, config.row_scale_tasks)
        freeze_row_scales(module, adapter_name, all_of_them=not config.train_row_scale)
        if config.inference_mode or adapter_name not in module.active_adapters:
            _scale(module, adapter_name).requires_grad_(False)
        if not hasattr(module, "recomputes_frozen_output"):
            module.recomputes_frozen_output = {}
            module.other_param_names = (*module.other_param_names, "recomputes_frozen_output")
        module.recomputes_frozen_output[adapter_name] = config.row_scale_memory == "recompute"

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """The layer's whole output, from x and what the layer without this adapter puts out."""
        scale = _scale(module, active_adapter)
        delta = _delta(module, active_adapter, x)
        if scale.weight.requires_grad and _can_recompute(module, active_adapter):
            return _rescale_and_recompute(result, delta, x, scale.weight, module.get_base_layer())
        return torch.addcmul(delta, result, scale.factor())  # one kernel; keeps `result` in its own, shorter, type

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The merged weight. PEFT does not hand the bias on, so it is rescaled here."""
        alpha, weight = _alpha_like(module, active_adapter, orig_weight), orig_weight.data
        delta = module.get_delta_weight(active_adapter).to(weight.device)
        merged: Tensor = (_along_rows(module, alpha, weight) * weight + delta).to(weight.dtype)
        bias = getattr(module.get_base_layer(), "bias", None)
        merged_bias = None if bias is None else (bias.data * alpha.to(bias.device)).to(bias.dtype)
        own_bias = _adapter_bias(module, active_adapter)  # which PEFT adds next; checked before anything is written
        if not all(torch.isfinite(part).all() for part in (merged, merged_bias, own_bias) if part is not None):
            raise ValueError(f'the adapter "{active_adapter}" is broken: merged, it has weights that are not finite')
        small = alpha.abs() < _SMALL
        kept = _rows_first(module, weight)[small].clone(), None if bias is None else bias.data.clone()
        module._cache_store(_kept(active_adapter), kept)
        if bias is not None:
            bias.data = merged_bias
        return merged

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data = RowScaleVariant.merge_safe(module, active_adapter, orig_weight)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight as it was before, up to the rounding of one merge; the bias exactly."""
        kept_rows, kept_bias = module._cache_pop(_kept(active_adapter))
        alpha, weight = _alpha_like(module, active_adapter, orig_weight), orig_weight.data
        small = alpha.abs() < _SMALL
        divisor = _along_rows(module, alpha.masked_fill(small, 1.0), weight)
        delta = module.get_delta_weight(active_adapter).to(weight.device)
        unmerged: Tensor = ((weight - delta) / divisor).to(weight.dtype)
        _rows_first(module, unmerged)[small] = kept_rows.to(unmerged)
        if kept_bias is not None:
            bias = module.get_base_layer().bias
            own_bias = _adapter_bias(module, active_adapter)  # which PEFT takes away next
            bias.data = kept_bias.to(bias) if own_bias is None else kept_bias.to(bias) + own_bias
        return unmerged


class RowScaledEmbedding(Embedding):  # type: ignore[misc]
    """PEFT's layer, which forgets variants where the rows of a batch have adapters of their own."""

    def _mixed_batch_forward(self, x: Tensor, *args: Any, adapter_names: list[str], **kwargs: Any) -> Tensor:
        result: Tensor = self.base_layer(x, *args, **kwargs)
        for adapter in set(adapter_names) & set(self.lora_embedding_A):
            rows = [row for row, name in enumerate(adapter_names) if name == adapter]
            result[rows] = RowScaleVariant.forward(self, adapter, x[rows], result[rows]).to(result.dtype)
        return result


def like_the_adapter(module: Any, adapter: str) -> None:
    """Give the row scales of an adapter the type of its A."""
    for scale in all_row_scales(module, adapter):
        scale.to(_first_factor(module, adapter).dtype)


def _first_factor(module: Any, adapter: str) -> Tensor:
    """A, of the adapter's device and type."""
    is_embedding = isinstance(module, Embedding)
    factor: Tensor = module.lora_embedding_A[adapter] if is_embedding else module.lora_A[adapter].weight
    return factor


def _scale(module: Any, adapter: str) -> RowScale:
    scale = active_row_scale(module, adapter)
    assert scale is not None  # every layer with this variant has one
    return scale


def _delta(module: Any, adapter: str, x: Tensor) -> Tensor:
    """s·BAx, of the layer's output shape."""
    scaling = module.scaling[adapter]
    if isinstance(module, Embedding):
        down, up = module.lora_embedding_A[adapter].T, module.lora_embedding_B[adapter].T
        delta: Tensor = (module._embed(x, down) @ up) * scaling
        embed_scale = module._get_embed_scale()  # Gemma multiplies what it looks up, and so must we
        return delta if embed_scale is None else delta * embed_scale.to(delta.dtype)
    inner = module.lora_A[adapter](module.lora_dropout[adapter](x))
    return module.lora_B[adapter](inner) * scaling  # type: ignore[no-any-return]


def _can_recompute(module: Any, adapter: str) -> bool:
    """Only where the frozen output is a product with W alone: not after another adapter, not on quantised layers."""
    plain = type(module.get_base_layer()) in (nn.Linear, Conv1D) and len(module.active_adapters) == 1
    return bool(plain and module.recomputes_frozen_output[adapter])


def _rescale_and_recompute(base: Tensor, delta: Tensor, x: Tensor, alpha: Tensor, layer: nn.Module) -> Tensor:
    return _RescaleAndRecompute.apply(base, delta, x, alpha, layer)  # type: ignore[no-any-return, no-untyped-call]


class _RescaleAndRecompute(torch.autograd.Function):
    """delta + α ⊙ base, which keeps x (as the adapter's A does anyway) and multiplies with W again for α's gradient."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, delta: Tensor, x: Tensor, alpha: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer, ctx.base_dtype, ctx.delta_dtype = layer, base.dtype, delta.dtype
        device = x.device.type
        # The backward pass is outside of any autocast; the product is to be the one of the forward pass.
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.save_for_backward(x, alpha)
        return torch.addcmul(delta, base, alpha)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha = ctx.saved_tensors
        with torch.autocast(*ctx.autocast):
            base = ctx.layer(x.to(ctx.layer.weight.dtype))
        of_alpha = (base * gradient).flatten(0, -2).sum(0).to(alpha.dtype)
        return (gradient * alpha).to(ctx.base_dtype), gradient.to(ctx.delta_dtype), None, of_alpha, None


def _alpha_like(module: Any, adapter: str, weight: Tensor) -> Tensor:
    """α on the weight's device, in float32 or, for a weight in float64, in that."""
    alpha = _scale(module, adapter).weight.detach().to(weight.device)
    return alpha.double() if weight.dtype == torch.float64 else alpha.float()


def _is_transposed(module: Any) -> bool:
    """Whether the rows of W are columns of what is stored: GPT-2's Conv1D, embeddings."""
    return isinstance(module, Embedding) or bool(getattr(module, "fan_in_fan_out", False))


def _along_rows(module: Any, values: Tensor, weight: Tensor) -> Tensor:
    """A number a row, in a shape that multiplies the stored weight."""
    return values if _is_transposed(module) else values.view(-1, *[1] * (weight.dim() - 1))


def _rows_first(module: Any, weight: Tensor) -> Tensor:
    """A view of the stored weight, its rows along the first dimension."""
    return weight.movedim(1, 0) if _is_transposed(module) else weight


def _adapter_bias(module: Any, adapter: str) -> Tensor | None:
    """What PEFT adds to the frozen bias when it merges an adapter with a bias of its own."""
    if not getattr(module, "lora_bias", {}).get(adapter):
        return None
    bias: Tensor = module.lora_B[adapter].bias.data * module.scaling[adapter]
    return bias


def _kept(adapter: str) -> str:
    return f"{adapter}-before-row-scale"
