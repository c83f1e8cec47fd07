"""The frozen base of a pack, its adapted layers replaced by those that serve all cells at once."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from loralaw.errors import InputError, ModelError
from loralaw.models import is_quantised
from loralaw.training.frozen_base import FrozenBase
from loralaw.training.head_loss import Head
from loralaw.training.llama_blocks import LlamaBlocks
from loralaw.training.pack_pass import PackPass, PassSlot
from loralaw.training.packed_linear import PackedLinear, PackedProduct


class PackedBase:
    """A model whose adapted layers ask the pass under way which rows belong to whom.

    Args:
        model: a causal language model of transformers, on its device; it belongs to the pack until `unload`.
        dtype: of the products, torch.float32 or torch.bfloat16.

    Raises:
        ModelError: a model that packing would compute wrongly.
        InputError: an unsupported dtype.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        if is_quantised(getattr(model, "config", None)):
            raise ModelError(
                "the model is quantised: packed training multiplies with the weights itself; load it unquantised, or "
                "train each cell alone (train_solo)"
            )
        self.model, self.dtype, self.device = model, dtype, model.device
        self._frozen = FrozenBase(model, dtype)
        self._slot = PassSlot()
        self._packed: dict[str, PackedLinear] = {}
        self._blocks: LlamaBlocks | None = None

    @property
    def head(self) -> Head:
        """The frozen output head."""
        return self._frozen.head

    def replace(self, names: Iterable[str]) -> None:
        """Put a packed layer in the place of each of these, which are in the model by these names; once."""
        for name in names:
            self._packed[name] = PackedLinear(name, self.model.get_submodule(name), self.dtype, self._slot)
            _set_layer(self.model, name, self._packed[name])
        if self.dtype == torch.bfloat16 and self.device.type == "cpu":
            self._blocks = LlamaBlocks(self.model, self._product)

    def run(
        self,
        ids: Tensor,
        current: PackPass,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        before: Cache | None = None,
    ) -> Tensor:
        """(rows, length) token ids of all cells -> (rows, length, hidden) before the head.

        The others are as of `FrozenBase.hidden_states`.
        """
        self._slot.current = current
        try:
            return self._frozen.hidden_states(ids.to(self.device), mask, positions, before)
        finally:
            self._slot.current = None
            current.forget_input()

    def check_is_used(self, seen: Iterable[str]) -> None:
        """Some models read a layer's weight instead of calling it; its adapter would then do nothing.

        Args:
            seen: the layers that a pass has called.

        Raises:
            ModelError: a packed layer is not among them.
        """
        if unused := self._packed.keys() - set(seen):
            raise ModelError(
                f"{type(self.model).__name__} never calls {sorted(unused)[:3]}: adapters there would do nothing; "
                "leave them out of target_modules"
            )

    def check_loaded(self) -> None:
        """Raise `InputError` after `unload`."""
        if not self._packed:
            raise InputError("this pack was unloaded: build a new Pack to go on")

    def unload(self) -> PreTrainedModel:
        """Give the model back exactly as it was. Again: does nothing."""
        if self._blocks is not None:
            self._blocks.restore()
        for name, packed in self._packed.items():
            _set_layer(self.model, name, packed.base)
        self._packed = {}
        self._frozen.restore()
        return self.model

    def _product(self, layers: Iterable[nn.Module]) -> PackedProduct:
        """One product of layers with the same input, packed or not."""
        names = {module: name for name, module in self.model.named_modules()}
        plain = {names[layer]: layer.base if isinstance(layer, PackedLinear) else layer for layer in layers}
        return PackedProduct(plain, self.dtype, self._slot)


def _set_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
