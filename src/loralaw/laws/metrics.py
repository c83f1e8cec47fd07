"""What the metrics and the axes of a study are called, their units, and what is known about them beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metric:
    """A measured column of a study's table.

    Args:
        name: The column.
        label: How sentences call it.
        unit: Its unit, empty for a pure number.
        increasing: Whether more rank, data or parameters should raise it; None asserts nothing and takes the direction
            from the data.
        bound: The value that its floor (or ceiling, where it rises) cannot pass, None for no bound.
    """

    name: str
    label: str
    unit: str
    increasing: bool | None
    bound: float | None

    def bound_of(self, values: Sequence[float] | NDArray[np.float64]) -> float | None:
        """The bound, or None where values pass it: an accuracy in percent, say, which has another."""
        is_passed = self.bound is not None and np.any(
            np.asarray(values) > self.bound if self.increasing else np.asarray(values) < self.bound
        )
        return None if is_passed else self.bound


@dataclass(frozen=True)
class Axis:
    """A size that a study varies: its column, how sentences call it, and the unit after a value of it."""

    name: str
    label: str
    unit: str


# What is measured inside the adapter has no asserted direction: the source claims that MIUB falls, our studies test it.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("cross_entropy", "cross-entropy", "nats", increasing=False, bound=0.0),
        Metric("cross_entropy_per_byte", "cross-entropy per byte", "nats/byte", increasing=False, bound=0.0),
        Metric("perplexity", "perplexity", "", increasing=False, bound=1.0),
        Metric("accuracy", "accuracy", "", increasing=True, bound=1.0),
        Metric("choice_accuracy", "choice accuracy", "", increasing=True, bound=1.0),
        Metric("choice_accuracy_sum", "choice accuracy by summed likelihood", "", increasing=True, bound=1.0),
        Metric("f1", "F1", "", increasing=True, bound=1.0),
        Metric("matthews_correlation", "Matthews correlation", "", increasing=True, bound=1.0),
        Metric("pearson", "Pearson correlation", "", increasing=True, bound=1.0),
        Metric("spearman", "Spearman correlation", "", increasing=True, bound=1.0),
        Metric("mean_squared_error", "mean squared error", "", increasing=False, bound=0.0),
        Metric("other_choice_accuracy", "choice accuracy on other tasks", "", increasing=None, bound=None),
        Metric("miub_nats", "MIUB", "nats", increasing=None, bound=None),
        Metric("jsd_nats", "Jensen-Shannon divergence", "nats", increasing=None, bound=None),
        Metric("jsd_standardised_nats", "standardised divergence", "nats", increasing=None, bound=None),
        Metric("gaussian_coordinate_nats", "Gaussian bound by coordinate", "nats", increasing=None, bound=None),
        Metric("norm_ratio", "norm ratio ‖u‖/‖z‖", "", increasing=None, bound=None),
        Metric("cosine", "cosine of u and z", "", increasing=None, bound=None),
        Metric("effective_rank", "effective rank", "", increasing=None, bound=None),
    )
}

AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("rank", "rank", ""),
        Axis("n_train_examples", "training examples", "examples"),
        Axis("n_train_tokens", "training tokens", "tokens"),
        Axis("n_params_total", "base-model size", "parameters"),
        Axis("n_params_trainable", "trainable parameters", "parameters"),
    )
}

STUDY_AXES = ("rank", "n_train_examples", "n_params_total")
"""The axes that a study is designed along; the others follow from these."""


def metric_named(name: str) -> Metric:
    """The known metric of this name, or one about which nothing is known beforehand."""
    return METRICS.get(name, Metric(name, name, "", increasing=None, bound=None))


def axis_named(name: str) -> Axis:
    """The known axis of this name, or one called by its column."""
    return AXES.get(name, Axis(name, name, ""))
