"""Quantised layers: those whose LoRA keeps the row scale compute it, all others are refused by name."""

from typing import Any

import pytest
import torch
from adapted_models import CASES, IDS, as_if_trained, llama, output
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraModel
from peft.tuners.lora.aqlm import AqlmLoraLinear
from peft.tuners.lora.gptq import GPTQLoraLinear
from torch import Tensor, nn

from loralaw.errors import ModelError
from loralaw.tuners import AlphaLoraConfig, row_scale_parameters, row_scales

bitsandbytes = pytest.importorskip("bitsandbytes", reason="quantises layers on a processor")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*lora module to .-bit linear may get different generations"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]


def quantised(bits: int) -> nn.Module:
    """What transformers makes of a model that it loads in 4 or 8 bits."""
    model = llama()
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, _four(layer) if bits == 4 else _eight(layer))
    setattr(model, f"is_loaded_in_{bits}bit", True)
    return model


def _four(layer: nn.Linear) -> nn.Module:
    made = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, quant_type="nf4", compute_dtype=torch.float32
    )
    made.weight = bitsandbytes.nn.Params4bit(layer.weight.data.clone(), requires_grad=False, quant_type="nf4")
    made.bias = layer.bias
    # Where the processor has AVX-512 BF16, it would pack its weights anew at its first evaluation, and after that it
    # gives no gradient and cannot be merged.
    made.support_avx512bf16_for_cpu = False
    return made.to("cpu")


def _eight(layer: nn.Linear) -> nn.Module:
    made = bitsandbytes.nn.Linear8bitLt(
        layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False, threshold=0.0
    )
    made.load_state_dict(layer.state_dict())
    return made.to("cpu")


def _computes_with_its_weights(layer: Any) -> bool:
    x = torch.randn(2, layer.in_features)
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return relative(layer(x), x @ weight.T) < 1e-3


def adapted(bits: int, kind: type[LoraConfig] = AlphaLoraConfig, **changes: Any) -> nn.Module:
    torch.manual_seed(1)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return get_peft_model(quantised(bits), kind(**settings, **changes)).eval()


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_bitsandbytes_layers_keep_the_row_scale(bits: int, memory: str) -> None:
    model = adapted(bits, row_scale_memory=memory)
    assert torch.equal(output(model), output(adapted(bits, LoraConfig)))  # in 8 bits PEFT's LoRA is not quite the base
    as_if_trained(model)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    x = torch.randn(2, 5, 32)
    added = layer.lora_B["default"](layer.lora_A["default"](x)) * layer.scaling["default"]
    expected = row_scales(model)["model.layers.0.self_attn.q_proj"] * layer.base_layer(x) + added
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in row_scale_parameters(model).values())


@pytest.mark.parametrize(("bits", "error"), [(4, 0.35), (8, 0.05)])
def test_bitsandbytes_layers_merge_up_to_their_rounding(bits: int, error: float) -> None:
    """The merged weights are rounded to 4 or 8 bits again; without α they would be far off."""
    model = as_if_trained(adapted(bits))
    if bits == 4 and not _computes_with_its_weights(model.base_model.model.model.layers[0].self_attn.q_proj.base_layer):
        pytest.skip(
            "on this processor bitsandbytes multiplies with other numbers than it merges: rows below 64 features"
        )
    apart, base = output(model), output(quantised(bits))
    model.merge_adapter()
    assert relative(output(model), apart) < error < 0.5 * relative(base, apart)
    model.unmerge_adapter()
    assert relative(output(model), apart) < error


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_bias_on_bitsandbytes_is_refused(bits: int) -> None:
    with pytest.raises(ModelError, match=r"q_proj: lora_bias=True on a layer of bitsandbytes.*leave lora_bias out"):
        adapted(bits, lora_bias=True)


class PackedLinear(nn.Linear):
    """Stands in for a layer of gptqmodel, which needs a GPU to be made: what PEFT reads of it."""

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.qweight = nn.Parameter(torch.zeros(1), requires_grad=False)


def only(dispatched: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PEFT make this LoRA layer of every target, as its dispatch does for the layers of that library."""

    def make(config: Any, adapter_name: str, target: nn.Module, **kwargs: Any) -> nn.Module:
        kwargs.pop("device_map", None)
        return dispatched(target, adapter_name, config=config, **kwargs)

    monkeypatch.setattr(LoraModel, "_create_new_module", staticmethod(make))


def test_gptq_layers_keep_the_row_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    only(GPTQLoraLinear, monkeypatch)
    model = get_peft_model(nn.Sequential(PackedLinear()), AlphaLoraConfig(r=2, target_modules=["0"]))
    x, layer = torch.randn(4, 8), model.base_model.model[0]
    assert torch.equal(model(x), layer.base_layer(x))
    as_if_trained(model)
    added = layer.lora_B["default"](layer.lora_A["default"](x)) * layer.scaling["default"]
    torch.testing.assert_close(model(x), row_scales(model)["0"] * layer.base_layer(x) + added)


def test_layers_that_would_lose_the_row_scale_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """AQLM's LoRA never asks a variant: the row scale would be a parameter that does nothing."""
    only(AqlmLoraLinear, monkeypatch)
    with pytest.raises(ModelError, match=r"q_proj: PEFT's LoRA for this layer is AqlmLoraLinear, which would lose"):
        get_peft_model(llama(), CASES["linear"].config())
