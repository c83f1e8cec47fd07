"""Published models whose shapes are known without asking for them, so that a study of them can be planned anywhere.

**Source**: the `config.json` that each model's publisher put on the hub. Only what shapes and context depend on is here
(rotary frequencies and the like are not, so nothing is ever trained from these); the numbers of parameters that follow
are those of the published weights, to the last one.
"""

from typing import Any

from transformers import AutoConfig, PretrainedConfig


def _llama(
    width: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return _decoder("llama", "LlamaForCausalLM", (width, inner, layers, heads, kv_heads, vocabulary), **more)


def _qwen3(*sizes: int) -> dict[str, Any]:
    of_all = {"head_dim": 128, "max_position_embeddings": 40960, "tie_word_embeddings": True}
    return _decoder("qwen3", "Qwen3ForCausalLM", (*sizes, 151936), **of_all)


def _decoder(model_type: str, made_as: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """Sizes: width, width inside the feed-forward layers, layers, heads, heads of keys and values, vocabulary."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "vocab_size")  # fmt: skip
    return {"model_type": model_type, "architectures": [made_as], **dict(zip(names, sizes, strict=True)), **more}


def _roberta(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM"],
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


_LLAMA_32 = {"max_position_embeddings": 131072, "tie_word_embeddings": True}
_SMOLLM2 = {"max_position_embeddings": 8192, "tie_word_embeddings": True}

KNOWN_SHAPES: dict[str, dict[str, Any]] = {
    "meta-llama/Meta-Llama-3-8B": _llama(4096, 14336, 32, 32, 8, 128256, max_position_embeddings=8192),
    "meta-llama/Llama-3.2-1B": _llama(2048, 8192, 16, 32, 8, 128256, head_dim=64, **_LLAMA_32),
    "meta-llama/Llama-3.2-3B": _llama(3072, 8192, 28, 24, 8, 128256, head_dim=128, **_LLAMA_32),
    "microsoft/Phi-3-mini-4k-instruct": _decoder(
        "phi3",
        "Phi3ForCausalLM",
        (3072, 8192, 32, 32, 32, 32064),
        max_position_embeddings=4096,
        sliding_window=2047,
        bos_token_id=1,
        eos_token_id=32000,
        pad_token_id=32000,
    ),
    "FacebookAI/roberta-base": _roberta(768, 3072, 12, 12),
    "FacebookAI/roberta-large": _roberta(1024, 4096, 24, 16),
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, 8),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, 8),
    "google/gemma-3-1b-it": _decoder(
        "gemma3_text",
        "Gemma3ForCausalLM",
        (1152, 6912, 26, 4, 1, 262144),
        head_dim=256,
        max_position_embeddings=32768,
        sliding_window=512,
        tie_word_embeddings=True,
    ),
    "HuggingFaceTB/SmolLM2-135M": _llama(576, 1536, 30, 9, 3, 49152, **_SMOLLM2),
    "HuggingFaceTB/SmolLM2-360M": _llama(960, 2560, 32, 15, 5, 49152, **_SMOLLM2),
    "HuggingFaceTB/SmolLM2-1.7B": _llama(2048, 8192, 24, 32, 32, 49152, **_SMOLLM2),
    "openai-community/gpt2": {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
}
"""By the name on the hub."""


def known_config(name: str) -> PretrainedConfig:
    """The configuration of a model of the table, as far as its shapes go."""
    settings = dict(KNOWN_SHAPES[name])
    config: PretrainedConfig = AutoConfig.for_model(settings.pop("model_type"), **settings)
    return config
