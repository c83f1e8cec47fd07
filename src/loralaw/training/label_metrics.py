"""Metrics of labelled rows, with standard errors: the official ones of their tasks."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import rankdata

from loralaw.tasks import Target
from loralaw.training.metrics import ratio_with_stderr

N_RESAMPLES = 400
"""Of the bootstrap: its standard error is then known to about 4 %."""

Array = NDArray[np.float64]


def f1(guess: Array, truth: Array) -> float:
    """2 TP / (2 TP + FP + FN) of class 1; 0 where there is none of it at all."""
    total = np.sum(guess == 1) + np.sum(truth == 1)
    return float(2 * np.sum((guess == 1) & (truth == 1)) / total) if total else 0.0


def matthews_correlation(guess: Array, truth: Array) -> float:
    """Pearson's correlation of two binary variables; 0 where one of them is constant."""
    return pearson(guess, truth)


def pearson(guess: Array, truth: Array) -> float:
    """Pearson's correlation; 0 where one of the two is constant."""
    if np.ptp(guess) == 0 or np.ptp(truth) == 0:  # what is left of it less its rounded mean may correlate with anything
        return 0.0
    x, y = guess - guess.mean(), truth - truth.mean()
    scale = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / scale) if scale > 0 else 0.0


def spearman(guess: Array, truth: Array) -> float:
    """Pearson's correlation of the ranks, equal values sharing theirs."""
    return pearson(rankdata(guess), rankdata(truth))


OF_GUESSES: dict[str, Callable[[Array, Array], float]] = {
    function.__name__: function for function in (f1, matthews_correlation, pearson, spearman)
}
"""Metrics other than accuracy: of the likeliest classes, or of the predicted values."""


def label_metrics(
    outputs: Array, labels: Array, target: Target, document: NDArray[np.int64]
) -> dict[str, float | None]:
    """Loss and official metrics of some rows.

    Args:
        outputs: (rows, classes) logits, or (rows, 1) predicted values.
        labels: (rows,) classes or values.
        target: what they are; accuracy is always among the metrics of classes.
        document: (rows,) where each row comes from, by which standard errors of loss and accuracy are clustered.

    Returns:
        By the names of the table, each with its standard error: cross_entropy (nats a row) and accuracy, or
        mean_squared_error; and those of the target. The standard errors of metrics that are no means are those of a
        bootstrap over rows. Where an output is not finite, the loss alone, as None.
    """
    if not np.isfinite(outputs).all():
        return {"cross_entropy" if target.classes else "mean_squared_error": None}
    labels = labels.astype(float)
    ones = np.ones(len(labels))
    if target.classes:
        guess = outputs.argmax(1).astype(float)
        losses = -log_softmax(outputs, axis=1)[np.arange(len(labels)), labels.astype(int)]
        means = {"cross_entropy": losses, "accuracy": guess == labels}
    else:
        guess = outputs[:, 0]
        means = {"mean_squared_error": (guess - labels) ** 2}
    metrics: dict[str, float | None] = {}
    for name, values in means.items():
        metrics[name], metrics[f"{name}_stderr"] = ratio_with_stderr(values, ones, document)
    for name in target.metrics:
        if name in OF_GUESSES:
            metrics[name], metrics[f"{name}_stderr"] = _bootstrapped(OF_GUESSES[name], guess, labels)
    return metrics


def _bootstrapped(metric: Callable[[Array, Array], float], guess: Array, truth: Array) -> tuple[float, float]:
    rows = np.random.default_rng(0).integers(len(truth), size=(N_RESAMPLES, len(truth)))
    return metric(guess, truth), float(np.std([metric(guess[drawn], truth[drawn]) for drawn in rows], ddof=1))
