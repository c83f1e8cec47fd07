"""A pass of some data through a model, whose layers report what they compute."""

from typing import Any

import torch
from torch import Tensor, nn

from loralaw.miub.adapted_layers import AdaptedLayer, base_model_of
from loralaw.miub.batch_tokens import BatchTokens
from loralaw.miub.layer_statistics import LayerStatistics

TOKENS_NEEDED = 2
"""One token carries no information, whatever a layer does."""


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
        # Features of layers that have seen too few tokens to be measured, if they stay the only ones.
        self._waiting: dict[str, tuple[list[Tensor], Tensor | None]] = {}
        self._started: set[str] = set()

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
        if base is None or adapter is None:
            self.unseen.add(layer.name)
            return
        features, sequence = self._tokens.of([base, adapter])
        if layer.name not in self._started:
            features, sequence = self._joined(layer.name, features, sequence)
            if len(features[0]) < TOKENS_NEEDED:
                self._waiting[layer.name] = features, sequence
                return
            self._started.add(layer.name)
        if len(features[0]):
            z, u = features
            self.statistics.update(layer.name, [self.adapter], z[None], u[None], sequence)

    def _joined(self, name: str, features: list[Tensor], sequence: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        if name not in self._waiting:
            return features, sequence
        before, sequence_before = self._waiting.pop(name)
        joined = [torch.cat(pair) for pair in zip(before, features, strict=True)]
        if sequence is None or sequence_before is None:
            return joined, None
        return joined, torch.cat([sequence_before, sequence])

    def why_not(self, name: str) -> str | None:
        """Why a layer has no numbers, if it has none."""
        if name in self.unseen:
            return "what its adapter adds could not be seen from outside"
        if name in self._started:
            return None
        seen = len(self._waiting[name][0][0]) if name in self._waiting else 0
        return f"it was given {seen} token{'' if seen == 1 else 's'} of these data; {TOKENS_NEEDED} are needed"
