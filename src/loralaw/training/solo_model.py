"""The model of a cell that trains alone: what the Trainer trains, what is measured, what is saved."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from loralaw.miub import LayerStatistics
from loralaw.miub.scratch import Scratch
from loralaw.spec import Cell
from loralaw.tasks import EncodedQuestions
from loralaw.training.cell_settings import dtype_of
from loralaw.training.choice_scores import score_choices
from loralaw.training.frozen_base import FrozenBase, output_head
from loralaw.training.head_loss import Head
from loralaw.training.own_model import LayerReport, OwnModel
from loralaw.training.scores import Scores, join_rows, row_blocks, score_rows
from loralaw.training.tree_rows import TreeRows


class SoloModel:
    """One cell's language model: a base with an adapter in it, or for full fine-tuning one whose every weight learns.

    It is an `OwnModel`, so that the base stays as it was.

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
        self._own = OwnModel(base, cell)
        self._base = FrozenBase(self._own.model, dtype_of(cell))  # what is hung in later runs with it
        self._own.adapt()
        self.trained: Any = self._own.trained
        """What the Trainer trains."""
        with self._own.all_used(), torch.no_grad():  # as in a pack
            self._hidden_states(torch.zeros(1, 2, dtype=torch.int64))

    @property
    def device(self) -> torch.device:
        """Where the base was."""
        device: torch.device = self._base.device
        return device

    @torch.no_grad()
    def score(self, ids: Tensor, labels: Tensor) -> Scores:
        """As `Pack.score`, of the one cell."""
        head, blocks = self._head(), []
        for rows in row_blocks(ids):
            hidden = self._hidden_states(ids[rows])
            blocks.append(score_rows(hidden, head, labels[rows].to(self.device), self.keys))
        return join_rows(blocks)

    @torch.no_grad()
    def score_choices(self, questions: EncodedQuestions) -> Tensor:
        """As `Pack.score_choices`, of the one cell."""
        config = self._own.model.config
        return score_choices(questions, self._hidden_of, 1, self._head(), config, self._hidden_of)

    @torch.no_grad()
    def probe(self, ids: Tensor, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        """As `Pack.probe`, of the one cell; z is α ⊙ (Wx + b) where there is a row scale. Without adapter: nothing."""
        scratch = Scratch()
        for rows in row_blocks(ids):
            report = LayerReport(self.keys[0], token_mask[rows], document[rows], statistics)
            with self._own.reporting(report, scratch):
                self._hidden_states(ids[rows])

    def effective_ranks(self, key: str) -> dict[str, float]:
        """Of the adapter, by layer; empty where there is none."""
        return self._own.effective_ranks()

    def save(self, folder: Path, tokenizer: Any) -> None:
        """As `OwnModel.save`.

        Raises:
            StorageError: the disk refused.
        """
        if self._own.is_full:
            self._base.restore()  # the name of the attention that we train with means nothing elsewhere
        self._own.save(folder, tokenizer)

    def _head(self) -> Head:
        return output_head(self._own.model, self._base.dtype)

    def _hidden_states(self, ids: Tensor) -> Tensor:
        self._own.model.eval()
        return self._base.hidden_states(ids.to(self.device))

    def _hidden_of(self, rows: TreeRows) -> Tensor:
        self._own.model.eval()
        rows = rows.to(self.device)
        return self._base.hidden_states(rows.ids, rows.mask, rows.positions, rows.before)
