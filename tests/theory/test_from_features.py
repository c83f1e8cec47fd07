"""α from features: where the truth is known, and what is refused."""

from typing import Any

import numpy as np
import pytest

from loralaw.errors import InputError
from loralaw.theory import FeatureAdvice, FineTuning, GaussianTarget, KnownVector, from_features
from loralaw.theory.self_training import SelfTraining

DIM, N, N_OTHERS = 100, 30, 1500
Rows = tuple[np.ndarray, np.ndarray]


def task(seed: int, angle: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and covariance of a target with correlated features, and a source vector that many rows near it gave."""
    rng = np.random.default_rng(seed)
    covariance = 0.6 ** np.abs(np.subtract.outer(np.arange(DIM), np.arange(DIM)))
    mean, other = (v * 1.5 / np.linalg.norm(v) for v in rng.standard_normal((2, DIM)))
    source_mean = np.cos(angle) * mean + np.sin(angle) * other
    source = np.linalg.solve(covariance + np.outer(source_mean, source_mean) + np.eye(DIM), source_mean)
    return mean, covariance, source


def drawn(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int) -> Rows:
    rng = np.random.default_rng([seed, n])
    y = rng.permutation(np.resize([-1.0, 1.0], n))
    return y[:, None] * mean + rng.multivariate_normal(np.zeros(DIM), covariance, n), y


def advised(seed: int, angle: float = 0.5, sign: float = 1.0) -> tuple[FeatureAdvice, np.ndarray]:
    """Advice for one draw, and the true accuracy at its α, at 1, at 0 and at the best α of this draw."""
    mean, covariance, source = task(seed, angle)
    few, (others, _) = drawn(mean, covariance, N, seed), drawn(mean, covariance, N_OTHERS, seed)
    advice = from_features(sign * source, few, others)
    test, labels = drawn(mean, covariance, 20_000, seed)
    alphas = [advice.row_scale, 1.0, 0.0, *np.linspace(-5, 5, 101)]
    accuracy = np.array([np.mean((test @ advice.weights(alpha)) * labels > 0) for alpha in alphas])
    return advice, np.array([*accuracy[:3], accuracy[3:].max()])


def test_it_comes_close_to_the_best_row_scale_of_each_draw() -> None:
    found = np.array([advised(seed)[1] for seed in range(8)])
    ours, lora, alone, best = found.mean(axis=0)
    assert best - ours < 0.01
    assert ours > lora + 0.01
    assert ours > alone + 0.01


def test_a_source_that_points_the_other_way_gets_a_negative_row_scale() -> None:
    for seed in range(4):
        along, against = advised(seed)[0], advised(seed, sign=-1.0)[0]
        assert along.start == "source"
        assert along.row_scale > 0.5
        assert against.start != "source"  # the labels do not speak for it
        assert against.row_scale < 0


def test_a_source_of_another_task_does_little_harm() -> None:
    """On average as good as without it; the source alone is a coin."""
    found = np.array([advised(seed, angle=np.pi / 2)[1] for seed in range(8)])
    ours, lora, alone, _ = found.mean(axis=0)
    assert ours > lora
    assert ours > alone - 0.03


def test_the_accuracy_it_expects_is_near_the_truth() -> None:
    """On average; with 30 labels one estimate may be a tenth too low."""
    found = [advised(seed) for seed in range(8)]
    gaps = [float(advice.curve.predict(advice.row_scale).accuracy) - truth[0] for advice, truth in found]
    assert np.mean(np.abs(gaps)) < 0.05


def test_what_it_expects_of_other_draws_is_the_theory_with_the_estimated_moments() -> None:
    mean, covariance, source = task(1)
    advice = from_features(source, drawn(mean, covariance, N, 1), drawn(mean, covariance, N_OTHERS, 1)[0])
    estimated = advice.setting(N)
    truth = FineTuning(KnownVector(source), GaussianTarget(N, mean, covariance, 1.0))
    alphas = np.linspace(-1, 4, 11)
    assert np.abs(estimated.predict(alphas).accuracy - truth.predict(alphas).accuracy).max() < 0.08
    more = advice.setting(10 * N).best_row_scale()
    assert more.accuracy_best > estimated.best_row_scale().accuracy_best


def test_rows_of_a_source_are_fitted_by_ridge() -> None:
    mean, covariance, _ = task(2)
    rows, labels = drawn(mean, covariance, 500, 3)
    by_rows = from_features((rows, labels), drawn(mean, covariance, N, 2), rows[:400], gamma_source=2.0)
    expected = np.linalg.solve(rows.T @ rows / 500 + 2.0 * np.eye(DIM), rows.T @ labels / 500)
    np.testing.assert_allclose(by_rows.source_weights, expected)


def test_the_weights_are_those_of_the_fine_tuning() -> None:
    mean, covariance, source = task(4)
    (rows, y), others = drawn(mean, covariance, N, 4), drawn(mean, covariance, 200, 4)[0]
    advice = from_features(source, (rows, y), others, gamma_target=0.7)
    left = np.linalg.solve(rows.T @ rows / N + 0.7 * np.eye(DIM), rows.T @ (y - 1.3 * rows @ source) / N)
    np.testing.assert_allclose(advice.weights(1.3), 1.3 * source + left, atol=1e-12)


def test_neither_order_of_rows_nor_axes_matter() -> None:
    mean, covariance, source = task(5)
    (rows, y), others = drawn(mean, covariance, N, 5), drawn(mean, covariance, 300, 5)[0]
    plain = from_features(source, (rows, y), others)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    turned = from_features(turn @ source, (rows[::-1] @ turn.T, y[::-1]), others[::-1] @ turn.T)
    assert turned.row_scale == pytest.approx(plain.row_scale, rel=1e-6)


def test_the_length_of_the_source_means_nothing() -> None:
    mean, covariance, source = task(5)
    few, others = drawn(mean, covariance, N, 5), drawn(mean, covariance, 300, 5)[0]
    plain = from_features(source, few, others)
    for factor in (1e-90, 1e-6, 1e3):
        scaled = from_features(factor * source, few, others)
        assert scaled.row_scale * factor == pytest.approx(plain.row_scale, rel=1e-6)


def test_a_penalty_that_rounding_would_eat_is_refused() -> None:
    mean, covariance, _ = task(8)
    rows, y = drawn(mean, covariance, N, 8)
    pixels = 100 * rows
    assert "gamma_target=1e-10 is lost beside features as large as these: give at least" in refused(
        target=(pixels, y), unlabelled=pixels, gamma_target=1e-10
    )
    assert "gamma_source=1e-30 is lost" in refused(source=(rows, y), gamma_source=1e-30)


def test_features_that_never_vary_and_more_features_than_rows() -> None:
    mean, covariance, source = task(6)
    (rows, y), others = drawn(mean, covariance, N, 6), drawn(mean, covariance, 40, 6)[0]
    rows[:, 7], others[:, 7] = 0.0, 0.0
    advice = from_features(source, (rows, y), others)
    assert np.isfinite(advice.row_scale)
    assert 0.5 <= advice.setting(N).best_row_scale().accuracy_best <= 1


def test_labels_that_a_classifier_teaches_itself_are_mostly_right() -> None:
    mean, covariance, source = task(7)
    few, (others, truth) = drawn(mean, covariance, N, 7), drawn(mean, covariance, N_OTHERS, 7)
    soft = SelfTraining(others, *few, gamma=1.0).soft_labels(source)
    assert np.abs(soft).max() <= 1
    assert np.mean(np.sign(soft) == truth) > np.mean(np.sign(others @ source) == truth)
    sure = np.abs(soft) > 0.95
    assert np.mean(np.sign(soft[sure]) == truth[sure]) > 0.95


def refused(**change: Any) -> str:
    mean, covariance, source = task(8)
    rows, y = drawn(mean, covariance, N, 8)
    given: dict[str, Any] = {"source": source, "target": (rows, y), "unlabelled": rows, **change}
    with pytest.raises(InputError) as caught:
        from_features(**given)
    return str(caught.value)


def test_bad_input() -> None:
    mean, covariance, source = task(8)
    rows, y = drawn(mean, covariance, N, 8)
    assert refused(target=(rows, np.ones(N))) == (
        "target labels has only the class +1 in its 30 rows: give rows of both classes"
    )
    assert "target labels has 30 of 30 entries such as 0: give -1 or +1" in refused(target=(rows, np.zeros(N)))
    assert "target labels has the shape (29,): give a label for each of the 30 rows" in refused(target=(rows, y[1:]))
    assert "target is a ndarray: give a tuple (features, labels)" in refused(target=rows)
    assert "source has the shape (99,): give a vector of the shape (100,)" in refused(source=source[1:])
    assert "unlabelled has the shape (30, 99): give a matrix of the shape (rows, 100)" in refused(
        unlabelled=rows[:, 1:]
    )
    assert "source features has the shape (30, 99)" in refused(source=(rows[:, 1:], y))
    assert "source is the zero vector" in refused(source=0 * source)
    assert "gamma_target=0: give numbers above 0" in refused(gamma_target=0)
    assert "gamma_source=-1: give numbers above 0" in refused(source=(rows, y), gamma_source=-1)
    assert "gamma_source is 'abc'" in refused(gamma_source="abc")  # also where the source is a vector
    with pytest.raises(InputError, match="row_scale=nan"):
        from_features(source, (rows, y), rows).weights(float("nan"))
    assert "unlabelled has 1 of 3,000 entries such as nan" in refused(
        unlabelled=np.where(rows == rows[3, 4], np.nan, rows)
    )
