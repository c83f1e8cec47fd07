"""What packing would compute wrongly is refused before any training, and the model stays as it was."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from plain_peft import LENGTH, VOCABULARY, cell, gpt2, llama
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from loralaw.errors import InputError, ModelError
from loralaw.training import Pack, n_params_trainable, smallest_targeted_dimension, targeted_layers
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.row_scale_protocol import RowScaleProtocol

# PEFT 0.21.2 reads an attribute that transformers 5.23 deprecates, whenever a PeftModel is made.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
}


def soft_capped() -> PreTrainedModel:
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=16, final_logit_softcapping=30.0))


def scaled() -> PreTrainedModel:
    return GraniteForCausalLM(GraniteConfig(**SMALL, num_key_value_heads=2, logits_scaling=8.0))


def not_causal() -> PreTrainedModel:
    return BertLMHeadModel(BertConfig(**SMALL, is_decoder=False))


def encoder_decoder() -> PreTrainedModel:
    return T5ForConditionalGeneration(T5Config(d_model=32, d_ff=48, num_layers=1, num_heads=2, vocab_size=VOCABULARY))


def quantised() -> PreTrainedModel:
    model = llama()
    model.config.quantization_config = {"load_in_4bit": True}
    return model


class Linear4bit(nn.Linear):
    """Stands for the linear layers of quantisation libraries, which derive from torch's."""


def quantised_layer() -> PreTrainedModel:
    model = llama()
    model.model.layers[0].mlp.up_proj = Linear4bit(32, 48)
    return model


def with_adapter() -> PreTrainedModel:
    model = llama()
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    return model


class ReadsWeight(nn.Module):
    """An attention output that is multiplied without being called."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.inner.weight)


def unused_layer() -> PreTrainedModel:
    model = llama()
    model.model.layers[0].mlp.up_proj = ReadsWeight(model.model.layers[0].mlp.up_proj)
    return model


class Regroups(nn.Module):
    """As a mixture of experts does: its inner layer sees some of the tokens."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(*x.shape[:-1], self.inner.out_features)
        chosen = torch.arange(x.shape[1]) % 2 == 0
        y[:, chosen] = self.inner(x[:, chosen])
        return y


def mixture() -> PreTrainedModel:
    model = llama()
    model.model.layers[0].mlp.up_proj = Regroups(model.model.layers[0].mlp.up_proj)
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (soft_capped, "soft cap"),
        (scaled, "scale"),
        (not_causal, "not causal"),
        (encoder_decoder, "not a causal language model"),
        (quantised, "quantised"),
        (quantised_layer, "up_proj is a Linear4bit"),
        (with_adapter, "without adapters"),
        (unused_layer, "never calls"),
        (mixture, "see every token once"),
    ],
)
def test_models_that_packing_would_compute_wrongly(build: object, message: str) -> None:
    model = build()  # type: ignore[operator]
    before = {name: id(module) for name, module in model.named_modules()}
    training = model.training
    with pytest.raises(ModelError, match=message):
        Pack(model, [cell("a")], pad_to=LENGTH)
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert model.training == training


def test_a_model_serves_one_pack_at_a_time() -> None:
    model = llama()
    with Pack(model, [cell("a")], pad_to=LENGTH), pytest.raises(ModelError, match="unload"):
        Pack(model, [cell("b")], pad_to=LENGTH)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"bias": "all"}, 'use "none"'),
        ({"init_lora_weights": "pissa"}, "frozen base"),
        ({"row_scale_tasks": ["one", "two"]}, "row_scale_tasks"),
        ({"train_row_scale": False}, "train_row_scale is False"),
    ],
)
def test_adapters_that_a_pack_cannot_hold(lora: dict[str, object], message: str) -> None:
    of_row_scale = {"row_scale": RowScaleProtocol()} if any("row_scale" in name for name in lora) else {}
    with pytest.raises(InputError, match=message):
        Pack(llama(), [cell("a", lora=lora, **of_row_scale)], pad_to=LENGTH)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_prj"], r'"q_prj" is no layer.*\'q_proj\', \'k_proj\'.*Did you mean "q_proj"'),
        (["q_proj", "embed_tokens"], "embed_tokens.*is a Embedding, not a linear layer"),
        (["lm_head"], "output head"),
        ([], "give one of all-linear, attention, mlp, peft-default, or a list"),
        ("q_proj", "give one of all-linear, attention, mlp, peft-default, or a list"),
    ],
)
def test_unknown_targets_name_what_exists(targets: list[str] | str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        targeted_layers(llama(), targets)


def test_targets_are_those_of_peft() -> None:
    for build, targets in ((llama, "all-linear"), (gpt2, "all-linear"), (llama, ["v_proj", "layers.1.mlp.down_proj"])):
        ours = targeted_layers(build(), targets)
        fan = {"fan_in_fan_out": build is gpt2}
        peft_model = get_peft_model(build(), LoraConfig(r=3, target_modules=targets, **fan))
        theirs = {n for n, m in peft_model.base_model.model.named_modules() if hasattr(m, "lora_A")}
        assert set(ours) == theirs


@pytest.mark.parametrize("build", [llama, gpt2])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora", LoraConfig),
        ("rslora", partial(LoraConfig, use_rslora=True)),
        ("dora", partial(LoraConfig, use_dora=True)),
        ("alpha-lora", AlphaLoraConfig),
    ],
)
def test_numbers_of_trained_parameters_are_those_of_peft(
    build: Callable[[], PreTrainedModel], name: str, kind: Callable[..., LoraConfig]
) -> None:
    for targets in ("all-linear", ["c_fc"] if build is gpt2 else ["v_proj", "layers.1.mlp.down_proj"]):
        config = kind(r=3, target_modules=targets, fan_in_fan_out=build is gpt2)
        expected, _ = get_peft_model(build(), config).get_nb_trainable_parameters()
        assert n_params_trainable(build(), {"name": name, "target_modules": targets}, 3) == expected


def test_full_fine_tuning_trains_everything_and_what_is_tied_once() -> None:
    model = llama()
    head, n_all = model.get_output_embeddings().weight, sum(p.numel() for p in model.state_dict().values())
    assert head is model.get_input_embeddings().weight
    assert n_params_trainable(model, {"name": "full"}, None) == n_all - head.numel()


def test_smallest_targeted_dimension() -> None:
    assert smallest_targeted_dimension(llama(), "all-linear") == ("model.layers.0.self_attn.k_proj", 32, 16)
    assert smallest_targeted_dimension(llama(), ["up_proj", "down_proj"]) == ("model.layers.0.mlp.up_proj", 32, 48)
    assert smallest_targeted_dimension(gpt2(), ["c_fc"]) == ("transformer.h.0.mlp.c_fc", 32, 128)
