"""A pass of some data through a model, whose layers report what they compute."""

from typing import Any

import torch
from torch import Tensor, nn

from loralaw.miub.adapted_layers import AdaptedLayer
from loralaw.miub.batch_tokens import BatchTokens
from loralaw.miub.layer_statistics import LayerStatistics
from loralaw.tuners.peft_surface import base_model_of


class ProbePass:
    """One pass of the data through the model.

    Args:
        statistics: what the tokens of every layer are added to.
        adapter: the key under which they are added.
    """

    def __init__(self, statistics: LayerStatistics, adapter: str) -> None:
        self.statistics, self.adapter = statistics, adapter
        self.n_tokens = self.n_sequences = 0
        self.unseen: set[str] = set()
        self._tokens = BatchTokens(torch.empty(0, 0, dtype=torch.bool), 0)
        self._n_rows = 0

    @torch.no_grad()
    def run(self, model: nn.Module, batches: list[dict[str, Tensor]], extra: dict[str, Any]) -> None:
        """Run every batch through the model, while `LayerHooks` call `add`.

        Args:
            model: in evaluation mode.
            batches: (rows, length) tensors by the names that the model's forward knows.
            extra: more inputs of the forward.
        """
        device = next(base_model_of(model).parameters()).device
        for batch in batches:
            ids = batch["input_ids"]
            mask = batch.get("attention_mask", torch.ones_like(ids)) != 0
            self._tokens = BatchTokens(mask.to(device), self._n_rows)
            self._n_rows += len(ids)
            self.n_tokens += self._tokens.n_tokens
            self.n_sequences += self._tokens.n_sequences
            model(**{name: value.to(device) for name, value in batch.items()}, **extra)

    def add(self, layer: AdaptedLayer, base: Tensor | None, adapter: Tensor | None) -> None:
        """Take what a layer has computed for the batch that is running: z and u, or None for one that was not seen."""
        if base is None or adapter is None or layer.name in self.unseen:
            self.unseen.add(layer.name)
            self.statistics.forget(layer.name)
            return
        features, sequence = self._tokens.of([base, adapter])
        if len(features[0]):
            z, u = features
            self.statistics.update(layer.name, [self.adapter], z[None], u[None], sequence)

    def why_not(self, name: str) -> str | None:
        """Why a layer has no numbers, if it has none."""
        if name in self.unseen:
            return "what its adapter adds could not be seen from outside"
        return self.statistics.why_not(name, self.adapter)
