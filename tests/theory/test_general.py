"""Any covariance: what must hold exactly, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loralaw.theory import (
    BinaryTarget,
    FineTuning,
    GaussianRidgeSource,
    GaussianTarget,
    KnownSource,
    KnownVector,
    Prediction,
    ridge_source,
    simulate,
)
from loralaw.theory.general import RidgeFit

ROW_SCALES = np.array([-2.0, 0.0, 0.5, 1.0, 4.0])
FIELDS = ("mean", "second_moment", "accuracy", "risk")
Floats = np.ndarray


def same(a: Prediction, b: Prediction, tolerance: float = 1e-9) -> None:
    for name in FIELDS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=tolerance, atol=1e-12, err_msg=name)


def random_task(seed: int, dim: int) -> tuple[Floats, Floats]:
    """A mean of length 1 to 2 and a covariance with variances 0.2 to 5."""
    rng = np.random.default_rng(seed)
    mean, turn = rng.standard_normal(dim), np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return mean * rng.uniform(1, 2) / np.linalg.norm(mean), (turn * rng.uniform(0.2, 5, dim)) @ turn.T


@given(
    n=st.integers(2, 300) | st.integers(10**6, 10**15),
    n_source=st.integers(2, 300) | st.integers(10**6, 10**15),
    dim=st.integers(2, 40),
    beta=st.floats(-1, 1),
    gammas=st.tuples(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6)),
    lengths=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
)
def test_uncorrelated_features_are_a_special_case(
    n: int, n_source: int, dim: int, beta: float, gammas: tuple[float, float], lengths: tuple[float, float]
) -> None:
    mean, target = np.zeros(dim), np.zeros(dim)
    mean[0], target[:2] = lengths[0], (beta * lengths[0], np.sqrt(1 - beta**2) * lengths[1])
    general = FineTuning(
        GaussianRidgeSource(n_source, mean, np.eye(dim), gammas[0]), GaussianTarget(n, target, np.eye(dim), gammas[1])
    )
    flat = ridge_source(
        n_source=n_source,
        n_target=n,
        dim=dim,
        mu_norm=lengths[0],
        mu_orth_norm=lengths[1],
        beta=beta,
        gamma_source=gammas[0],
        gamma_target=gammas[1],
    )
    same(general.predict(ROW_SCALES), flat.predict(ROW_SCALES), 1e-8)
    assert general.best_row_scale().accuracy_best == pytest.approx(flat.best_row_scale().accuracy_best, abs=1e-8)


@given(seed=st.integers(0, 10_000), dim=st.integers(2, 20), n=st.integers(2, 200), scale=st.floats(0.1, 10))
def test_units_and_axes_of_the_features_mean_nothing(seed: int, dim: int, n: int, scale: float) -> None:
    """x → c·Ux with U orthogonal, γ → c²γ and w̃ → Uw̃/c leaves every score as it is."""
    mean, covariance = random_task(seed, dim)
    source_mean, source_covariance = random_task(seed + 1, dim)
    turn = scale * np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    plain = FineTuning(
        GaussianRidgeSource(50, source_mean, source_covariance, 0.5), GaussianTarget(n, mean, covariance, 0.3)
    )
    turned = FineTuning(
        GaussianRidgeSource(50, turn @ source_mean, turn @ source_covariance @ turn.T, 0.5 * scale**2),
        GaussianTarget(n, turn @ mean, turn @ covariance @ turn.T, 0.3 * scale**2),
    )
    same(plain.predict(ROW_SCALES), turned.predict(ROW_SCALES), 1e-7)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 400), gamma=st.floats(1e-6, 1e6))
def test_delta_solves_its_equation(seed: int, n: int, gamma: float) -> None:
    mean, covariance = random_task(seed, 15)
    fit = RidgeFit(n, mean, covariance, gamma)
    resolvent = np.linalg.inv(covariance * fit.rate + gamma * np.eye(15))
    assert 1 / fit.rate - 1 == pytest.approx(np.trace(covariance @ resolvent) / n, rel=1e-9, abs=1e-12)
    assert fit.h == pytest.approx(1 - fit.rest, abs=1e-9)
    assert 0 < fit.h <= 1


def spiked(dim: int) -> Floats:
    return np.diag([20.0, 8.0, 3.0, *[1.0] * (dim - 3)])


def autoregressive(dim: int, correlation: float) -> Floats:
    steps = np.arange(dim)
    return correlation ** np.abs(steps[:, None] - steps)


@pytest.mark.parametrize("name", ["spiked", "autoregressive"])
@pytest.mark.parametrize(("n", "n_source"), [(60, 400), (400, 90)])
def test_general_sources_are_predicted_as_they_are_simulated(name: str, n: int, n_source: int) -> None:
    """More rows than features are simulated in another way than fewer: both ways meet both sizes here."""
    dim, rng = 120, np.random.default_rng(3)
    mean = rng.standard_normal(dim) / 8
    target_mean = 0.7 * mean + rng.standard_normal(dim) / 12
    source, target = {
        "spiked": (spiked(dim), spiked(dim)[::-1, ::-1]),
        "autoregressive": (autoregressive(dim, 0.5), autoregressive(dim, 0.9)),
    }[name]
    for kind in (GaussianRidgeSource(n_source, mean, source, 0.5), KnownVector(0.4 * mean)):
        setting = FineTuning(kind, GaussianTarget(n, target_mean, target, 0.3))
        seen, expected = simulate(setting, ROW_SCALES, n_replicates=100, seed=5), setting.predict(ROW_SCALES)
        for field in FIELDS:
            truth, error = getattr(seen.estimate, field), getattr(seen.standard_error, field)
            finite_size = 0.01 * np.abs(truth) + (0.005 if field == "mean" else 0)  # means pass through 0
            assert np.all(np.abs(getattr(expected, field) - truth) < 4 * error + finite_size), (name, kind, field)


def test_a_known_source_by_numbers_and_as_a_vector() -> None:
    vector, mean = np.array([0.3, -0.2, 0.5, 0.0]), np.array([0.5, 0.5, 0.1, -0.4])
    by_numbers = FineTuning(
        KnownSource(float(vector @ vector), float(vector @ mean)),
        BinaryTarget(10, 4, float(np.linalg.norm(mean)), 0.0, 1.0, 0.7),
    )
    as_vector = FineTuning(KnownVector(vector), GaussianTarget(10, mean, np.eye(4), 0.7))
    same(by_numbers.predict(ROW_SCALES), as_vector.predict(ROW_SCALES))
