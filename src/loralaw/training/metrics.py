"""From scored rows to metrics with standard errors."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ratio_with_stderr(numerator: ArrayLike, denominator: ArrayLike, cluster: ArrayLike) -> tuple[float, float | None]:
    """A ratio of sums over rows, such as loss over tokens, and its standard error.

        R = Σy / Σn,   stderr² = G/(G-1) Σ_g (y_g - R n_g)² / (Σn)²

    with y_g and n_g summed over cluster g: rows of one document are not independent.

    Args:
        numerator, denominator: (rows,) sums of each row.
        cluster: (rows,) the document each row comes from.

    Returns:
        R, and its standard error in the same unit (None with fewer than two documents).

    **Source**: the delta method for a ratio estimator with clusters.
    """
    y, n = np.asarray(numerator, float), np.asarray(denominator, float)
    groups = np.unique(np.asarray(cluster), return_inverse=True)[1]
    y_g, n_g = np.bincount(groups, y), np.bincount(groups, n)
    ratio, count = float(y.sum() / n.sum()), len(y_g)
    if count < 2:
        return ratio, None
    return ratio, float(math.sqrt(count / (count - 1) * np.sum((y_g - ratio * n_g) ** 2)) / n.sum())


def language_metrics(
    loss_sum: ArrayLike, n_correct: ArrayLike, n_scored: ArrayLike, n_bytes: ArrayLike, document: ArrayLike
) -> dict[str, float | None]:
    """Cross-entropy (nats a token, and a byte of text), perplexity and next-token accuracy over (rows,) sums."""
    cross_entropy, cross_entropy_stderr = ratio_with_stderr(loss_sum, n_scored, document)
    accuracy, accuracy_stderr = ratio_with_stderr(n_correct, n_scored, document)
    return {
        "cross_entropy": cross_entropy,
        "cross_entropy_stderr": cross_entropy_stderr,
        "cross_entropy_per_byte": ratio_with_stderr(loss_sum, n_bytes, document)[0],
        "perplexity": math.exp(cross_entropy) if cross_entropy < 700 else None,
        "accuracy": accuracy,
        "accuracy_stderr": accuracy_stderr,
    }


def choice_metrics(
    loss_sum: ArrayLike, n_bytes: ArrayLike, question: ArrayLike, labels: ArrayLike, document: ArrayLike
) -> dict[str, float | None]:
    """Share of questions whose true option is the likeliest: a byte of its text, and as it stands.

    With one question a document these are `acc_bytes` and `acc` of lm-evaluation-harness with its standard errors.

    Args:
        loss_sum: (options,) summed loss of each option's tokens, in nats.
        n_bytes: (options,) length of each option's text.
        question: (options,) the number of each option's question: 0, ..., 0, 1, ...
        labels: (questions,) index of the true option of each question.
        document: (questions,) the document each question comes from.
    """
    loss, metrics = np.asarray(loss_sum, float), dict[str, float | None]()
    for name, values in (("choice_accuracy", loss / np.asarray(n_bytes)), ("choice_accuracy_sum", loss)):
        right = likeliest(values, question) == np.asarray(labels)
        metrics[name], metrics[f"{name}_stderr"] = ratio_with_stderr(right, np.ones(len(right)), document)
    return metrics


def likeliest(loss: ArrayLike, question: ArrayLike) -> NDArray[np.intp]:
    """(questions,) index, among its question's options, of the one with the least loss; of equal ones the first.

    Args:
        loss: (options,).
        question: (options,) the number of each option's question, as of `choice_metrics`.
    """
    values, of = np.asarray(loss, float), np.asarray(question)
    n_options = np.bincount(of)
    grid = np.full((len(n_options), n_options.max()), np.inf)  # questions may have different numbers of options
    grid[of, np.arange(len(of)) - np.repeat(np.cumsum(n_options) - n_options, n_options)] = values
    index: NDArray[np.intp] = grid.argmin(axis=1)
    return index
