"""What is measured at an adapted layer: names, units, and what each number says."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerMeasure:
    """A number of one layer.

    Args:
        name: its key in the row of a layer.
        label: what plots and tables call it.
        unit: its unit, empty for a pure number.
        meaning: what it says, as one or two sentences.
    """

    name: str
    label: str
    unit: str
    meaning: str

    @property
    def title(self) -> str:
        """The label as a heading, with its unit."""
        label = self.label[:1].upper() + self.label[1:]
        return f"{label} ({self.unit})" if self.unit else label

    @property
    def stderr_name(self) -> str:
        """The key of its standard error, where it has one."""
        return stderr_name(self.name)


# z is what the frozen layer gives, u what the adapter adds to it.
LAYER_MEASURES: dict[str, LayerMeasure] = {
    measure.name: measure
    for measure in (
        LayerMeasure(
            "miub_nats",
            "MIUB, channel bound",
            "nats",
            "An upper bound on the information that the frozen layer's output z and the adapter's output u share, each "
            "read as a softmax distribution over its features. It is 0 for an untrained adapter and grows with the "
            "norm of u. Its source reads a low value as an adapter that leans little on the base.",
        ),
        LayerMeasure(
            "channel_exact_nats",
            "exact channel information",
            "nats",
            "The information that the channel bound bounds: that of the same two distributions, computed exactly. "
            "Never above MIUB.",
        ),
        LayerMeasure(
            "jsd_nats",
            "Jensen-Shannon divergence",
            "nats",
            "How far apart the softmax distributions of z and u are, from 0 to ln 2 = 0.693. For an untrained adapter "
            "it is not 0: it is then the distance of z from uniform.",
        ),
        LayerMeasure(
            "jsd_standardised_nats",
            "Jensen-Shannon divergence, standardised",
            "nats",
            "The same after z and u are standardised over the features of each token, so their norms do not matter. "
            "From 0 to ln 2 = 0.693.",
        ),
        LayerMeasure(
            "gaussian_coordinate_nats",
            "Gaussian bound by coordinate",
            "nats",
            "Mean over coordinates of ρ²/(1−ρ²), with ρ the correlation of a coordinate of z and the same one of u. "
            "The norm of u does not matter.",
        ),
        LayerMeasure(
            "gaussian_noise_nats",
            "Gaussian information with noise",
            "nats",
            "The information between all of z and u plus a fixed share of noise, if they were jointly Gaussian.",
        ),
        LayerMeasure(
            "norm_ratio",
            "norm ratio ‖u‖/‖z‖",
            "",
            "The size of what the adapter adds beside the size of the frozen output. The control: where MIUB only "
            "follows it, MIUB says nothing more than this number.",
        ),
        LayerMeasure(
            "cosine",
            "cosine of u and z",
            "",
            "The direction of what the adapter adds: 1 along the frozen output, 0 at right angles, −1 against it.",
        ),
        LayerMeasure(
            "effective_rank",
            "effective rank",
            "",
            "How many directions the adapter's weights BA use: the exponential of the entropy of their singular "
            "values. At most the adapter's rank; it depends on the weights only, not on the data.",
        ),
    )
}


def stderr_name(name: str) -> str:
    """`miub_stderr_nats` for `miub_nats`, `accuracy_stderr` for `accuracy`: the unit stays at the end."""
    return f"{name.removesuffix('_nats')}_stderr_nats" if name.endswith("_nats") else f"{name}_stderr"


def measures_in(names: Iterable[str]) -> list[LayerMeasure]:
    """The measures among the keys of a layer's row: the known in the order above, then any other `…_nats`."""
    given = dict.fromkeys(names)
    others = [n for n in given if n.endswith("_nats") and not n.endswith("_stderr_nats") and n not in LAYER_MEASURES]
    known = [measure for name, measure in LAYER_MEASURES.items() if name in given]
    return known + [LayerMeasure(n, n.removesuffix("_nats").replace("_", " "), "nats", "") for n in others]
