"""A base model with its weights and tokenizer, frozen."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.distributed import DistributedConfig

from loralaw.errors import ModelError
from loralaw.models.heads import give_padding, is_of_pooler, model_class, new_weights
from loralaw.models.sharding import is_sharded
from loralaw.models.skeleton import config_of, quantisation_of, tokenizer_of
from loralaw.models.source import ModelSource
from loralaw.models.weights import check_finite, listed, names_of, no_warnings, read_weights


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model or classifier, in float32 but where it is quantised, in evaluation mode.

    A classifier's head may be new; then it is the same one whenever it is loaded.
    """

    source: ModelSource
    model: PreTrainedModel
    tokenizer: Any
    n_params_total: int
    n_labels: int | None = None
    """Outputs of a classifier's head; None of a language model."""
    has_new_head: bool = False
    """Whether that head came without weights."""


def load_base_model(
    source: ModelSource, device: torch.device | str = "cpu", n_devices: int = 1, n_labels: int | None = None
) -> BaseModel:
    """Load weights and tokenizer as the source's `loading` says: without it, safetensors only, and none of its code.

    Args:
        source: where it is.
        device: where to put it.
        n_devices: if above 1, the processes of this process's `torch.distributed` group, on `device` each: a part of
            every weight comes to each of them, and all of them must load the model.
        n_labels: of a classifier, 1 for regression; None: a causal language model. A head that the weights lack, or
            have for another number of labels, is drawn anew, from one fixed seed. The tokenizer then has a padding
            token, if need be its end token.

    Raises:
        ModelError: weights or tokenizer are missing, broken, or of an unknown architecture; or the model is dry.
    """
    if source.is_dry:
        raise ModelError(f'"{source.name}" was found for its shapes only: its weights or tokenizer are not here')
    config = config_of(source, n_labels)
    quantisation = quantisation_of(source, config, n_labels)
    with no_warnings():
        model, found = read_weights(
            source,
            model_class(source.name, config, n_labels),
            config,
            torch.float32,
            distributed_config=None if n_devices == 1 else DistributedConfig(fsdp_size=n_devices),
            ignore_mismatched_sizes=n_labels is not None,
            **({} if quantisation is None else {"quantization_config": quantisation, "device_map": {"": device}}),
        )
    tokenizer = tokenizer_of(source)
    new = _new_head_weights(source, model, found, n_labels)
    check_finite(source, model)
    if n_labels is not None:
        give_padding(source.name, model, tokenizer)
    _keep_gradients(model)
    model.requires_grad_(False).eval()
    if not is_sharded(model):
        model.to(device)
    n_params = model.num_parameters()  # which knows of two in one byte
    return BaseModel(source, model, tokenizer, n_params, n_labels, any(not is_of_pooler(name) for name in new))


def is_quantised(config: PretrainedConfig) -> bool:
    """Whether the weights of a model with this configuration are stored in fewer bits, as by bitsandbytes."""
    return getattr(config, "quantization_config", None) is not None


def _keep_gradients(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing the weights of 4-bit layers anew, which it does on processors with AVX-512 BF16 at
    a layer's first evaluation: no gradient passes such a layer any more, and nothing says so.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _new_head_weights(
    source: ModelSource, model: PreTrainedModel, found: dict[str, Any], n_labels: int | None
) -> set[str]:
    """Weights that a classifier begins with at random; refuse any others that transformers would fill so."""
    new = set[str]()
    for what in ("missing_keys", "mismatched_keys"):
        names = names_of(found, what)
        if n_labels is not None:
            new |= new_weights(model, names)
        if names := names - new:
            raise ModelError(
                f'"{source.name}": {what.replace("_", " ")} in its weights: {listed(sorted(names))}; save the whole '
                "model again"
            )
    return new
