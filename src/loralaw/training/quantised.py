"""What is different where the base model is quantised: methods that cannot train on it, and its size in memory."""

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from loralaw.models import is_quantised
from loralaw.training.target_words import ALL_LINEAR
from loralaw.training.targets import targeted_layers

_BYTES_OF_4_BITS = 0.5 + 4 / 64  # bitsandbytes keeps a float32 for every 64 numbers
_BYTES_OF_4_BITS_TWICE = 0.5 + 1 / 64 + 4 / (64 * 256)  # or, itself quantised, a byte, and a float32 for 256 of those


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
    if method_name == "dora" and _loads(config, 8) and device.type == "cpu":
        return (
            "dora on a base model in 8 bits needs a GPU: choose the model in 4 bits or unquantised, or another method"
        )
    return None


def quantised_bytes(model: PreTrainedModel) -> int:
    """Memory of the weights of a quantised model: the linear layers but the head as they are stored, the rest float32.

    Args:
        model: shapes suffice.
    """
    n_stored = sum(n_in * n_out for n_in, n_out in targeted_layers(model, ALL_LINEAR).values())
    n_others = sum(parameter.numel() for parameter in model.parameters()) - n_stored
    return int(4 * n_others + n_stored * _bytes_of_one(model.config))


def _bytes_of_one(config: PretrainedConfig) -> float:
    """Of a number of a linear layer, with its share of what it is scaled by."""
    if not _loads(config, 4):
        return 1.0
    return _BYTES_OF_4_BITS_TWICE if _settings(config).get("bnb_4bit_use_double_quant") else _BYTES_OF_4_BITS


def _loads(config: PretrainedConfig, bits: int) -> bool:
    """Whether bitsandbytes keeps the weights in so many bits."""
    return bool(_settings(config).get(f"load_in_{bits}bit"))


def _settings(config: PretrainedConfig) -> dict[str, Any]:
    settings = config.quantization_config  # a dict until the weights are loaded
    return settings if isinstance(settings, dict) else dict(settings.to_dict())
