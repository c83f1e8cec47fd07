"""The best row scale, against a search; arrays of settings at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ridge_setting import RIDGE

from loralaw.theory import BinaryTarget, FineTuning, KnownSource, regression, ridge_source


@given(
    n=st.integers(2, 500),
    dim=st.integers(2, 500),
    beta=st.floats(-1, 1),
    lengths=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)),
    gammas=st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)),
)
def test_no_row_scale_is_better_than_the_best(
    n: int, dim: int, beta: float, lengths: tuple[float, float], gammas: tuple[float, float]
) -> None:
    setting = ridge_source(
        n_source=1000,
        n_target=n,
        dim=dim,
        mu_norm=lengths[0],
        mu_orth_norm=lengths[1],
        beta=beta,
        gamma_source=gammas[0],
        gamma_target=gammas[1],
    )
    best = setting.best_row_scale()
    around = np.concatenate([np.linspace(-50, 50, 2001), [best.best] if np.isfinite(best.best) else []])
    assert np.all(setting.predict(around).accuracy <= best.accuracy_best + 1e-12)
    if np.isfinite(best.best):
        assert setting.predict(best.best).accuracy == pytest.approx(best.accuracy_best, abs=1e-12)
    assert best.accuracy_at_1 == setting.predict(1.0).accuracy


def test_without_a_target_mean_the_source_alone_is_best() -> None:
    """A target mean that the n rows say next to nothing of: the accuracy rises with α for ever."""
    setting = FineTuning(KnownSource(1.0, 1e-6), BinaryTarget(10, 100, 1e-6, 0.0, 1.0, 1.0))
    best = setting.best_row_scale()
    assert best.best > 1e3
    assert best.accuracy_best >= setting.predict([0, 1, 100, 1e4]).accuracy.max()


def test_a_source_that_says_nothing_is_left_out() -> None:
    best = ridge_source(**{**RIDGE, "beta": 0.0}).best_row_scale()
    assert best.best == pytest.approx(0.0, abs=1e-12)
    assert best.accuracy_best == pytest.approx(best.accuracy_at_0)
    assert np.isinf(best.worst)


def test_a_source_that_points_the_other_way_is_turned_round() -> None:
    along, against = (ridge_source(**{**RIDGE, "beta": beta}).best_row_scale() for beta in (0.6, -0.6))
    assert against.best == pytest.approx(-along.best)
    assert against.accuracy_best == pytest.approx(along.accuracy_best)


def test_accuracies_below_one_half_stay_below() -> None:
    setting = ridge_source(**{**RIDGE, "beta": -1.0, "mu_orth_norm": 0.0})
    worst = setting.best_row_scale().worst
    assert setting.predict(worst).accuracy == pytest.approx(0.5)
    assert setting.predict(worst + 5).accuracy < 0.5


def test_arrays_of_settings_are_their_elements() -> None:
    betas, sizes, alphas = np.array([0.2, 0.5, 0.9])[:, None, None], np.array([20, 200])[:, None], np.linspace(-3, 3, 7)
    together = ridge_source(**{**RIDGE, "beta": betas, "n_target": sizes})
    seen, best = together.predict(alphas), together.best_row_scale()
    assert seen.accuracy.shape == (3, 2, 7)
    assert best.best.shape == (3, 2, 1)
    for i, beta in enumerate(betas.ravel()):
        for j, size in enumerate(sizes.ravel()):
            one = ridge_source(**{**RIDGE, "beta": beta, "n_target": size})
            np.testing.assert_allclose(seen.accuracy[i, j], one.predict(alphas).accuracy, rtol=1e-14)
            np.testing.assert_allclose(best.best[i, j, 0], one.best_row_scale().best, rtol=1e-12)


def test_more_rows_need_less_of_the_source() -> None:
    """Of the known source as of the ridge source: with n the α of the best accuracy falls, and the accuracy rises."""
    best = ridge_source(**{**RIDGE, "n_target": np.array([10, 100, 1000, 10_000])}).best_row_scale()
    assert np.all(np.diff(best.best) < 0)
    assert np.all(np.diff(best.accuracy_best) > 0)


@given(
    inner=st.floats(-3, 3),
    n=st.integers(2, 500),
    dim=st.integers(2, 500),
    gamma=st.floats(0.01, 10),
    noise_std=st.floats(0, 2),
)
def test_no_row_scale_of_a_regression_has_a_lower_risk(
    inner: float, n: int, dim: int, gamma: float, noise_std: float
) -> None:
    setting = regression(
        n_target=n,
        dim=dim,
        n_outputs=3,
        noise_std=noise_std,
        gamma=gamma,
        source_norm_sq=2.0,
        target_norm_sq=5.0,
        source_target_inner=inner,
    )
    best = setting.best_row_scale()
    risks = setting.predict(np.linspace(-5, 5, 1001)).risk
    assert np.all(risks >= best.risk_best * (1 - 1e-12))
    assert best.risk_best <= min(best.risk_at_0, best.risk_at_1) * (1 + 1e-12)
