"""The estimators and controls of every adapted layer, for several cells at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from loralaw.errors import InputError, did_you_mean
from loralaw.miub.cosine import Cosine
from loralaw.miub.estimators import column_of, statistics_named, stderr_column_of
from loralaw.miub.norm_ratio import NormRatio
from loralaw.miub.statistic import Statistic, stderr_of
from loralaw.miub.token_chunk import check_features, token_chunks

Row = dict[str, str | float | None]
_CONTROLS: tuple[type[Statistic], ...] = (NormRatio, Cosine)


class LayerStatistics:
    """Estimators by layer and cell, and beside them the controls `NormRatio` and `Cosine`.

    What several of them need of a token (the two softmaxes, the norms) is computed once.

    Args:
        estimators: names out of `loralaw.miub.STATISTICS`.

    >>> statistics = LayerStatistics()
    >>> statistics.update("layers.0.q_proj", ["a", "b"], torch.randn(2, 9, 4), torch.zeros(2, 9, 4))
    >>> [(row["layer"], row["miub_nats"], row["norm_ratio"]) for row in statistics.rows("b")]
    [('layers.0.q_proj', 0.0, 0.0)]
    """

    def __init__(self, estimators: Sequence[str] = ("channel", "jsd")) -> None:
        self._kinds = [*statistics_named(estimators), *_CONTROLS]
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}

    def update(
        self, layer: str, keys: Sequence[str], base: Tensor, adapter: Tensor, sequence: Tensor | None = None
    ) -> None:
        """Add tokens of one layer for a group of cells.

        Args:
            layer: the module's name in the base model.
            keys: the cells, in the order of the leading dimension.
            base: z, (cells, tokens, features), any floating type.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, at least 0: the number of each token's sequence; None: every token is its own.

        Raises:
            InputError: shapes that do not fit each other or the number of cells, or a cell that was seen in another
                group before (its numbers would be split).
        """
        check_features(base, adapter)
        if base.shape[:-2] != (len(keys),):
            raise InputError(
                f"{len(keys)} cells, but features of shape {tuple(base.shape)}: give (cells, tokens, features)"
            )
        self._group(layer, tuple(keys)).update(base, adapter, sequence)

    def rows(self, key: str) -> list[Row]:
        """One cell's layers, in the order in which the model runs them.

        Returns:
            A dict a layer: "layer" (module name), "n_tokens", each estimator's value and standard error ("miub_nats"
            and "miub_stderr_nats" for the channel bound, "jsd_nats", …; the standard error is None with one sequence),
            "norm_ratio" and "cosine" (no unit). nan where features were not finite.

        Raises:
            InputError: the cell was never measured, or on too few tokens.
        """
        return [
            {"layer": layer, "n_tokens": group.n_tokens, **group.values(index)}
            for layer, group, index in self._measured(key)
        ]

    def means(self, key: str) -> dict[str, float | None]:
        """Means over a cell's layers of the same numbers; a standard error is that of the mean over layers.

        The layers see the same sequences and are not independent: each block's influence is averaged over layers first.

        Raises:
            InputError: as `rows`.
        """
        rows, groups = self.rows(key), self._measured(key)
        means: dict[str, float | None] = {}
        for number, kind in enumerate(self._kinds):
            name = kind.name if kind in _CONTROLS else column_of(kind.name)
            means[name] = sum(float(row[name] or 0.0) for row in rows) / len(rows)
            if kind not in _CONTROLS:
                influence = torch.stack([group.influences[number][index].cpu() for _, group, index in groups]).mean(0)
                n_blocks = max(group.statistics[number].n_blocks() for _, group, _ in groups)
                means[stderr_column_of(kind.name)] = _or_none(stderr_of(influence, n_blocks))
        return means

    def _group(self, layer: str, keys: tuple[str, ...]) -> "_Group":
        if (layer, keys) not in self._groups:
            for other_layer, others in self._groups:
                if other_layer == layer and not set(others).isdisjoint(keys):
                    raise InputError(
                        f"the cells {list(keys)} of {layer} were measured in the group {list(others)} before: "
                        "start a new LayerStatistics when the pack changes"
                    )
            self._groups[layer, keys] = _Group([kind() for kind in self._kinds])
        return self._groups[layer, keys]

    def _measured(self, key: str) -> list[tuple[str, "_Group", int]]:
        found = [(layer, group, keys.index(key)) for (layer, keys), group in self._groups.items() if key in keys]
        if not found:
            known = sorted({name for _, keys in self._groups for name in keys})
            raise InputError(f'no cell "{key}" was measured; measured: {known}.{did_you_mean(key, known)}')
        return found


class _Group:
    """The statistics of one layer and the cells that share its leading dimension."""

    def __init__(self, statistics: list[Statistic]) -> None:
        self.statistics = statistics
        self._finished: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def n_tokens(self) -> int:
        return self.statistics[0].n_tokens

    @torch.no_grad()
    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None) -> None:
        self._finished = None
        for chunk in token_chunks(base, adapter, sequence, self.n_tokens):
            for statistic in self.statistics:
                statistic.add(chunk)

    @property
    def influences(self) -> list[Tensor]:
        return self._finish()[1]

    def values(self, index: int) -> dict[str, float | None]:
        row: dict[str, float | None] = {}
        for statistic, value, influence in zip(self.statistics, *self._finish(), strict=True):
            if isinstance(statistic, _CONTROLS):
                row[statistic.name] = float(value[index])
            else:
                row[column_of(statistic.name)] = float(value[index])
                row[stderr_column_of(statistic.name)] = _or_none(stderr_of(influence[index], statistic.n_blocks()))
        return row

    def _finish(self) -> tuple[list[Tensor], list[Tensor]]:
        """Values and influences of all statistics, for all cells at once; kept until more tokens come."""
        if self._finished is None:
            self._finished = [s.value() for s in self.statistics], [s.influence() for s in self.statistics]
        return self._finished


def _or_none(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)
