"""What the theory says of a classifier at some row scales."""

from dataclasses import dataclass

from loralaw.theory.arguments import Floats


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of the signed score y·⟨w, x⟩ on a fresh row; every field has the shape of settings and row scales, broadcast."""

    mean: Floats
    """Expectation of the signed score."""
    second_moment: Floats
    """Expectation of its square."""
    accuracy: Floats
    """Φ(mean / standard deviation): below 1/2 where the classifier is wrong more often than right."""
    risk: Floats
    """Expectation of (1 - score)², the squared loss."""


@dataclass(frozen=True, eq=False)
class BestRowScale:
    """The row scale with the highest accuracy, and what there is to gain; every field has the shape of the settings."""

    best: Floats
    """Plus or minus infinity where the accuracy grows without end towards that side: there the frozen weights alone,
    without those directions that the rows of the target span, are best."""
    worst: Floats
    """Where the mean score is zero, so that the classifier is a coin; infinite where no row scale decides it."""
    accuracy_best: Floats
    accuracy_at_0: Floats
    """Of the target's rows alone: the source is not used."""
    accuracy_at_1: Floats
    """Of the source left as it is, as LoRA does."""
