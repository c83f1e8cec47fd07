"""What we import of PEFT's private surface, and how a method is added to it; read in 0.20 and 0.21.

PEFT has no way to add a method from outside. `PeftType` is a closed enumeration, which PEFT and transformers both read
(`.value`), so `ALPHALORA` is made a member of it. An adapter of this type that is loaded without this package fails at
once, where a flag on a stock LoRA configuration would lose the row scale in silence.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import LoraConfig, PeftMixedModel, PeftModel
from peft.tuners.lora.layer import Embedding, LoraLayer, LoraVariant
from peft.tuners.lora.layer import _ConvNd as ConvNd
from peft.tuners.tuners_utils import (
    BaseTuner,
    BaseTunerLayer,
    _check_lora_target_modules_mamba,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.peft_types import PeftType, register_peft_method
from torch import nn

__all__ = [
    "ALPHALORA",
    "ConvNd",
    "Embedding",
    "LoraLayer",
    "LoraVariant",
    "base_model_of",
    "check_is_called",
    "is_bitsandbytes",
    "layers_to_adapt",
    "quiet_peft",
    "register_alpha_lora",
    "saves_biases",
    "takes_variants",
    "variants_asked_for",
]


def _new_member(name: str) -> PeftType:
    """What `name = "name"` in the body of the enumeration would have done."""
    member = str.__new__(PeftType, name)
    member._name_, member._value_, member.__objclass__ = name, name, PeftType  # type: ignore[attr-defined]
    member._sort_order_ = len(PeftType._member_names_)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    type.__setattr__(PeftType, name, member)  # the enumeration's own refuses
    return member


ALPHALORA: Any = _new_member("ALPHALORA")

# Layers of PEFT that hand their forward, merge and unmerge to a variant, each tested with a row scale. The others
# (AWQ, AQLM, EETQ, HQQ, INC, torchao, Transformer Engine, Megatron, nn.MultiheadAttention, single parameters) do not,
# or were never tried. By name, as PEFT imports bitsandbytes only where it is needed.
_TAKE_VARIANTS = {
    "peft.tuners.lora.layer": ("Linear", "Embedding", "Conv1d", "Conv2d", "Conv3d"),
    "peft.tuners.lora.bnb": ("Linear8bitLt", "Linear4bit"),
    "peft.tuners.lora.gptq": ("GPTQLoraLinear",),
}


def takes_variants(layer: nn.Module) -> bool:
    """Whether this LoRA layer does all that it does through its variant; a subclass may do otherwise."""
    return type(layer).__name__ in _TAKE_VARIANTS.get(type(layer).__module__, ())


def is_bitsandbytes(layer: nn.Module) -> bool:
    """Whether the frozen layer is in 4 or 8 bits of bitsandbytes."""
    return type(layer).__module__ == "peft.tuners.lora.bnb"


def register_alpha_lora(config_class: type, model_class: type) -> None:
    """Make PEFT build and load adapters of the type ALPHALORA."""
    register_peft_method(name="alphalora", config_cls=config_class, model_cls=model_class, prefix="lora_")


def variants_asked_for(config: LoraConfig) -> list[str]:
    """Settings of a LoRA configuration that each ask for a variant of PEFT's own, such as `use_dora`."""
    fields = config.__dataclass_fields__.values()
    return [f.name for f in fields if f.metadata.get("is_lora_variant") and getattr(config, f.name)]


def saves_biases() -> bool:
    """Whether this PEFT saves trained biases (`bias="all"`) with adapters of a type that it does not know."""
    return hasattr(BaseTuner, "_get_adapter_state_dict")  # since 0.21 the tuner says what is saved, not PEFT's own list


def check_is_called(model: nn.Module, target_name: str) -> None:
    """Raise PEFT's ValueError for layers of Mamba whose weights its kernels read; PEFT asks for its own types only."""
    _check_lora_target_modules_mamba(LoraConfig(), model, target_name)


def layers_to_adapt(model: nn.Module, config: LoraConfig) -> list[str]:
    """The names of the modules in a model that PEFT would adapt, or has adapted, where `target_modules` is given."""
    config = _maybe_include_all_linear_layers(copy.copy(config), model)
    inside = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))
    names = [name for name, _ in model.named_modules() if name and not name.startswith(inside)]
    return [name for name in names if check_target_module_exists(config, name)]


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Around what makes a `PeftModel`, which reads a property that transformers has renamed and warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def base_model_of(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile and PEFT; a model with injected adapters is its own."""
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, PeftModel | PeftMixedModel):
        model = model.base_model
    return model.model if isinstance(model, BaseTuner) else model
