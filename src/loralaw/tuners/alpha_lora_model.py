"""PEFT's LoRA model with a row scale on every adapted layer."""

import copy
from typing import Any

import torch
from peft import LoraModel
from torch import nn

from loralaw.errors import InputError, ModelError, did_you_mean
from loralaw.tuners.alpha_lora_config import AUTHORS_INITIALISATION, AlphaLoraConfig, checked_start
from loralaw.tuners.peft_surface import (
    Embedding,
    LoraLayer,
    check_is_called,
    is_bitsandbytes,
    layers_to_adapt,
    register_alpha_lora,
    takes_variants,
)
from loralaw.tuners.row_scale import active_row_scale, set_task
from loralaw.tuners.row_scale_variant import RowScaledEmbedding, RowScaleVariant, like_the_adapter

_COMBINATIONS = ("svd", "linear", "cat")


class AlphaLoraModel(LoraModel):  # type: ignore[misc]  # peft has no types
    """What `get_peft_model` makes of an `AlphaLoraConfig`: PEFT builds its own LoRA layers, and each gets a variant.

    One model cannot hold plain LoRA adapters and α-LoRA adapters together: PEFT wants one type a model.

    Raises:
        ModelError: a layer whose LoRA would lose the row scale.
        InputError: `init_row_scale` names what is no layer of the model, gives an α other than 1 to a layer that is
            not adapted, or one that a model in float16 cannot hold.
    """

    def set_task(self, task: str) -> None:
        """See `loralaw.tuners.set_task`."""
        set_task(self.model, task)

    def add_weighted_adapter(
        self,
        adapters: list[str],
        weights: list[float],
        adapter_name: str,
        combination_type: str = "svd",
        **options: Any,
    ) -> None:
        """As PEFT's, for A and B; what the adapters add to the frozen output is combined with the same weights:

            α = 1 + Σᵢ wᵢ (αᵢ - 1),        with αᵢ = 1 where adapter i leaves a layer alone.

        Args:
            adapters: names.
            weights: one each.
            adapter_name: of the new one.
            combination_type: "svd" (rank as asked), "cat" (exact; ranks add up) or "linear" (of A and B: PEFT's rough
                approximation).
            **options: PEFT's, such as `svd_rank`.

        Raises:
            InputError: another combination (they prune A and B by rules that α does not have), adapters with tasks, or
                not a weight for each.

        **Source**: ours.
        """
        if combination_type not in _COMBINATIONS:
            raise InputError(
                f'combination_type="{combination_type}" prunes A and B or votes on them, which means nothing for a row '
                f"scale. Accepted: {', '.join(_COMBINATIONS)}"
            )
        if with_tasks := [a for a in adapters if a in self.peft_config and self.peft_config[a].row_scale_tasks]:
            raise InputError(f"{', '.join(with_tasks)}: adapters with row_scale_tasks cannot be combined")
        if len(adapters) != len(weights):
            raise InputError(f"{len(adapters)} adapters and {len(weights)} weights are given: give a weight for each")
        is_new = adapter_name not in self.peft_config  # PEFT does nothing otherwise
        super().add_weighted_adapter(adapters, weights, adapter_name, combination_type, **options)
        if is_new:
            for layer in self.model.modules():
                if (combined := active_row_scale(layer, adapter_name)) is not None:
                    combined.weight.data = torch.ones_like(combined.weight)
                    for adapter, weight in zip(adapters, weights, strict=True):
                        if (scale := active_row_scale(layer, adapter)) is not None:
                            combined.weight.data += weight * (scale.weight.data - 1)

    def _check_new_adapter_config(self, config: AlphaLoraConfig) -> None:
        """Before anything in the model is replaced."""
        super()._check_new_adapter_config(config)
        config.init_row_scale = checked_start(config.init_row_scale)  # a mapping may have been changed
        _check_held(config.init_row_scale, self.model)
        if isinstance(config.init_row_scale, dict):
            resolved = self._prepare_adapter_config(copy.copy(config), self.get_model_config(self.model))
            _check_named_layers(config.init_row_scale, self.model, layers_to_adapt(self.model, resolved))

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """PEFT's choice between float32, in which α is made, and the type of the frozen layer for the whole adapter."""
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if not autocast_adapter_dtype:
            for layer in self.model.modules():
                if isinstance(layer, LoraLayer):
                    like_the_adapter(layer, adapter_name)

    def _create_and_replace(
        self,
        lora_config: AlphaLoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        """PEFT's way to make one layer, whose result then gets its variant."""
        check_is_called(self.model, target_name)
        check_parent(parent, current_key)
        for_peft, by_authors = lora_config, lora_config.init_lora_weights == AUTHORS_INITIALISATION
        if by_authors:  # PEFT does not know the name: it draws, and we draw again
            for_peft = copy.copy(lora_config)
            for_peft.init_lora_weights = True
        super()._create_and_replace(for_peft, adapter_name, target, target_name, parent, current_key, **kwargs)
        layer = getattr(parent, target_name)
        if getattr(layer.get_base_layer(), "_hf_tp_plan", None) is not None:
            raise ModelError(f"{current_key} is split between processes, which a row scale was never tried with")
        if lora_config.lora_bias and is_bitsandbytes(layer):
            raise ModelError(
                f"{current_key}: lora_bias=True on a layer of bitsandbytes, whose bias PEFT merges without its scale: "
                "leave lora_bias out, or load the model unquantised"
            )
        check_takes_row_scale(layer, current_key)
        if type(layer) is Embedding:
            layer.__class__ = RowScaledEmbedding
        if by_authors and adapter_name in layer.lora_A:
            _draw_as_authors(layer.lora_A[adapter_name].weight, layer.r[adapter_name])
        layer.lora_variant[adapter_name] = RowScaleVariant()
        RowScaleVariant.init(layer, adapter_name, lora_config, target_name=current_key)


def check_parent(parent: nn.Module, name: str) -> None:
    """Refuse a layer whose weights its parent reads, without calling it.

    Raises:
        ModelError: it is one.
    """
    if isinstance(parent, nn.MultiheadAttention):
        raise ModelError(f"{name} is read by nn.MultiheadAttention, never called: leave it out of target_modules")


def check_takes_row_scale(layer: nn.Module, name: str) -> None:
    """Refuse a LoRA layer of PEFT that would lose the row scale or was never tried with one.

    Raises:
        ModelError: it is one.
    """
    if not takes_variants(layer) and type(layer) is not RowScaledEmbedding:
        raise ModelError(
            f"{name}: PEFT's LoRA for this layer is {type(layer).__name__}, which would lose the row scale or was "
            "never tried with one. Leave it out of target_modules, or load the model unquantised, in 4 or 8 bits with "
            "bitsandbytes, or as GPTQ"
        )


def _check_held(start: float | dict[str, float], model: nn.Module) -> None:
    """Refuse an α that float16 cannot hold for a model in it; the other types reach about as far as float32."""
    if all(parameter.dtype != torch.float16 for parameter in model.parameters()):
        return
    largest = torch.finfo(torch.float16).max
    for name, row_scale in start.items() if isinstance(start, dict) else [("", start)]:
        if abs(row_scale) > largest:
            where = f'init_row_scale["{name}"]' if name else "init_row_scale"
            raise InputError(
                f"{where}={row_scale:g}: {type(model).__name__} is in float16, which holds numbers up to {largest:.0f}"
                ": give a smaller one, or load the model in bfloat16 or float32"
            )


def _check_named_layers(named: dict[str, float], model: nn.Module, adapted: list[str]) -> None:
    """Refuse an α that nothing would hold. An α of 1 is what a layer has that is not adapted."""
    if not adapted:
        return  # PEFT says so
    known = {name for name, _ in model.named_modules()}
    for name, row_scale in named.items():
        if name not in known:
            raise InputError(
                f'init_row_scale names "{name}", which is no layer of {type(model).__name__}: names are those of '
                f"model.named_modules() before the adapter, such as {adapted[0]}." + did_you_mean(name, adapted)
            )
        if name not in adapted and row_scale != 1:
            raise InputError(
                f"init_row_scale gives {name} the row scale {row_scale:g}, but target_modules leaves this layer alone, "
                "and its α would be lost. Adapt it too, or leave it out; a suggestion was checked as a whole: ask for "
                "another one, suggest_row_scale(..., target_modules=...), with the target_modules of the adapter"
            )


@torch.no_grad()
def _draw_as_authors(factor: nn.Parameter, rank: int) -> None:
    if factor.device.type != "meta":  # where weights are about to be loaded
        factor.normal_(0.0, rank**-0.5)


register_alpha_lora(AlphaLoraConfig, AlphaLoraModel)
