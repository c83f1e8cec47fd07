"""Metrics and their standard errors against simulation and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loralaw.training.metrics import choice_metrics, language_metrics, likeliest, ratio_with_stderr


def test_by_hand() -> None:
    metrics = language_metrics([2.0, 4.0], [1, 1], [2, 2], [3, 9], [0, 1])
    assert metrics["cross_entropy"] == 1.5
    assert metrics["cross_entropy_per_byte"] == 0.5
    assert metrics["accuracy"] == 0.5
    assert metrics["perplexity"] == pytest.approx(math.exp(1.5))
    assert metrics["cross_entropy_stderr"] == pytest.approx(math.sqrt(2 * (1 + 1)) / 4)


def test_stderr_is_the_spread_over_repeated_samples() -> None:
    """Documents of several rows that share a shift: the clustered error is right, the one by row is too small."""
    rng = np.random.default_rng(0)
    estimates, stderrs, naive = [], [], []
    for _ in range(400):
        shift = rng.normal(size=40).repeat(5)
        n = rng.integers(20, 60, 200)
        y = n * (2 + shift + 0.2 * rng.normal(size=200))
        ratio, stderr = ratio_with_stderr(y, n, np.arange(40).repeat(5))
        estimates.append(ratio)
        stderrs.append(stderr)
        naive.append(ratio_with_stderr(y, n, np.arange(200))[1])
    assert np.mean(stderrs) == pytest.approx(np.std(estimates), rel=0.12)
    assert np.mean(naive) < 0.6 * np.std(estimates)


@given(st.permutations(list(range(12))))
def test_order_of_rows_does_not_matter(order: list[int]) -> None:
    y, n, cluster = np.arange(12.0), np.arange(12) + 1, np.arange(12) // 3
    a, b = ratio_with_stderr(y, n, cluster), ratio_with_stderr(y[order], n[order], cluster[order])
    assert a == pytest.approx(b)


def test_one_document_has_no_stderr_and_huge_losses_no_perplexity() -> None:
    metrics = language_metrics([9000.0], [0], [2], [3], [0])
    assert metrics["cross_entropy_stderr"] is None
    assert metrics["perplexity"] is None


def test_choices_are_compared_by_the_byte() -> None:
    metrics = choice_metrics([10.0, 6.0, 3.0, 4.0], [20, 10, 5, 10], [0, 0, 1, 1], labels=[0, 0], document=[0, 1])
    assert metrics["choice_accuracy"] == 0.5
    assert metrics["choice_accuracy_sum"] == 0.5
    assert metrics["choice_accuracy_stderr"] == pytest.approx(0.5)


def test_questions_may_have_different_numbers_of_options_and_the_first_of_equal_ones_wins() -> None:
    loss, question = [2.0, 1.0, 3.0, 3.0, 1.0, 1.0, 2.0, 5.0], [0, 0, 1, 1, 1, 1, 1, 2]
    assert likeliest(loss, question).tolist() == [1, 2, 0]
