"""Which frozen layers of a model a row scale can be suggested for."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from loralaw.errors import InputError, ModelError, did_you_mean
from loralaw.tuners.alpha_lora_model import check_parent, check_takes_row_scale
from loralaw.tuners.peft_surface import LoraLayer, base_model_of, check_is_called, layers_to_adapt
from loralaw.tuners.row_scale import active_row_scale

_KINDS = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # bitsandbytes' layers are nn.Linear too


def frozen_layers(model: nn.Module, target_modules: str | Iterable[str] | None) -> dict[str, nn.Module]:
    """The frozen layers whose outputs a row scale would multiply.

    Args:
        model: a model with LoRA or α-LoRA layers, or one without.
        target_modules: of a model without, as `LoraConfig` has them; None: "all-linear".

    Returns:
        The layers by name in the base model, in its order; of adapted layers the frozen layer inside.

    Raises:
        InputError: no model, no such layer, or adapters that are merged, idle, or have an α other than 1 already.
        ModelError: a layer that α-LoRA cannot adapt.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is of type {type(model).__name__}: give a torch module, or a PeftModel")
    base = base_model_of(model)
    adapted = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    if not adapted:
        return _targeted(base, "all-linear" if target_modules is None else target_modules)
    if target_modules is not None:
        raise InputError(
            f"target_modules={target_modules!r} for a model whose {len(adapted):,} adapted layers are already chosen: "
            "leave target_modules out, or give the base model without adapter"
        )
    layers = {name: _inside(name, module) for name, module in adapted.items() if _active(module)}
    if not layers:
        raise InputError(
            f"no adapter of {type(base).__name__} is active: call model.set_adapter(NAME), or give the base model"
        )
    return layers


def _targeted(base: nn.Module, target_modules: Any) -> dict[str, nn.Module]:
    wanted = _checked_targets(target_modules)
    # With the type of a labelled task PEFT leaves the head of a classifier out, which is trained whole; where a model
    # has none, the type changes nothing.
    names = layers_to_adapt(base, LoraConfig(target_modules=wanted, task_type="SEQ_CLS"))
    if not names:
        ends = {name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, _KINDS)}
        hint = did_you_mean(wanted if isinstance(wanted, str) else "".join(wanted[:1]), ends)
        raise InputError(f"target_modules={wanted!r} names no layer of {type(base).__name__}.{hint}")
    for name in names:
        parent, _, leaf = name.rpartition(".")
        check_parent(base.get_submodule(parent), name)
        check_is_called(base, leaf)
        module = base.get_submodule(name)
        if not isinstance(module, _KINDS) and not hasattr(module, "qweight"):  # GPTQ's layers have that
            raise ModelError(
                f"target_modules={wanted!r} names {name}, a {type(module).__name__}, which α-LoRA cannot adapt. "
                f"Accepted: {', '.join(kind.__name__ for kind in _KINDS)} and quantised linear layers"
            )
    return {name: base.get_submodule(name) for name in names}


def _checked_targets(given: Any) -> str | list[str]:
    accepted = 'give names of layers, such as ["q_proj", "v_proj"], a regular expression, or "all-linear"'
    if isinstance(given, str):
        try:
            re.compile(given)
        except re.error as error:
            raise InputError(f"target_modules={given!r} is no regular expression ({error}): {accepted}") from error
        return given
    names = list(given) if isinstance(given, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"target_modules={given!r}: {accepted}")
    return names


def _active(layer: Any) -> bool:
    return any(adapter in layer.lora_A or adapter in layer.lora_embedding_A for adapter in layer.active_adapters)


def _inside(name: str, layer: Any) -> nn.Module:
    """The frozen layer of an adapted one, where the suggestion would mean something."""
    check_takes_row_scale(layer, name)
    if layer.merged:
        raise InputError(
            f"{name}: {', '.join(layer.merged_adapters)} is merged into the frozen weights, whose own outputs are no "
            "longer seen: call model.unmerge_adapter() first"
        )
    for adapter in layer.active_adapters:
        scale = active_row_scale(layer, adapter)
        if scale is not None and bool(torch.any(scale.weight != 1)):
            raise InputError(
                f'{name}: the row scale of "{adapter}" is not 1 any more, and a suggestion is for where it begins: '
                "give the base model, or a new adapter"
            )
    frozen: nn.Module = layer.get_base_layer()
    return frozen
