"""The base model in training: checked, put into a known state, and given back as it was."""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from loralaw.errors import InputError, ModelError
from loralaw.models import is_sharded, let_go, whole
from loralaw.training import attention
from loralaw.training.head_loss import Head
from loralaw.training.packed_linear import PackedLinear

DTYPES = (torch.float32, torch.bfloat16)
_PLAIN: Mapping[str, Any] = MappingProxyType({"use_cache": False})


class FrozenBase:
    """A causal language model whose weights do not change and whose own dropout is off.

    The base runs in eval mode for as long as it is here. Dropout of the base (GPT-2 has it) would draw from one stream
    that all cells share; and a frozen model's dropout belongs to its pretraining. Only adapter dropout is active
    in training.

    Args:
        model: on one device.
        dtype: of the products. bfloat16 gives the arithmetic of bfloat16 autocast.
        has_adapters: the layers of the model may hold PEFT's adapters already, which stay; else they may not.

    Raises:
        ModelError: a model that packing would compute wrongly; see `check_model`.
        InputError: an unsupported dtype.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype, has_adapters: bool = False) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype}; accepted: {', '.join(map(str, DTYPES))}")
        check_structure(model, has_adapters)
        self.model, self.dtype, self.device = model, dtype, model.device
        self._training = {module: module.training for module in model.modules()}
        self._requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._attention = model.config._attn_implementation
        try:
            model.eval().requires_grad_(False)
            if dtype != torch.float32 and self.device.type == "cpu" and self._attention == "sdpa":
                attention.register()
                model.set_attn_implementation(attention.FLOAT32_SDPA)
            check_behaviour(model)
        except BaseException:
            self.restore()
            raise

    @cached_property
    def head(self) -> Head:
        """The frozen output head, cast once."""
        return output_head(self.model, self.dtype)

    def hidden_states(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        before: Cache | None = None,
    ) -> Tensor:
        """(rows, length) token ids -> (rows, length, hidden) before the head.

        Without an attention mask: padding is on the right, and a causal model never looks there.

        Args:
            ids: on the model's device, as the others.
            mask: (rows, 1, length, length), added to the scores of attention, where tokens are not to see all before
                them; with positions.
            positions: (rows, length), the place that each token is taken to have in its row; with a mask.
            before: what attention keeps of tokens before these, which are columns of the mask too; or an empty one, to
                keep that of these.
        """
        mixed = self.dtype != torch.float32
        settings: dict[str, Any] = {"use_cache": before is not None}
        if mask is not None:
            settings |= {"attention_mask": mask.to(self.model.dtype), "position_ids": positions}
        if before is not None:
            settings["past_key_values"] = before
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=mixed):
            return _hidden_states(self.model, ids, settings)

    def restore(self) -> None:
        """Undo everything but what the pack itself replaced."""
        for module, training in self._training.items():
            module.training = training
        for parameter, requires_grad in self._requires_grad.items():
            parameter.requires_grad_(requires_grad)
        if self.model.config._attn_implementation != self._attention:
            self.model.set_attn_implementation(self._attention)


def output_head(model: PreTrainedModel, dtype: torch.dtype) -> Head:
    """The model's output head as it is now, in the type of the products."""
    head = model.get_output_embeddings()
    weight, bias = whole(head.weight.detach()), None if head.bias is None else whole(head.bias.detach()).to(dtype)
    return Head(weight.to(dtype), bias)


def check_structure(model: PreTrainedModel, has_adapters: bool = False) -> None:
    """Refuse what can be seen without running the model.

    Raises:
        ModelError: adapters or a pack are in the model already, or it is an encoder-decoder, without an output head,
            with a quantised one, or spread over devices.
    """
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise ModelError("this model is inside another Pack: call that pack's unload() first")
    is_adapted = not has_adapters and any(hasattr(module, "lora_A") for module in model.modules())
    if not isinstance(model, PreTrainedModel) or is_adapted:
        raise ModelError(
            f"{type(model).__name__} is not a plain transformers model: give the base model without adapters "
            "(PEFT's unload() or merge_and_unload() returns it)"
        )
    if model.config.is_encoder_decoder or not isinstance(model.get_output_embeddings(), nn.Linear):
        raise ModelError(f"{type(model).__name__} is not a causal language model with a linear output head")
    if not model.get_output_embeddings().weight.is_floating_point():
        raise ModelError(
            "the model's output head is quantised, and the loss is taken straight from the head: quantise the other "
            "layers only"
        )
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1 or "meta" in {device.type for device in devices}:
        raise ModelError(f"the model lies on {sorted(map(str, devices))}: move it to one device with model.to(...)")


@torch.no_grad()
def check_behaviour(model: PreTrainedModel) -> None:
    """Refuse models that packing would compute wrongly; seen by running four tokens.

    Raises:
        ModelError: a token sees later ones (padding would then change the results), or the logits are not exactly the
            head's output on the last hidden state (soft caps, scales: the loss from the hidden states would be wrong).
    """
    head = model.get_output_embeddings()
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=model.device) % len(head.weight)
    hidden = _hidden_states(model, ids)
    if not _close(hidden[0, :3], hidden[1, :3]):
        raise ModelError(
            f"{type(model).__name__} is not causal: its tokens see later ones; packed training needs a causal model"
        )
    seen: dict[str, Tensor] = {}

    def enlarge(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        # A soft cap hardly moves the small logits of four arbitrary tokens, so make them large.
        seen["hidden"], seen["logits"] = inputs[0], output * (100.0 / output.abs().max().clamp_min(1e-6))
        return seen["logits"]

    hook = head.register_forward_hook(enlarge)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
        if is_sharded(model):
            let_go(model)
    if not seen or not _close(seen["hidden"], hidden) or not torch.equal(logits.float(), seen["logits"].float()):
        raise ModelError(
            f"{type(model).__name__} changes its hidden states before the head or its logits after it (a soft cap or a "
            "scale): packed training takes the loss straight from the head; choose a model without it"
        )


def _hidden_states(model: PreTrainedModel, ids: Tensor, settings: Mapping[str, Any] = _PLAIN) -> Tensor:
    if is_sharded(model):
        return _hidden_states_on_the_way(model, ids, settings)
    hidden: Tensor = model.base_model(input_ids=ids, **settings)[0]
    return hidden


def _hidden_states_on_the_way(model: PreTrainedModel, ids: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Through the head of one token as well: a sharded model is gathered right only where it runs from end to end."""
    seen: list[Tensor] = []
    hook = model.base_model.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    try:
        model(input_ids=ids, logits_to_keep=1, **settings)
    finally:
        hook.remove()
        let_go(model)
    return seen[0]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return torch.allclose(one.float(), other.float(), rtol=0.0, atol=1e-3 * float(other.abs().max()))
