"""The layers of a model that LoRA adapts, as PEFT builds them: which can be measured, and which not and why."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import XLoraModel
from peft.tuners.lora.layer import Embedding, LoraLayer, MultiheadAttention, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from loralaw.errors import InputError
from loralaw.miub.effective_rank import effective_rank
from loralaw.tuners.peft_surface import base_model_of
from loralaw.tuners.row_scale import active_row_scale


@dataclass(frozen=True)
class AdaptedLayer:
    """A layer of the base model with at least one active LoRA adapter."""

    name: str
    """The module's name in the base model."""
    module: LoraLayer
    adapters: tuple[str, ...]
    """The active adapters that this layer has."""

    @property
    def has_channels_first(self) -> bool:
        """Whether features are on dimension 1 (a convolution) instead of the last."""
        return isinstance(self.module.get_base_layer(), _ConvNd)

    @property
    def row_scale(self) -> Tensor | None:
        """α, (features,), where the frozen output is rescaled row by row (α-LoRA)."""
        scale = active_row_scale(self.module, self.adapters[0])
        return None if scale is None else scale.weight

    @torch.no_grad()
    def effective_rank(self) -> float:
        """`effective_rank` of Σ s·BA over the active adapters."""
        a, b = zip(*(_factors(self.module, adapter) for adapter in self.adapters), strict=True)
        return float(effective_rank(torch.cat(a, dim=-1), torch.cat(b, dim=-2)))


def adapted_layers(model: nn.Module) -> tuple[list[AdaptedLayer], dict[str, str]]:
    """Every layer with LoRA modules.

    Returns:
        The layers that can be measured, in the order of the model's modules, and why the others cannot, by name.

    Raises:
        InputError: there is no such layer, none can be measured, the adapters are merged or disabled, or `model` is no
            model.
    """
    _check_model(model)
    layers, skipped = [], {}
    for name, module in base_model_of(model).named_modules():
        if not isinstance(module, LoraLayer):
            continue
        _check_switched_on(name, module)
        adapters = tuple(a for a in module.active_adapters if a in module.lora_A or a in module.lora_embedding_A)
        if reason := _why_not(module, adapters):
            skipped[name] = reason
        else:
            layers.append(AdaptedLayer(name, module, adapters))
    if not layers and not skipped:
        raise InputError(
            f"{type(model).__name__} has no LoRA layer: give a PeftModel, or a model that an adapter was injected into"
        )
    if not layers:
        name, reason = next(iter(skipped.items()))
        raise InputError(f"none of the {len(skipped)} LoRA layers can be measured; {name}: {reason}")
    return layers, skipped


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        what = f'the text "{model}"' if isinstance(model, str) else f"a {type(model).__name__}"
        raise InputError(
            f"the model is {what}: give a PeftModel, or a torch module that an adapter was injected into. A saved "
            "adapter is loaded by loralaw.models.load_adapted_model(FOLDER).model, and by `loralaw probe FOLDER`"
        )
    if any(isinstance(module, XLoraModel) for module in model.modules()):
        raise InputError(
            "X-LoRA is not measured: it mixes its adapters anew for every token and runs the model twice to do so: "
            "give the base model with one of the adapters"
        )


def _check_switched_on(name: str, module: LoraLayer) -> None:
    if module.merged:
        raise InputError(
            f"{name}: {', '.join(module.merged_adapters)} is merged into the frozen weights, so that the two cannot be "
            "told apart: call model.unmerge_adapter() first"
        )
    if module.disable_adapters:
        raise InputError(
            f"{name}: its adapters are disabled: leave `with model.disable_adapter()`, or call "
            "model.base_model.enable_adapter_layers() (model.enable_adapters() where there is no PeftModel)"
        )


def _why_not(module: LoraLayer, adapters: tuple[str, ...]) -> str | None:
    if not adapters:
        return "none of its adapters is active: see model.set_adapter"
    if isinstance(module, MultiheadAttention | ParamWrapper):
        return f"LoRA changes the weights of this {type(module.get_base_layer()).__name__}; its output is never apart"
    if isinstance(module.base_layer, BaseTunerLayer):
        return f"what it adapts is no frozen layer but another adapter's {type(module.base_layer).__name__}"
    factors = [part[a] for part in (module.lora_A, module.lora_B) for a in adapters if a in part]
    if not all(isinstance(factor, nn.Linear | _ConvNd) for factor in factors):  # AdaLoRA, parallel layers
        return f"{type(module).__name__} is not measured: its adapter is not the product of two plain layers"
    # Plain LoRA has no variant. DoRA and a row scale are known by what they add to the layer.
    rescaled = [a for a in adapters if active_row_scale(module, a) is not None]
    magnitudes = [a for a in adapters if a in module.lora_magnitude_vector]
    for adapter in adapters:
        if adapter in module.lora_variant and adapter not in (*rescaled, *magnitudes):
            return f"{type(module.lora_variant[adapter]).__name__} is not measured: it is neither LoRA nor DoRA"
    if len(adapters) > 1 and (rescaled or (magnitudes and isinstance(module, Embedding))):
        return "one of its active adapters changes what the others add: activate one at a time"
    return None


def _factors(module: Any, adapter: str) -> tuple[Tensor, Tensor]:
    """The adapter's weights laid out for x @ a @ b, with its scaling in b, float32: (in, r) and (r, out)."""
    if adapter in module.lora_embedding_A:
        a, b = module.lora_embedding_A[adapter].T, module.lora_embedding_B[adapter].T
    else:
        # A kernel of a convolution is one more input each; groups of outputs see only their own r / groups inner ones.
        down, up = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        groups = up.flatten(1).chunk(getattr(module.lora_B[adapter], "groups", 1))
        a, b = down.flatten(1).T, torch.block_diag(*groups).T  # type: ignore[no-untyped-call]
    return a.float(), b.float() * module.scaling[adapter]
