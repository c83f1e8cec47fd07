"""The estimators and controls of every adapted layer, for several cells at once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from loralaw.errors import InputError, did_you_mean
from loralaw.miub.block_sums import BlockSums, Means, PerToken, stderr_of
from loralaw.miub.cosine import Cosine
from loralaw.miub.estimators import DEFAULT_ESTIMATORS, column_of, statistics_named, stderr_column_of
from loralaw.miub.norm_ratio import NormRatio
from loralaw.miub.scratch import Scratch
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import TokenChunk, check_features

Row = dict[str, str | float | None]
_FINISHED_AT_ONCE = 2**20
"""Kept numbers of the layers that are finished together; some three times as many are made of them."""
_CONTROLS: tuple[type[Statistic], ...] = (NormRatio, Cosine)


class LayerStatistics:
    """Estimators by layer and cell, and beside them the controls `NormRatio` and `Cosine`.

    What several of them need of a token (the two softmaxes, the norms) is computed once.

    Args:
        estimators: names out of `loralaw.miub.STATISTICS`.

    **Cost.** What the estimators keep: O(features) numbers a layer and cell for the default ones.
    **Source**: ours; the estimators' own sources are theirs.

    >>> statistics = LayerStatistics()
    >>> statistics.update("layers.0.q_proj", ["a", "b"], torch.randn(2, 9, 4), torch.zeros(2, 9, 4))
    >>> [(row["layer"], row["miub_nats"], row["norm_ratio"]) for row in statistics.rows("b")]
    [('layers.0.q_proj', 0.0, 0.0)]
    """

    def __init__(self, estimators: Sequence[str] = DEFAULT_ESTIMATORS) -> None:
        self._statistics: list[Statistic] = [kind() for kind in (*statistics_named(estimators), *_CONTROLS)]
        self._scratch = Scratch()
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

    def why_not(self, layer: str, key: str) -> str | None:
        """Why a layer is left out of `rows` and `means`; None: it is not.

        A layer may have too few tokens for an estimator (a rare expert), or be too wide for one.
        """
        groups = [group for (name, keys), group in self._groups.items() if name == layer and key in keys]
        return groups[0].why_not() if groups else "it was given no token of these data"

    def forget(self, layer: str) -> None:
        """Leave a layer out, whatever it has seen."""
        self._groups = {names: group for names, group in self._groups.items() if names[0] != layer}

    def rows(self, key: str) -> list[Row]:
        """One cell's layers, in the order in which the model runs them.

        Returns:
            A dict a layer: "layer" (module name), "n_tokens", each estimator's value and standard error ("miub_nats"
            and "miub_stderr_nats" for the channel bound, "jsd_nats", …; the standard error is None with one sequence),
            "norm_ratio" and "cosine" (no unit). nan where features were not finite.

        Raises:
            InputError: the cell was never measured, or no layer of it has a value (`why_not`).
        """
        self._finish()
        return [
            {"layer": layer, "n_tokens": group.sums.n_tokens, **group.row(index)}
            for layer, group, index in self._measured(key)
        ]

    def means(self, key: str) -> dict[str, float | None]:
        """Means over a cell's layers of the same numbers; a standard error is that of the mean over layers.

        The layers see the same sequences and are not independent: each block's influence is averaged over layers first.

        Raises:
            InputError: as `rows`.
        """
        self._finish()
        layers = [(group, index) for _, group, index in self._measured(key)]
        finished = []
        for number in range(len(self._statistics)):
            parts = [[part[index].cpu() for part in group.finished[number]] for group, index in layers]
            value, influence = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
            finished.append((value, influence))
        return _columns(self._statistics, finished, max(group.sums.n_blocks() for group, _ in layers))

    def _group(self, layer: str, keys: tuple[str, ...]) -> "_Group":
        if (layer, keys) not in self._groups:
            for other_layer, others in self._groups:
                if other_layer == layer and not set(others).isdisjoint(keys):
                    raise InputError(
                        f"the cells {list(keys)} of {layer} were measured in the group {list(others)} before: "
                        "start a new LayerStatistics when the pack changes"
                    )
            self._groups[layer, keys] = _Group(self._statistics, self._scratch)
        return self._groups[layer, keys]

    def _finish(self) -> None:
        """Values and influences of all layers that have had new tokens; layers of one width together, as many small
        operations cost more than one."""
        alike = defaultdict(list)
        for group in self._groups.values():
            if not group.finished and not group.why_not():
                alike[group.n_features, group.sums.device].append(group)
        for groups in alike.values():
            n_at_once = max(1, _FINISHED_AT_ONCE // max(group.sums.n_numbers for group in groups))
            for start in range(0, len(groups), n_at_once):
                _finish_together(groups[start : start + n_at_once], self._statistics)

    def _measured(self, key: str) -> list[tuple[str, "_Group", int]]:
        found = [(layer, group, keys.index(key)) for (layer, keys), group in self._groups.items() if key in keys]
        if not found:
            known = sorted({name for _, keys in self._groups for name in keys})
            raise InputError(f'no cell "{key}" was measured; measured: {known}.{did_you_mean(key, known)}')
        measured = [one for one in found if not one[1].why_not()]
        if not measured:
            raise InputError(f"{found[0][0]}: {found[0][1].why_not()}")
        return measured


@dataclass
class _Group:
    """The sums of one layer and the cells that share its leading dimension, and what has been made of them."""

    statistics: list[Statistic]
    scratch: Scratch
    sums: BlockSums = field(default_factory=BlockSums)
    finished: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Value, (cells,), and influence, (cells, N_BLOCKS), of each statistic; empty when tokens have come since."""

    n_features: int = 0

    def why_not(self) -> str | None:
        """Why there are no values; None: there are."""
        asked = self._too_wide() or self.statistics  # where one is too wide, no token was added for any
        reasons = (statistic.why_not(self.n_features, self.sums.n_tokens) for statistic in asked)
        return next(filter(None, reasons), None)

    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None) -> None:
        self.finished, self.n_features = [], base.shape[-1]
        if not self._too_wide():
            self.sums.add(base, adapter, sequence, self._per_token, self.scratch)

    def _too_wide(self) -> list[Statistic]:
        return [statistic for statistic in self.statistics if statistic.is_too_wide(self.n_features)]

    def _per_token(self, chunk: TokenChunk) -> dict[str, PerToken]:
        return {
            f"{statistic.name} {name}": value
            for statistic in self.statistics
            for name, value in statistic.per_token(chunk).items()
        }

    def row(self, index: int) -> dict[str, float | None]:
        finished = [(value[index], influence[index]) for value, influence in self.finished]
        return _columns(self.statistics, finished, self.sums.n_blocks())


def _columns(
    statistics: list[Statistic], finished: list[tuple[Tensor, Tensor]], n_blocks: int
) -> dict[str, float | None]:
    """The value of each statistic, (), by name, and the standard errors that influences, (N_BLOCKS,), make."""
    columns: dict[str, float | None] = {}
    for statistic, (value, influence) in zip(statistics, finished, strict=True):
        if isinstance(statistic, _CONTROLS):
            columns[statistic.name] = float(value)
        else:
            columns[column_of(statistic.name)] = float(value)
            columns[stderr_column_of(statistic.name)] = _or_none(stderr_of(influence, n_blocks))
    return columns


def _finish_together(groups: list[_Group], statistics: list[Statistic]) -> None:
    joined = BlockSums.side_by_side([group.sums for group in groups])
    n_cells = [group.sums.leading.numel() for group in groups]
    for statistic in statistics:
        value, influence = joined.value_and_influence(_on_its_own(statistic))
        parts = zip(torch.split(value, n_cells), torch.split(influence, n_cells), strict=True)
        for group, part in zip(groups, parts, strict=True):
            group.finished.append(part)


def _on_its_own(statistic: Statistic) -> Callable[[Means], Tensor]:
    prefix = f"{statistic.name} "
    return lambda mean: statistic.value_of(
        {name.removeprefix(prefix): value for name, value in mean.items() if name.startswith(prefix)}
    )


def _or_none(value: Tensor) -> float | None:
    return None if value.isnan() else float(value)
