"""The simulator: against a plain one written out, and what it refuses."""

import numpy as np
import pytest

from loralaw.errors import InputError
from loralaw.theory import (
    BinaryTarget,
    FineTuning,
    GaussianRidgeSource,
    GaussianTarget,
    KnownSource,
    regression,
    ridge_source,
    simulate,
)

ROW_SCALES = np.array([0.0, 1.0, 3.0])
SETTING = {
    "n_source": 60,
    "n_target": 30,
    "dim": 12,
    "mu_norm": 1.0,
    "mu_orth_norm": 1.2,
    "beta": 0.6,
    "gamma_source": 1.0,
    "gamma_target": 0.5,
}


def plain_accuracies(n_source: int, n: int, covariance: np.ndarray, seed: int, n_draws: int) -> np.ndarray:
    """Accuracies on fresh rows of fits by the normal equations; everything drawn row by row."""
    rng, dim = np.random.default_rng(seed), len(covariance)
    mean = np.zeros(dim)
    mean[0], target_mean = 1.0, np.zeros(dim)
    target_mean[:2] = 0.6, 0.8 * 1.2
    found = np.empty((n_draws, 3))
    for i in range(n_draws):

        def rows(mean: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            y = rng.choice([-1.0, 1.0], n)
            return y[:, None] * mean + rng.multivariate_normal(np.zeros(dim), covariance, n), y

        x, y = rows(mean, n_source)
        source = np.linalg.solve(x.T @ x / n_source + np.eye(dim), x.T @ y / n_source)
        x, y = rows(target_mean, n)
        test, labels = rows(target_mean, 2000)
        for k, alpha in enumerate(ROW_SCALES):
            left = np.linalg.solve(x.T @ x / n + 0.5 * np.eye(dim), x.T @ (y - alpha * x @ source) / n)
            found[i, k] = np.mean((test @ (alpha * source + left)) * labels > 0)
    return found


@pytest.mark.parametrize(("n_source", "n"), [(60, 30), (8, 6)])  # more rows than features, and fewer
def test_it_draws_what_it_says(n_source: int, n: int) -> None:
    """Small dimensions, where the theory is no guide: the simulator must be right by itself."""
    covariance = 0.5 ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    mean, target_mean = np.zeros(12), np.zeros(12)
    mean[0], target_mean[:2] = 1.0, (0.6, 0.96)
    general = FineTuning(
        GaussianRidgeSource(n_source, mean, covariance, 1.0), GaussianTarget(n, target_mean, covariance, 0.5)
    )
    flat = ridge_source(**{**SETTING, "n_source": n_source, "n_target": n})
    for setting, own in ((general, covariance), (flat, np.eye(12))):
        seen = simulate(setting, ROW_SCALES, n_replicates=300, seed=1)
        plain = plain_accuracies(n_source, n, own, seed=2, n_draws=150)
        error = np.hypot(plain.std(axis=0, ddof=1) / np.sqrt(len(plain)), seen.standard_error.accuracy)
        assert np.all(np.abs(seen.estimate.accuracy - plain.mean(axis=0)) < 4 * error)


def test_the_same_seed_gives_the_same_numbers() -> None:
    setting = ridge_source(**SETTING)
    one, again, other = (simulate(setting, ROW_SCALES, n_replicates=3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.estimate.mean, again.estimate.mean)
    assert not np.array_equal(one.estimate.mean, other.estimate.mean)


def test_shapes_are_those_of_the_row_scales() -> None:
    setting = ridge_source(**SETTING)
    assert simulate(setting, 1.0, n_replicates=2).estimate.accuracy.shape == ()
    assert simulate(setting, ROW_SCALES[:, None], n_replicates=2).standard_error.risk.shape == (3, 1)


def test_a_regression_is_predicted_as_it_is_simulated() -> None:
    setting = regression(
        n_target=80,
        dim=150,
        n_outputs=4,
        noise_std=0.5,
        gamma=0.3,
        source_norm_sq=4.0,
        target_norm_sq=5.0,
        source_target_inner=2.0,
    )
    seen, expected = simulate(setting, ROW_SCALES, n_replicates=200), setting.predict(ROW_SCALES).risk
    assert np.all(np.abs(seen.estimate.risk - expected) < 4 * seen.standard_error.risk + 0.01 * expected)


def test_a_known_source_gets_a_vector_with_its_numbers() -> None:
    """Of a vector along the target's mean and of one across it; both must be what the theory takes them for."""
    for norm_sq, dot in ((1.44, 1.2), (0.5, 0.0), (2.0, -0.7)):
        setting = FineTuning(KnownSource(norm_sq, dot), BinaryTarget(100, 150, 1.0, 1.0, 0.0, 0.5))
        seen, expected = simulate(setting, ROW_SCALES, n_replicates=100), setting.predict(ROW_SCALES)
        for name in ("mean", "second_moment"):
            truth, error = getattr(seen.estimate, name), getattr(seen.standard_error, name)
            assert np.all(np.abs(getattr(expected, name) - truth) < 4 * error + 0.01 * np.abs(truth) + 0.003)


def test_refusals() -> None:
    setting = ridge_source(**SETTING)
    with pytest.raises(InputError, match="n_replicates=1: give at least 2"):
        simulate(setting, 1.0, n_replicates=1)
    with pytest.raises(InputError, match="one number"):
        simulate(ridge_source(**{**SETTING, "beta": [0.1, 0.2]}), 1.0)
    with pytest.raises(InputError, match="dot_target_mean=3: no vector has it, whose norm_sq is 1"):
        simulate(FineTuning(KnownSource(1.0, 3.0), BinaryTarget(10, 20, 1.0, 1.0, 0.5, 1.0)), 1.0)
    with pytest.raises(InputError, match="at least 2, so that there is a direction across"):
        simulate(ridge_source(**{**SETTING, "dim": 1}), 1.0)
    with pytest.raises(InputError, match="a penalty of this setting is lost beside its means"):
        simulate(ridge_source(**{**SETTING, "n_target": 6, "n_source": 6, "mu_norm": 1e49}), 1.0)
