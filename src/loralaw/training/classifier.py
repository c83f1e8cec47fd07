"""A cell's model with a classification head: what the Trainer trains, what is measured, what is saved."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loralaw.miub import LayerStatistics
from loralaw.miub.scratch import Scratch
from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.tasks import LabelledRows
from loralaw.training.cell_settings import dtype_of
from loralaw.training.own_model import LayerReport, OwnModel
from loralaw.training.targets import head_of

BATCH_TOKENS = 4096
"""Tokens, padding included, that are scored at once."""
_HEAD_DEVIATION = 0.02  # as BERT, RoBERTa and Llama draw theirs


class Classifier:
    """One cell's model: a base with a head on top that learns in any method, and an adapter unless all learns.

    Args:
        base: the base model with its head; it is not touched. The first weights of a new head are drawn by the cell's
            seed; one that came trained begins as it came.
        cell: one cell, of any method.

    Raises:
        ModelError: targets that the model does not have, or layers that it never calls.
        InputError: the model is quantised in a way that the method cannot train on.
    """

    def __init__(self, base: BaseModel, cell: Cell) -> None:
        self.keys = (cell.key,)
        self._dtype = dtype_of(cell)
        self._own = OwnModel(base.model, cell)
        if base.has_new_head:
            _draw_head(self._own.model, cell.seed)
        self._own.adapt()
        self.trained: Any = self._own.trained
        """What the Trainer trains."""

    @torch.no_grad()
    def outputs(self, rows: LabelledRows) -> Tensor:
        """(rows, labels) float32 logits, or predicted values of a regression, on the CPU; without any dropout."""
        found = [self._forward(rows, block).float().cpu() for block in _blocks(rows)]
        return torch.cat(found)

    @torch.no_grad()
    def probe(self, rows: LabelledRows, statistics: LayerStatistics) -> None:
        """Add every adapted layer's base output z and adapter output u to statistics; nothing without an adapter.

        Raises:
            ModelError: an adapted layer that the model never calls.
        """
        scratch = Scratch()
        with self._own.all_used():
            for block in _blocks(rows) if self._own.adapted_layers() else ():
                mask = rows.trimmed(block)["attention_mask"].bool()
                report = LayerReport(self.keys[0], mask, rows.document[block], statistics)
                with self._own.reporting(report, scratch):
                    self._forward(rows, block)

    def effective_ranks(self, key: str) -> dict[str, float]:
        """Of the adapter, by layer; empty where there is none."""
        return self._own.effective_ranks()

    def save(self, folder: Path, tokenizer: Any) -> None:
        """As `OwnModel.save`; the head is part of both."""
        self._own.save(folder, tokenizer)

    def _forward(self, rows: LabelledRows, block: slice) -> Tensor:
        self.trained.eval()
        device = self._own.model.device
        inputs = {name: tensor.to(device) for name, tensor in rows.trimmed(block).items()}
        mixed = self._dtype != torch.float32
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
            logits: Tensor = self.trained(**inputs)["logits"]
        return logits


def _draw_head(model: PreTrainedModel, seed: int) -> None:
    """New numbers for the head: weights of a normal distribution, biases 0."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        head = head_of(model)
        assert head is not None  # as `load_base_model` gives it
        for module in head.modules():
            if isinstance(module, nn.Linear):  # new parameters, as the old ones are also the base's
                module.weight = nn.Parameter(torch.empty_like(module.weight).normal_(0.0, _HEAD_DEVIATION))
                if module.bias is not None:
                    module.bias = nn.Parameter(torch.zeros_like(module.bias))


def _blocks(rows: LabelledRows) -> list[slice]:
    """Rows that go through the model together."""
    n_rows = max(1, BATCH_TOKENS // rows.inputs["input_ids"].shape[1])
    return [slice(at, at + n_rows) for at in range(0, len(rows), n_rows)]
