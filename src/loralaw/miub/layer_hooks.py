"""Hooks that see what a LoRA layer computes: the frozen output and what the adapters add to it."""

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora.layer import Conv1d, Conv2d, Conv3d, Embedding, Linear
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from loralaw.miub.adapted_layers import AdaptedLayer
from loralaw.miub.scratch import Scratch

Report = Callable[[AdaptedLayer, Tensor | None, Tensor | None], None]
_LEAVES_BASE_ALONE = (Linear, Embedding, Conv1d, Conv2d, Conv3d)


class LayerHooks:
    """Hands over z and u after each call of one layer, and keeps neither.

        z = the output of the frozen layer (with its bias; times α in α-LoRA)
        u = s·BAh, summed over the active adapters; in DoRA all that its magnitude module adds to z

    For LoRA, DoRA and α-LoRA z + u is the layer's output, up to rounding.

    Args:
        layer: where to look.
        report: gets the layer, z and u as the model shapes them, valid until it returns; None for one that could not
            be seen.
        scratch: memory for u.
    """

    def __init__(self, layer: AdaptedLayer, report: Report, scratch: Scratch) -> None:
        self._layer, self._report, self._scratch = layer, report, scratch
        self._base: Any = None
        self._added: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "LayerHooks":
        try:
            self._register()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._base, self._added = [], None, None

    def _register(self) -> None:
        module = self._layer.module
        self._handles.append(module.base_layer.register_forward_hook(self._see_base))
        for adapter in self._layer.adapters:
            if adapter in module.lora_magnitude_vector:
                see = self._see_embedding_dora if isinstance(module, Embedding) else self._see_dora
                self._handles.append(module.lora_magnitude_vector[adapter].register_forward_hook(see))
            elif adapter in module.lora_B:
                self._handles.append(module.lora_B[adapter].register_forward_hook(self._seer(adapter)))
        self._handles.append(module.register_forward_hook(self._finish, with_kwargs=True))

    def _see_base(self, module: nn.Module, args: Any, output: Any) -> None:
        # Some quantised layers add the adapter into this very tensor afterwards.
        alone = isinstance(self._layer.module, _LEAVES_BASE_ALONE) or not isinstance(output, Tensor)
        self._base, self._added = output if alone else output.clone(), None

    def _seer(self, adapter: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, args: Any, output: Any) -> None:
            scaling = self._layer.module.scaling[adapter]
            if self._added is None and isinstance(scaling, float | int):
                memory = self._scratch.like("added", output.shape, output.dtype, output.device)
                self._added = torch.mul(output.detach(), scaling, out=memory)
            else:
                self._add(output * scaling)

        return see

    def _see_dora(self, module: nn.Module, args: Any, output: Any) -> None:
        self._add(output)

    def _see_embedding_dora(self, module: nn.Module, args: Any, output: Any) -> None:
        magnitude, added = output
        self._add((magnitude - 1) * self._base + self._embed_scaled(added))

    def _add(self, added: Tensor) -> None:
        self._added = added if self._added is None else self._added + added

    def _finish(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        layer, inputs = self._layer, args[0] if args else kwargs.get("x")
        if self._added is None and isinstance(module, Embedding):
            self._added = self._embedded(inputs)
        base, added = self._base, self._added
        self._base = self._added = None
        if not isinstance(base, Tensor) or added is None or base.shape != added.shape:
            self._report(layer, None, None)
            return
        if layer.has_channels_first:
            base, added = base.movedim(1, -1), added.movedim(1, -1)
        if layer.row_scale is not None:
            base = base * layer.row_scale
        self._report(layer, base, added)

    def _embedded(self, ids: Tensor) -> Tensor | None:
        """u of an embedding, whose two factors are parameters without a module."""
        module, added = self._layer.module, None
        for adapter in self._layer.adapters:
            rows = functional.embedding(ids, module.lora_embedding_A[adapter].T)
            part = self._embed_scaled(rows @ module.lora_embedding_B[adapter].T * module.scaling[adapter])
            added = part if added is None else added + part
        return added

    def _embed_scaled(self, added: Tensor) -> Tensor:
        """Some embeddings multiply their rows by a constant (Gemma's); PEFT multiplies what it adds by the same."""
        scale = getattr(self._layer.module.get_base_layer(), "embed_scale", None)
        return added if scale is None else added * scale
