"""Small models of every kind of layer that α-LoRA knows, and ways to give their adapters numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from loralaw.tuners import ROW_SCALE, AlphaLoraConfig

VOCABULARY = 50
IDS = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}


def with_biases(model: nn.Module) -> nn.Module:
    """Transformers begins with biases of 0, which no row scale changes."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def llama() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_key_value_heads=2, attention_bias=True, initializer_range=0.2, **SMALL
    )
    return with_biases(LlamaForCausalLM(config))


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, intermediate_size=48, num_labels=3, **SMALL)
    return with_biases(BertForSequenceClassification(config))


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return with_biases(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY)))


class Convolutions(nn.Module):
    """One convolution of each dimension, with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv1d(3, 6, 3), nn.Conv2d(3, 6, 1), nn.Conv3d(3, 6, 2, padding=1)

    def forward(self, input_ids: Tensor) -> Tensor:
        signal = torch.sin(torch.arange(2 * 3 * 64.0) * 0.37 + input_ids.sum()).view(2, 3, 4, 4, 4)
        parts = self.one(signal.flatten(2)), self.two(signal.flatten(3)), self.three(signal)
        return torch.cat([part.flatten(1) for part in parts], dim=1)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return Convolutions().eval()


@dataclass(frozen=True)
class Case:
    """A base model and what is adapted in it."""

    base: Callable[[], nn.Module]
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> AlphaLoraConfig:
        return AlphaLoraConfig(**{"r": 4, "lora_alpha": 8, **self.settings, **changes})

    def adapted(self, **changes: Any) -> nn.Module:
        torch.manual_seed(1)
        return get_peft_model(self.base(), self.config(**changes)).eval()


_LANGUAGE = {"task_type": "CAUSAL_LM"}
CASES = {
    "linear": Case(llama, {"target_modules": ["q_proj", "v_proj", "down_proj"], **_LANGUAGE}),
    "all-linear, rslora": Case(llama, {"target_modules": "all-linear", "use_rslora": True, **_LANGUAGE}),
    "recompute": Case(llama, {"target_modules": ["q_proj", "o_proj"], "row_scale_memory": "recompute", **_LANGUAGE}),
    "adapter bias": Case(llama, {"target_modules": ["q_proj", "v_proj"], "lora_bias": True, **_LANGUAGE}),
    "embedding": Case(llama, {"target_modules": ["embed_tokens", "v_proj"], **_LANGUAGE}),
    "Conv1D": Case(gpt2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, **_LANGUAGE}),
    "Conv1D, recompute": Case(
        gpt2, {"target_modules": ["c_fc"], "fan_in_fan_out": True, "row_scale_memory": "recompute", **_LANGUAGE}
    ),
    "classifier": Case(bert, {"target_modules": ["query", "dense"], "task_type": "SEQ_CLS"}),
    "convolutions": Case(convolutions, {"target_modules": ["one", "two", "three"]}),
}


def output(model: nn.Module, **options: Any) -> Tensor:
    result = model(input_ids=IDS, **options)
    return (result if isinstance(result, Tensor) else result.logits).detach()


def as_if_trained(model: nn.Module, adapter: str = "default", seed: int = 1) -> nn.Module:
    """Numbers as after a training; two rows of every α cannot be divided by."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ROW_SCALE in name and f".{adapter}." in name:
                parameter.copy_(1 + 0.4 * torch.randn(parameter.shape, generator=random))
                parameter[:2] = torch.tensor([0.0, 1e-4])
            elif "lora_" in name and (f".{adapter}." in name or name.endswith(f".{adapter}")):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
    return model
