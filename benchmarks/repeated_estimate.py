"""One estimator on many independent samples of the same truth."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loralaw.miub import Estimate

ROUNDING_NATS = 1e-6
"""Differences below this are rounding, not bias."""


@dataclass
class RepeatedEstimate:
    """The estimates of one cell of a table, and the truth that they must not fall below."""

    cell: list[str]
    """What was measured, for the table."""
    truth_nats: float
    target_nats: float
    """What the estimator tends to with more tokens: the truth, or a bound on it."""
    estimates: Sequence[Estimate]

    COLUMNS = (
        "samples",
        "truth",
        "target",
        "mean estimate",
        "bias to target",
        "RMSE",
        "spread",
        "mean stderr",
        "(mean - truth) / its error",
        "samples 3 stderr below truth",
        "below truth",
    )

    @property
    def mean(self) -> float:
        return statistics.fmean(e.value_nats for e in self.estimates)

    @property
    def spread(self) -> float:
        return statistics.stdev(e.value_nats for e in self.estimates)

    @property
    def standard_errors_from_truth(self) -> float:
        """How many standard errors (of the mean over samples) the mean lies above its truth; 0 within rounding."""
        difference = self.mean - self.truth_nats
        if abs(difference) <= ROUNDING_NATS:
            return 0.0
        error = self.spread / math.sqrt(len(self.estimates))
        return difference / error if error > 0 else math.copysign(math.inf, difference)

    @property
    def is_below(self) -> bool:
        return self.standard_errors_from_truth < -3

    @property
    def share_below(self) -> float:
        """Share of samples whose value is more than 3 of its own standard errors below the truth."""
        below = [
            self.truth_nats - e.value_nats > max(3 * (e.stderr_nats or 0.0), ROUNDING_NATS) for e in self.estimates
        ]
        return statistics.fmean(below)

    def row(self) -> list[str]:
        """The cell and `COLUMNS`."""
        rmse = math.sqrt(statistics.fmean((e.value_nats - self.target_nats) ** 2 for e in self.estimates))
        stated = statistics.fmean(math.nan if e.stderr_nats is None else e.stderr_nats for e in self.estimates)
        return [
            *self.cell,
            str(len(self.estimates)),
            *(f"{x:.4g}" for x in (self.truth_nats, self.target_nats, self.mean)),
            f"{self.mean - self.target_nats:+.2g}",
            *(f"{x:.2g}" for x in (rmse, self.spread, stated)),
            f"{self.standard_errors_from_truth:+.1f}",
            f"{self.share_below:.0%}",
            "**yes**" if self.is_below else "no",
        ]
