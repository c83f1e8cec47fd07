"""The three statistics of every adapted layer, for several cells at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from loralaw.errors import InputError, did_you_mean
from loralaw.miub.channel_bound import ChannelBound
from loralaw.miub.jensen_shannon import JensenShannon
from loralaw.miub.norm_ratio import NormRatio
from loralaw.miub.token_channel import check_features, token_channel


class LayerStatistics:
    """`ChannelBound`, `JensenShannon` and `NormRatio` by layer and cell.

    The two softmaxes of a layer are computed once for both information measures.

    >>> statistics = LayerStatistics()
    >>> statistics.update("layers.0.q_proj", ["a", "b"], torch.randn(2, 9, 4), torch.zeros(2, 9, 4))
    >>> [(row["layer"], row["miub_nats"], row["norm_ratio"]) for row in statistics.rows("b")]
    [('layers.0.q_proj', 0.0, 0.0)]
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}

    def update(self, layer: str, keys: Sequence[str], base: Tensor, adapter: Tensor) -> None:
        """Add tokens of one layer for a group of cells.

        Args:
            layer: the module's name in the base model.
            keys: the cells, in the order of the leading dimension.
            base: z, (cells, tokens, features), any floating type.
            adapter: u, of the same shape.

        Raises:
            InputError: shapes that do not fit each other or the number of cells, or a cell that was seen in another
                group before (its numbers would be split).
        """
        check_features(base, adapter)
        if base.shape[:-2] != (len(keys),):
            raise InputError(
                f"{len(keys)} cells, but features of shape {tuple(base.shape)}: give (cells, tokens, features)"
            )
        group = self._groups.get((layer, tuple(keys)))
        if group is None:
            for other_layer, others in self._groups:
                if other_layer == layer and not set(others).isdisjoint(keys):
                    raise InputError(
                        f"the cells {list(keys)} of {layer} were measured in the group {list(others)} before: "
                        "start a new LayerStatistics when the pack changes"
                    )
            group = self._groups[layer, tuple(keys)] = _Group()
        group.update(base, adapter)

    def rows(self, key: str) -> list[dict[str, str | float]]:
        """One cell's layers, in the order in which the model runs them.

        Returns:
            A dict a layer: "layer" (module name), "miub_nats" (`ChannelBound`), "jsd_nats", "norm_ratio" (no unit).

        Raises:
            InputError: the cell was never measured, or on too few tokens.
        """
        found = [(layer, group, keys.index(key)) for (layer, keys), group in self._groups.items() if key in keys]
        if not found:
            known = sorted({name for _, keys in self._groups for name in keys})
            raise InputError(f'no cell "{key}" was measured; measured: {known}.{did_you_mean(key, known)}')
        return [{"layer": layer, **group.values(index)} for layer, group, index in found]


class _Group:
    """The statistics of one layer and the cells that share its leading dimension."""

    def __init__(self) -> None:
        self.bound, self.divergence, self.ratio = ChannelBound(), JensenShannon(), NormRatio()

    @torch.no_grad()
    def update(self, base: Tensor, adapter: Tensor) -> None:
        channels = token_channel(base), token_channel(adapter)
        self.bound.update_channels(*channels)
        self.divergence.update_channels(*channels)
        self.ratio.update(base, adapter)

    def values(self, index: int) -> dict[str, float]:
        return {
            "miub_nats": float(self.bound.value()[index]),
            "jsd_nats": float(self.divergence.value()[index]),
            "norm_ratio": float(self.ratio.value()[index]),
        }
