"""A model as it is, with an adapter in it or without, scored as the cells of a study are."""

from types import TracebackType
from typing import Any, Self

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from loralaw.errors import ModelError
from loralaw.miub import LayerStatistics
from loralaw.tasks import EncodedQuestions
from loralaw.training.choice_scores import score_choices
from loralaw.training.frozen_base import FrozenBase
from loralaw.training.scores import Scores, join_rows, row_blocks, score_rows
from loralaw.training.tree_rows import TreeRows

KEY = "base"


class PlainModel:
    """A causal language model that is only scored, until `close`; `Measurable`, as one cell without an adapter.

    Args:
        model: of transformers, on one device; or such a model inside a `PeftModel`, whose active adapters count.
        dtype: torch.float32 computes in the type of the weights, torch.bfloat16 in that of bfloat16 autocast.

    Raises:
        ModelError: a model whose losses cannot be taken from its hidden states; see `FrozenBase`.
        InputError: an unsupported dtype.
    """

    keys = (KEY,)

    def __init__(self, model: PreTrainedModel | PeftModel, dtype: torch.dtype = torch.float32) -> None:
        inner = _inside(model)
        self._base = FrozenBase(inner, dtype, has_adapters=inner is not model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._base.device
        return device

    @torch.no_grad()
    def score(self, ids: Tensor, labels: Tensor) -> Scores:
        """As `Pack.score`, of the model."""
        blocks = []
        for rows in row_blocks(ids):
            hidden = self._base.hidden_states(ids[rows].to(self.device))
            blocks.append(score_rows(hidden, self._base.head, labels[rows].to(self.device), self.keys))
        return join_rows(blocks)

    @torch.no_grad()
    def score_choices(self, questions: EncodedQuestions) -> Tensor:
        """As `Pack.score_choices`, of the model: (1, options)."""
        return score_choices(questions, self._hidden_of, 1, self._base.head, self._base.model.config, self._hidden_of)

    def probe(self, ids: Tensor, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        """Nothing: `loralaw.probe` measures the adapters of a model that was not trained here."""

    def effective_ranks(self, key: str) -> dict[str, float]:
        """Empty, as of a cell without an adapter."""
        return {}

    def close(self) -> None:
        """Give the model back exactly as it was. Again: does nothing."""
        self._base.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hidden_of(self, rows: TreeRows) -> Tensor:
        rows = rows.to(self.device)
        return self._base.hidden_states(rows.ids, rows.mask, rows.positions, rows.before)


def _inside(model: Any) -> PreTrainedModel:
    """The transformers model that a `PeftModel` has put its adapters into."""
    if not isinstance(model, PeftModel):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"the adapter is of the type {model.active_peft_config.peft_type.value}, which puts tokens of its own "
            "before every row: only adapters inside of layers, such as LoRA, can be scored"
        )
    return model.get_base_model()
