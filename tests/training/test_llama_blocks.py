"""The faster pieces of a Llama against its own, in value and gradient, and taken out again."""

from collections.abc import Callable, Sequence

import pytest
import torch
from plain_peft import LENGTH, VOCABULARY, cell, gpt2, llama, stream
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, LlamaRotaryEmbedding

from loralaw.training import Pack
from loralaw.training.llama_blocks import LONGEST, LlamaBlocks, RmsNorm, ShortAttention

torch.set_num_threads(1)
ROUNDING = 2.0**-8
"""Of a number to bfloat16, relative."""


def assert_close(ours: Tensor, exact: Tensor, times: float) -> None:
    """Within so many roundings of the largest number."""
    assert float((ours.double() - exact.double()).abs().max()) <= times * ROUNDING * float(exact.abs().max())


def test_norm() -> None:
    draw = torch.Generator().manual_seed(0)
    stock = LlamaRMSNorm(48, eps=1e-5)
    stock.weight.data = torch.randn(48, generator=draw)
    x = torch.randn(3, 5, 48, generator=draw) * 10
    gradient = torch.randn(3, 5, 48, generator=draw).bfloat16()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    normed = RmsNorm.apply(ours, stock.weight.detach(), 1e-5)
    expected = stock(theirs)
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed, expected.bfloat16(), rtol=2 * ROUNDING, atol=0)
    normed.backward(gradient)
    expected.backward(gradient.float())
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)  # nothing is rounded on the way back


@pytest.mark.parametrize("n_shared", [4, 2, 1])
def test_attention(n_shared: int) -> None:
    """Against the stock attention in float64, of the same rounded numbers; keys and values shared or not."""
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=n_shared, head_dim=16)
    config._attn_implementation = "eager"
    stock = LlamaAttention(config, 0).double()
    stock.o_proj = nn.Identity()
    draw = torch.Generator().manual_seed(n_shared)
    mixed = torch.randn(2, 9, (4 + 2 * n_shared) * 16, generator=draw).bfloat16()
    gradient = torch.randn(2, 9, 64, generator=draw).bfloat16()
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(9)[None])
    ours, theirs = mixed.clone().requires_grad_(), mixed.double().requires_grad_()
    q, k, v = theirs.split([64, n_shared * 16, n_shared * 16], -1)
    stock.q_proj, stock.k_proj, stock.v_proj = (_Given(each) for each in (q, k, v))
    later = torch.full((9, 9), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    expected, _ = stock(torch.zeros(2, 9, 64), (cos.double(), sin.double()), later)
    attended = ShortAttention.apply(ours, cos[0], sin[0], 4, stock.scaling)
    assert_close(attended.detach(), expected.detach(), 2)
    attended.backward(gradient)
    expected.backward(gradient.double())
    assert ours.grad is not None
    assert theirs.grad is not None
    assert_close(ours.grad, theirs.grad, 3)


class _Given(nn.Module):
    """In the place of a projection: what it would have made."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self._output = output

    def forward(self, _: Tensor) -> Tensor:
        return self._output


def separate(layers: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.cat([layer(x) for layer in layers], -1)


@pytest.mark.parametrize("length", [LENGTH, LONGEST + 1], ids=["short", "long"])
def test_a_whole_model_is_as_close_to_float32_as_autocast_is_and_comes_back(length: int) -> None:
    model, ids = llama().eval(), torch.arange(3 * length).view(3, length) % VOCABULARY
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    with torch.no_grad():
        exact = model(ids).logits
        with torch.autocast("cpu", torch.bfloat16):
            stock = model(ids).logits
            blocks = LlamaBlocks(model, separate)
            ours = model(ids).logits
        blocks.restore()
        blocks.restore()
        assert torch.equal(model(ids).logits, exact)
    assert 0 < float((ours - exact).norm()) < 1.5 * float((stock - exact).norm())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


def phi() -> PreTrainedModel:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    return PhiForCausalLM(PhiConfig(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **size))


def qwen() -> PreTrainedModel:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=1, **size))


class OtherAttention(LlamaAttention):
    """Whatever a subclass does, it is not known."""


def llama_of_another_kind() -> PreTrainedModel:
    model = LlamaForCausalLM(LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=60))
    model.model.layers[0].self_attn.__class__ = OtherAttention
    return model


@pytest.mark.parametrize("build", [gpt2, phi, qwen])
def test_other_models_are_left_alone(build: Callable[[], PreTrainedModel]) -> None:
    model = build()
    LlamaBlocks(model, separate)
    assert not any("forward" in vars(module) for module in model.modules())
    with Pack(model, [cell("a"), cell("b", 2)], dtype=torch.bfloat16, pad_to=LENGTH) as pack:
        losses = pack.step({key: stream(cell(key))[0] for key in pack.keys})
    assert all(0 < loss < 10 for loss in losses.values())


def test_subclasses_are_left_alone() -> None:
    model = llama_of_another_kind()
    LlamaBlocks(model, separate)
    changed = {type(module) for module in model.modules() if "forward" in vars(module)}
    assert changed == {LlamaRMSNorm}
