"""Small models with random weights, one of each architecture that the documentation names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from loralaw.models.source import EMBEDDED_FOLDER

VOCABULARY = 4096
"""Of the micro family's tokenizer, which is saved with each of them; 0 is its end token, 1 its padding."""
_TOKENS: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
_SIZES: dict[str, Any] = {
    **_TOKENS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True}
_GPT2: dict[str, Any] = {**_TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
_LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_WINDOWS = {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}

CAUSAL: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_GROUPED, rope_parameters=_LLAMA_3_ROPE)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**_SIZES, num_key_value_heads=2, sliding_window=8)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_GROUPED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_GROUPED, head_dim=8)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**_GROUPED, head_dim=8)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_GROUPED, **_WINDOWS, query_pre_attn_scalar=8)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**_GROUPED)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_GPT2)),
}
CLASSIFIERS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**_SIZES, num_labels=3)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**_SIZES, num_labels=3)),
}
DECODERS_AS_CLASSIFIERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama as classifier": lambda: LlamaForSequenceClassification(LlamaConfig(**_GROUPED)),
    "qwen3 as classifier": lambda: Qwen3ForSequenceClassification(Qwen3Config(**_GROUPED, head_dim=8)),
    "gpt2 as classifier": lambda: GPT2ForSequenceClassification(GPT2Config(**_GPT2)),
}


def small(name: str) -> PreTrainedModel:
    """The same weights whenever it is built."""
    torch.manual_seed(0)
    return {**CAUSAL, **CLASSIFIERS, **DECODERS_AS_CLASSIFIERS}[name]()


def soft_capped() -> PreTrainedModel:
    """Gemma 2, whose logits are changed after the head."""
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**_GROUPED, **_WINDOWS, final_logit_softcapping=30.0))


def save(model: PreTrainedModel, folder: Path) -> Path:
    """As `save_pretrained` does, with a tokenizer."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m").save_pretrained(folder)
    return folder
