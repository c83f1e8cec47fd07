"""Words of `target_modules` mean the same part in every architecture, and PEFT adapts exactly those layers."""

import pytest
import torch
from architectures import CAUSAL, CLASSIFIERS, DECODERS_AS_CLASSIFIERS, small
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from transformers import MambaConfig, MambaForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

from loralaw.errors import ModelError
from loralaw.training import resolve_target_modules, targeted_layers
from loralaw.training.target_words import WORDS, linear_layers

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SPLIT = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}
FUSED = {"qkv_proj", "o_proj"}, {"gate_up_proj", "down_proj"}
CONV1D = {"attn.c_attn", "attn.c_proj"}, {"mlp.c_fc", "mlp.c_proj"}
ENCODER = {"self.query", "self.key", "self.value", "attention.output.dense"}, {"intermediate.dense", "output.dense"}
PARTS = {"phi3": FUSED, "gpt2": CONV1D, "bert": ENCODER, "roberta": ENCODER}


def layers_with(model: PreTrainedModel, word: str) -> set[str]:
    """That an adapter is in when PEFT is given what the word means."""
    targets = resolve_target_modules(model, word)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    found = {name for name, module in adapted.base_model.model.named_modules() if isinstance(module, LoraLayer)}
    adapted.unload()
    return found


@pytest.mark.parametrize("name", [*CAUSAL, *CLASSIFIERS, *DECODERS_AS_CLASSIFIERS])
def test_words_mean_the_same_parts_everywhere(name: str) -> None:
    model = small(name)
    attention, mlp = (set(targeted_layers(model, word)) for word in ("attention", "mlp"))
    of_attention, of_mlp = PARTS.get(model.config.model_type, SPLIT)
    for layers, ends in ((attention, of_attention), (mlp, of_mlp)):
        assert len(layers) == model.config.num_hidden_layers * len(ends)
        assert all(layer.endswith(tuple(f".{end}" for end in ends)) for layer in layers)
    assert not attention & mlp
    assert attention | mlp == set(targeted_layers(model, "all-linear"))


@pytest.mark.parametrize("name", [*CAUSAL, *CLASSIFIERS, *DECODERS_AS_CLASSIFIERS])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
def test_peft_adapts_the_same_layers(name: str) -> None:
    model = small(name)
    for word in WORDS if model.config.model_type not in ("phi3", "smollm3") else WORDS[:3]:
        assert layers_with(model, word) == set(targeted_layers(model, word)), word


@pytest.mark.parametrize("name", [*CLASSIFIERS, *DECODERS_AS_CLASSIFIERS])
def test_heads_and_poolers_are_never_adapted(name: str) -> None:
    model = small(name)
    heads = linear_layers(model).head
    assert heads
    for word in WORDS if model.config.model_type not in ("phi3", "smollm3") else WORDS[:3]:
        assert not heads.keys() & targeted_layers(model, word).keys()
    for head in heads:
        with pytest.raises(ModelError, match="head"):
            targeted_layers(model, [head])


def test_names_are_as_short_as_they_can_be() -> None:
    assert resolve_target_modules(small("llama"), "attention") == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert resolve_target_modules(small("gpt2"), "mlp") == ["c_fc", "mlp.c_proj"]
    assert resolve_target_modules(small("bert"), "attention") == ["query", "key", "value", "attention.output.dense"]
    assert resolve_target_modules(small("llama"), "all-linear") == "all-linear"
    assert resolve_target_modules(small("llama"), ["q_proj"]) == ["q_proj"]


def test_blocks_without_a_name_and_models_without_such_parts() -> None:
    with torch.device("meta"):
        opt = OPTForCausalLM(OPTConfig(hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2))
        mamba = MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=60))
    assert resolve_target_modules(opt, "mlp") == ["fc1", "fc2"]
    assert resolve_target_modules(opt, "attention") == ["k_proj", "v_proj", "q_proj", "out_proj"]
    with pytest.raises(
        ModelError, match=r"target_modules is attention, but MambaForCausalLM has no such part: give all"
    ):
        targeted_layers(mamba, "attention")
    with pytest.raises(ModelError, match=r'PEFT has no choice for "phi3": give all-linear or attention or mlp, or a l'):
        targeted_layers(small("phi3"), "peft-default")
