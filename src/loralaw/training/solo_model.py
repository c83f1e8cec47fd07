"""The model of a cell that trains alone: what the Trainer trains, what is measured, what is saved."""

import copy
from contextlib import ExitStack
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
from loralaw.models.base_model import no_progress_bars
from loralaw.spec import Cell
from loralaw.store import ADAPTER, MODEL
from loralaw.tasks import EncodedQuestions
from loralaw.training.adapters import set_layout, write_adapter
from loralaw.training.cell_settings import peft_config_of
from loralaw.training.choice_scores import score_choices
from loralaw.training.device_group import rank
from loralaw.training.frozen_base import FrozenBase, output_head
from loralaw.training.quantised import why_not_on
from loralaw.training.scores import Scores, join_rows, row_blocks, score_rows
from loralaw.training.tree_rows import TreeRows
from loralaw.tuners.peft_surface import quiet_peft


class SoloModel:
    """One cell's model: a base with an adapter in it, or for full fine-tuning a base whose every weight learns.

    It works on a copy of the base's modules. With an adapter, the copy shares the frozen weights and costs no memory;
    for full it has weights of its own. So whatever happens to it, the base is as it was. Only a base that is spread
    over devices cannot be copied, and is used up.

    Models that a pack refuses are refused here too, although those with a soft cap, say, could be trained: a study
    must not hold methods that were scored in different ways.

    Args:
        base: the base model; it is not touched.
        cell: one cell, of any method.

    Raises:
        ModelError: a model that cannot be trained or scored here, or targets that it does not have.
        InputError: the model is quantised in a way that the method cannot train on.
    """

    def __init__(self, base: PreTrainedModel, cell: Cell) -> None:
        self.keys = (cell.key,)
        self._is_full = cell.method["name"] == "full"
        if reason := why_not_on(base.config, cell.method["name"], base.device):
            raise InputError(reason)
        self._use_cache = getattr(base.config, "use_cache", True)
        self._model = self._own(base)
        dtype = torch.bfloat16 if cell.training["dtype"] == "bfloat16" else torch.float32
        self._base = FrozenBase(self._model, dtype)  # what is hung in later runs with it
        self.trained: Any = self._model.requires_grad_(True) if self._is_full else self._adapted(cell)
        """What the Trainer trains. Its base is in evaluation mode even when it is told to train: dropout of its own, as
        GPT-2 has it, belongs to the pretraining."""
        self._in_evaluation = _all_but_adapters(self.trained)
        self.trained.register_forward_pre_hook(self._set_modes)
        self._check_layers_are_used()

    @property
    def device(self) -> torch.device:
        """Where the base was."""
        device: torch.device = self._base.device
        return device

    @torch.no_grad()
    def score(self, ids: Tensor, labels: Tensor) -> Scores:
        """As `Pack.score`, of the one cell."""
        head, device, blocks = output_head(self._model, self._base.dtype), self._base.device, []
        for rows in row_blocks(ids):
            hidden = self._hidden_states(ids[rows])
            blocks.append(score_rows(hidden, head, labels[rows].to(device), self.keys))
        return join_rows(blocks)

    @torch.no_grad()
    def score_choices(self, questions: EncodedQuestions) -> Tensor:
        """As `Pack.score_choices`, of the one cell."""
        head = output_head(self._model, self._base.dtype)
        return score_choices(questions, self._hidden_of, 1, head, self._model.config, self._hidden_of)

    @torch.no_grad()
    def probe(self, ids: Tensor, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        """As `Pack.probe`, of the one cell; z is α ⊙ (Wx + b) where there is a row scale. Without adapter: nothing."""
        scratch = Scratch()
        for rows in row_blocks(ids):
            report = _Report(self.keys[0], token_mask[rows], document[rows], statistics)
            with ExitStack() as hooks:
                for layer in self._adapted_layers():
                    hooks.enter_context(LayerHooks(layer, report, scratch))
                self._hidden_states(ids[rows])

    def effective_ranks(self, key: str) -> dict[str, float]:
        """Of the adapter, by layer; empty where there is none."""
        return {layer.name: layer.effective_rank() for layer in self._adapted_layers()}

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write `adapter` (as PEFT does) or, for full, `model` (as transformers does, with the tokenizer) below folder.

        All processes of a group call this, and the first one writes.

        Raises:
            StorageError: the disk refused.
        """
        if self._is_full:
            self._save_model(folder / MODEL, tokenizer)
            return
        if rank():
            return
        # Without the spread weights of the base: PEFT would gather all of them before it leaves them out.
        whole = {name: tensor for name, tensor in self.trained.state_dict().items() if not isinstance(tensor, DTensor)}
        state = get_peft_model_state_dict(self.trained, whole, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        write_adapter(self.trained.peft_config["default"], tensors, self._model.name_or_path, folder / ADAPTER)

    def _own(self, base: PreTrainedModel) -> PreTrainedModel:
        if is_sharded(base):
            return base
        return copy.deepcopy(base) if self._is_full else _copy_sharing_weights(base)

    def _adapted(self, cell: Cell) -> nn.Module:
        """With an adapter, made by PEFT of the same draws as in a pack."""
        config = peft_config_of(cell)
        set_layout(config, self._model)
        torch.manual_seed(cell.seed)
        with quiet_peft():
            adapted: nn.Module = get_peft_model(self._model, config)
        return adapted

    def _set_modes(self, module: nn.Module, _: Any) -> None:
        """Before every forward, as the Trainer puts the whole model into training before every step."""
        for each in self._in_evaluation:
            each.training = False

    def _check_layers_are_used(self) -> None:
        """As in a pack: some models read a layer's weight instead of calling it."""
        unused, hooks = {layer.name for layer in self._adapted_layers()}, ExitStack()
        with hooks, torch.no_grad():
            for layer in self._adapted_layers():
                see = partial(lambda name, *_: unused.discard(name), layer.name)
                hooks.callback(layer.module.register_forward_hook(see).remove)
            self._hidden_states(torch.zeros(1, 2, dtype=torch.int64))
        if unused:
            raise ModelError(
                f"{type(self._model).__name__} never calls {sorted(unused)[:3]}: adapters there would do nothing; "
                "leave them out of target_modules"
            )

    def _hidden_states(self, ids: Tensor) -> Tensor:
        self._model.eval()
        return self._base.hidden_states(ids.to(self._base.device))

    def _hidden_of(self, rows: TreeRows) -> Tensor:
        self._model.eval()
        rows = rows.to(self.device)
        return self._base.hidden_states(rows.ids, rows.mask, rows.positions, rows.before)

    def _adapted_layers(self) -> list[AdaptedLayer]:
        return [] if self._is_full else adapted_layers(self.trained)[0]

    def _save_model(self, folder: Path, tokenizer: Any) -> None:
        self._base.restore()  # the name of the attention that we train with means nothing elsewhere
        self._model.config.use_cache = self._use_cache  # the Trainer switches it off
        try:
            with no_progress_bars():
                self._model.save_pretrained(folder, is_main_process=rank() == 0)
            if rank() == 0:
                tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"the model could not be written to {folder}: {error}. Every finished cell is safe; free some space, "
                "then run the same command to go on"
            ) from error


class _Report:
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
