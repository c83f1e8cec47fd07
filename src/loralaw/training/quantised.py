"""What is different where the base model is quantised: methods that cannot train on it, and its size in memory."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from loralaw.models import is_quantised
from loralaw.training.targets import ALL_LINEAR, targeted_layers

_BYTES_OF_4_BITS = 0.5 + 4 / 64  # bitsandbytes keeps a float32 for every 64 numbers


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
    return int(4 * n_others + n_stored * (_BYTES_OF_4_BITS if _loads(model.config, 4) else 1))


def _loads(config: PretrainedConfig, bits: int) -> bool:
    """Whether bitsandbytes keeps the weights in so many bits."""
    settings = config.quantization_config  # a dict until the weights are loaded
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    return bool(settings.get(f"load_in_{bits}bit"))
