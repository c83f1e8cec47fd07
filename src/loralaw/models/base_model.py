"""A base model with its weights and tokenizer, frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from loralaw.errors import ModelError
from loralaw.models.sharding import is_sharded, whole
from loralaw.models.source import ModelSource, first_line


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model, in float32 but where it is quantised, in evaluation mode, and its tokenizer."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: Any
    n_params_total: int


def load_base_model(source: ModelSource, device: torch.device | str = "cpu", n_devices: int = 1) -> BaseModel:
    """Load weights from safetensors only, and never run code that comes with a model.

    Args:
        source: where it is.
        device: where to put it.
        n_devices: if above 1, the processes of this process's `torch.distributed` group, on `device` each: a part of
            every weight comes to each of them, and all of them must load the model.

    Raises:
        ModelError: weights or tokenizer are missing, broken, or of an unknown architecture.
    """
    try:
        with no_progress_bars():
            model, found = AutoModelForCausalLM.from_pretrained(
                source.location,
                revision=source.revision,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                distributed_config=None if n_devices == 1 else DistributedConfig(fsdp_size=n_devices),
            )
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
        raise ModelError(f'"{source.name}" cannot be loaded: {first_line(error)}') from error
    _check_weights(source, model, found)
    _keep_gradients(model)
    model.requires_grad_(False).eval()
    if not is_sharded(model):
        model.to(device)
    return BaseModel(source, model, tokenizer, model.num_parameters())  # which knows of two in one byte


def is_quantised(config: PretrainedConfig) -> bool:
    """Whether the weights of a model with this configuration are stored in fewer bits, as by bitsandbytes."""
    return getattr(config, "quantization_config", None) is not None


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Without the bars of transformers, which would break ours; afterwards with them, if they were shown before."""
    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()


def _keep_gradients(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing the weights of 4-bit layers anew, which it does on processors with AVX-512 BF16 at
    a layer's first evaluation: no gradient passes such a layer any more, and nothing says so.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _check_weights(source: ModelSource, model: PreTrainedModel, found: dict[str, Any]) -> None:
    """Refuse what transformers would fill with random numbers, and numbers that are none."""
    for what in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, found.get(what) or [])):
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelError(
                f'"{source.name}": {what.replace("_", " ")} in its weights: {shown}; save the whole model again'
            )
    for name, parameter in model.named_parameters():
        # A byte or less of a quantised weight holds no such number, or has no test for it.
        if parameter.element_size() > 1 and not whole(torch.isfinite(parameter).all()):
            raise ModelError(f'"{source.name}": {name} holds numbers that are not finite')
