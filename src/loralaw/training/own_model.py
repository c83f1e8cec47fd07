"""A cell's own model: a base with an adapter in it, or one whose every weight learns; the base stays as it was."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from peft.tuners.lora.layer import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from loralaw.errors import InputError, ModelError, StorageError
from loralaw.miub import LayerStatistics
from loralaw.miub.adapted_layers import AdaptedLayer, adapted_layers
from loralaw.miub.batch_tokens import BatchTokens
from loralaw.miub.layer_hooks import LayerHooks
from loralaw.miub.scratch import Scratch
from loralaw.models import is_sharded
from loralaw.models.weights import no_progress_bars
from loralaw.spec import Cell
from loralaw.store import ADAPTER, MODEL
from loralaw.training.adapters import set_layout, write_adapter
from loralaw.training.cell_settings import peft_config_of
from loralaw.training.device_group import rank
from loralaw.training.quantised import why_not_on
from loralaw.tuners.peft_surface import quiet_peft


class LayerReport:
    """Adds what the layers report of some rows to statistics, at the real tokens only, clustered by document."""

    def __init__(self, key: str, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        self._key, self._document, self._statistics = key, document, statistics
        self._tokens = BatchTokens(token_mask, 0)

    def __call__(self, layer: AdaptedLayer, base: Tensor | None, adapter: Tensor | None) -> None:
        assert base is not None
        assert adapter is not None  # every linear layer shows both
        (z, u), row = self._tokens.of([base, adapter])
        sequence = None if row is None else self._document.to(row.device)[row]
        self._statistics.update(layer.name, [self._key], z[None], u[None], sequence)


class OwnModel:
    """One cell's model, on a copy of the base's modules.

    With an adapter, the copy shares the frozen weights and costs no memory; for full fine-tuning it has weights of its
    own. So whatever happens to it, the base is as it was. Only a base that is spread over devices cannot be copied, and
    is used up.

    Args:
        base: the base model; it is not touched.
        cell: one cell, of any method.

    Raises:
        ModelError: targets that the model does not have.
        InputError: the model is quantised in a way that the method cannot train on.
    """

    def __init__(self, base: PreTrainedModel, cell: Cell) -> None:
        if reason := why_not_on(base.config, cell.method["name"], base.device):
            raise InputError(reason)
        self.is_full = cell.method["name"] == "full"
        self._cell, self._use_cache = cell, getattr(base.config, "use_cache", True)
        self.model = self._own(base)
        """The base's modules, with the adapter's in them once `adapt` was called."""
        self.trained: Any = self.model
        """What the Trainer trains."""

    def adapt(self) -> None:
        """Put the adapter in, made by PEFT of the same draws as in a pack; for full, let all weights learn.

        The base stays in evaluation mode even when it is told to train: dropout of its own, as GPT-2 has it, belongs to
        the pretraining.
        """
        if self.is_full:
            self.model.requires_grad_(True)
        else:
            config = peft_config_of(self._cell, self.model)
            set_layout(config, self.model)
            torch.manual_seed(self._cell.seed)
            with quiet_peft():
                self.trained = get_peft_model(self.model, config)
        self._in_evaluation = _all_but_adapters(self.trained)
        self.trained.register_forward_pre_hook(self._set_modes)

    def adapted_layers(self) -> list[AdaptedLayer]:
        """Those with an adapter; none after full fine-tuning."""
        return [] if self.is_full else adapted_layers(self.trained)[0]

    def effective_ranks(self) -> dict[str, float]:
        """Of the adapter, by layer; empty where there is none."""
        return {layer.name: layer.effective_rank() for layer in self.adapted_layers()}

    @contextmanager
    def reporting(self, report: LayerReport, scratch: Scratch) -> Iterator[None]:
        """Inside the `with` block every adapted layer that is called reports its z and u."""
        with ExitStack() as hooks:
            for layer in self.adapted_layers():
                hooks.enter_context(LayerHooks(layer, report, scratch))
            yield

    @contextmanager
    def all_used(self) -> Iterator[None]:
        """Some models read a layer's weight instead of calling it; its adapter would then do nothing.

        Raises:
            ModelError: at the end of the `with` block, an adapted layer that was not called in it.
        """
        unused = {layer.name for layer in self.adapted_layers()}
        with ExitStack() as hooks:
            for layer in self.adapted_layers():
                see = partial(lambda name, *_: unused.discard(name), layer.name)
                hooks.callback(layer.module.register_forward_hook(see).remove)
            yield
        if unused:
            raise ModelError(
                f"{type(self.model).__name__} never calls {sorted(unused)[:3]}: adapters there would do nothing; "
                "leave them out of target_modules"
            )

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write `adapter` (as PEFT does) or, for full, `model` (as transformers does, with the tokenizer) below folder.

        All processes of a group call this, and the first one writes.

        Raises:
            StorageError: the disk refused.
        """
        if self.is_full:
            self._save_model(folder / MODEL, tokenizer)
            return
        if rank():
            return
        # Without the spread weights of the base: PEFT would gather all of them before it leaves them out.
        whole = {name: tensor for name, tensor in self.trained.state_dict().items() if not isinstance(tensor, DTensor)}
        state = get_peft_model_state_dict(self.trained, whole, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        write_adapter(self.trained.peft_config["default"], tensors, self.model.name_or_path, folder / ADAPTER)

    def _own(self, base: PreTrainedModel) -> PreTrainedModel:
        if is_sharded(base):
            return base
        return copy.deepcopy(base) if self.is_full else _copy_sharing_weights(base)

    def _set_modes(self, module: nn.Module, _: Any) -> None:
        """Before every forward, as the Trainer puts the whole model into training before every step."""
        for each in self._in_evaluation:
            each.training = False

    def _save_model(self, folder: Path, tokenizer: Any) -> None:
        self.model.config.use_cache = self._use_cache  # the Trainer switches it off
        try:
            with no_progress_bars():
                self.model.save_pretrained(folder, is_main_process=rank() == 0)
            if rank() == 0:
                tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"the model could not be written to {folder}: {error}. Every finished cell is safe; free some space, "
                "then run the same command to go on"
            ) from error


def _all_but_adapters(model: nn.Module) -> list[nn.Module]:
    adapters: set[nn.Module] = set()
    for layer in model.modules():
        if isinstance(layer, LoraLayer):  # itself too: DoRA looks at its mode before it drops anything
            adapters |= set(layer.modules()) - set(layer.get_base_layer().modules())
    return [module for module in model.modules() if module not in adapters]


def _copy_sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Modules of its own around the same numbers: what is hung into it or switched in it stays in the copy."""
    shared: dict[int, Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = _parameter_sharing_numbers(parameter)
    return copy.deepcopy(model, shared)  # type: ignore[arg-type]


def _parameter_sharing_numbers(parameter: nn.Parameter) -> Tensor:
    """Also a quantised one, which is of its library's own kind and knows more of itself than its numbers."""
    own = torch.Tensor._make_subclass(type(parameter), parameter.data, False)
    vars(own).update(vars(parameter))
    return own
