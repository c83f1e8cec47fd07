"""A base model with its weights and tokenizer, frozen."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from loralaw.errors import ModelError
from loralaw.models.source import ModelSource, first_line


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model in float32, in evaluation mode, and its tokenizer."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: Any
    n_params_total: int


def load_base_model(source: ModelSource, device: torch.device | str = "cpu") -> BaseModel:
    """Load weights from safetensors only, and never run code that comes with a model.

    Raises:
        ModelError: weights or tokenizer are missing, broken, or of an unknown architecture.
    """
    logging.disable_progress_bar()  # its bars would break ours
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.location,
            revision=source.revision,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
        raise ModelError(f'"{source.name}" cannot be loaded: {first_line(error)}') from error
    model.requires_grad_(False).eval().to(device)
    return BaseModel(source, model, tokenizer, sum(p.numel() for p in model.parameters()))
