"""What lies between a Llama's linear layers, in fewer passes over memory: on a CPU in bfloat16 it is most of a step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import Cache
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, apply_rotary_pos_emb

from loralaw.training.attention import float32_sdpa

LONGEST = 128
"""Tokens of a row up to which attention by plain products is faster than the flash kernel, which is made for longer."""

Product = Callable[[Sequence[nn.Module]], Callable[[Tensor], Tensor]]
"""Makes one product of linear layers that have the same input, their outputs beside each other."""


class LlamaBlocks:
    """Gives a Llama's norms and attentions another `forward`, until `restore`.

    Only modules of exactly these classes, whose arithmetic is known; other models are left alone. The results are those
    of bfloat16 autocast up to rounding: norms, rotations and softmax are made in float32, and what a linear layer
    or a product of attention takes is rounded to bfloat16.

    Args:
        model: any model; its weights are frozen.
        product: makes one product of q, k and v.
    """

    def __init__(self, model: nn.Module, product: Product) -> None:
        self._changed: list[nn.Module] = []
        for module in list(model.modules()):
            if type(module) is LlamaRMSNorm:
                self._change(module, partial(_norm, module))
            elif type(module) is LlamaAttention:
                qkv = product([module.get_submodule(name) for name in ("q_proj", "k_proj", "v_proj")])
                self._change(module, partial(_attention, module, qkv))

    def restore(self) -> None:
        """Take the `forward`s out again; a second time does nothing."""
        for module in self._changed:
            del module.forward
        self._changed = []

    def _change(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        module.forward = forward  # type: ignore[method-assign]
        self._changed.append(module)


def _norm(module: LlamaRMSNorm, hidden_states: Tensor) -> Tensor:
    normed: Tensor = RmsNorm.apply(hidden_states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


def _attention(
    module: LlamaAttention,
    qkv: Callable[[Tensor], Tensor],
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    past_key_values: Cache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    mixed, n_heads = qkv(hidden_states), module.config.num_attention_heads
    if attention_mask is None and past_key_values is None and mixed.shape[1] <= LONGEST:
        cos, sin = (table[0].float() for table in position_embeddings)
        with torch.autocast(mixed.device.type, enabled=False):
            attended = ShortAttention.apply(mixed, cos, sin, n_heads, module.scaling)  # type: ignore[no-untyped-call]
    else:
        heads = _heads_first(mixed, module.head_dim)
        query, key, value = heads.tensor_split((n_heads, (n_heads + heads.shape[1]) // 2), dim=1)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:  # of tokens before these
            key, value = past_key_values.update(key, value, module.layer_idx)
        attended = float32_sdpa(module, query, key, value, attention_mask, scaling=module.scaling)[0].flatten(2)
    out: Tensor = module.o_proj(attended)
    return out, None


class RmsNorm(torch.autograd.Function):
    """w ⊙ x / √(mean x² + ε) of float32 x, rounded to bfloat16: what linear layers want; w is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed: Tensor = (x * scale).mul_(weight).to(torch.bfloat16)
        return normed

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        g = gradient.float().mul_(weight)
        along = torch.linalg.vecdot(g, x).unsqueeze(-1).mul_(scale.pow(3)).div_(-x.shape[-1])
        return g.mul_(scale).addcmul_(x, along), None, None


class ShortAttention(torch.autograd.Function):
    """Causal attention with rotary positions: (rows, length, q, k and v beside each other) -> (rows, length, heads·d).

        softmax(q̃ k̃ᵀ · scaling) v,   x̃ = x ⊙ cos + turn(x) ⊙ sin,   turn(x) = (-x₂, x₁) of the halves of a head

    Rotations, scores and softmax in float32; the other products in bfloat16, with float32 sums. Keys and values may
    have fewer heads than queries.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, n_heads: int, scaling: float) -> Tensor:
        rows, length, head = *qkv.shape[:2], cos.shape[-1]
        n_shared = (qkv.shape[-1] // head - n_heads) // 2
        cos, sin = (_beside(table, n_heads, n_shared, scaling) for table in (cos, sin))
        qk = qkv[..., : cos.shape[-1]].float()
        rotated = _heads_first(_turn(qk, head).mul_(sin).addcmul_(qk, cos), head)
        v = _heads_first(qkv[..., cos.shape[-1] :], head)
        q, k, v = (_repeated(each, n_heads) for each in (rotated[:, :n_heads], rotated[:, n_heads:], v))
        scores = torch.bmm(q, k.mT).add_(_later(length, q.device))
        p = torch.softmax(scores, -1, out=scores).to(qkv.dtype)
        ctx.save_for_backward(q.to(qkv.dtype), k.to(qkv.dtype), v, p, cos, sin)
        ctx.n_shared = n_shared
        return torch.bmm(p, v).view(rows, n_heads, length, head).transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        q, k, v, p, cos, sin = ctx.saved_tensors
        rows, length, head = *gradient.shape[:2], q.shape[-1]
        n_heads, n_shared = gradient.shape[-1] // head, ctx.n_shared
        g = _heads_first(gradient, head).flatten(0, 1)
        of_scores = torch._softmax_backward_data(torch.bmm(g, v.mT), p, -1, p.dtype)
        of_q, of_k, of_v = torch.bmm(of_scores, k), torch.bmm(of_scores.mT, q), torch.bmm(p.mT, g)
        of_qk = torch.empty(rows, length, n_heads + n_shared, head, device=q.device)
        of_qk[:, :, :n_heads] = of_q.view(rows, n_heads, length, head).transpose(1, 2)
        of_qk[:, :, n_heads:] = _summed(of_k, rows, n_shared)
        of_qk, both = of_qk.flatten(2), gradient.new_empty(rows, length, (n_heads + 2 * n_shared) * head)
        back = _turn(of_qk * sin, head)  # the transpose of turn is -turn
        both[..., : cos.shape[-1]] = of_qk.mul_(cos).sub_(back)
        both[..., cos.shape[-1] :] = _summed(of_v, rows, n_shared).flatten(2)
        return both, None, None, None, None


def _beside(table: Tensor, n_heads: int, n_shared: int, scaling: float) -> Tensor:
    """(length, d) -> (length, (heads of q and k)·d): the scale of the scores is in the part of q."""
    return torch.cat([(table * scaling).repeat(1, n_heads), table.repeat(1, n_shared)], -1)


def _heads_first(x: Tensor, head: int) -> Tensor:
    """(rows, length, heads·d) -> (rows, heads, length, d), a view."""
    return x.view(*x.shape[:2], -1, head).transpose(1, 2)


def _turn(x: Tensor, head: int) -> Tensor:
    """(-x₂, x₁) of every head, exactly: by a product, as copies of half heads are too short to be fast."""
    turn = torch.zeros(head, head, dtype=x.dtype, device=x.device)
    turn[head // 2 :, : head // 2].fill_diagonal_(-1)
    turn[: head // 2, head // 2 :].fill_diagonal_(1)
    return (x.view(-1, head) @ turn).view(x.shape)


def _later(length: int, device: torch.device) -> Tensor:
    """-inf where a token would see a later one."""
    return torch.full((length, length), -torch.inf, device=device).triu_(1)


def _repeated(x: Tensor, n_heads: int) -> Tensor:
    """(rows, heads of x, length, d) -> (rows·n_heads, length, d), contiguous."""
    return x.repeat_interleave(n_heads // x.shape[1], 1).flatten(0, 1) if x.shape[1] < n_heads else x.flatten(0, 1)


def _summed(x: Tensor, rows: int, n_shared: int) -> Tensor:
    """The gradient of `_repeated`: (rows·heads, length, d) -> (rows, length, n_shared, d)."""
    by_head = x.view(rows, n_shared, -1, *x.shape[1:])
    summed = by_head.squeeze(2) if by_head.shape[2] == 1 else by_head.float().sum(2)
    return summed.transpose(1, 2)
