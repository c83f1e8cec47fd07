"""Which methods cannot train on a quantised base model."""

import torch
from transformers import PretrainedConfig

from loralaw.models import is_quantised


def why_not_on(config: PretrainedConfig, method_name: str, device: torch.device) -> str | None:
    """Why a method cannot train on a base model because that is quantised; None: it can.

    Args:
        config: the base model's.
        method_name: such as "lora".
        device: where it would train.
    """
    if not is_quantised(config):
        return None
    if method_name == "full":
        return (
            "the base model is quantised, and full fine-tuning would have to train its integers: choose a method with "
            "an adapter, or the model unquantised"
        )
    # PEFT dequantises the layers at every step and, on a processor, loses their scales in doing so.
    if method_name == "dora" and _is_8_bit(config) and device.type == "cpu":
        return (
            "dora on a base model in 8 bits needs a GPU: choose the model in 4 bits or unquantised, or another method"
        )
    return None


def _is_8_bit(config: PretrainedConfig) -> bool:
    settings = config.quantization_config  # a dict until the weights are loaded
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    return bool(settings.get("load_in_8bit"))
