"""The published settings, and scores of one draw against the theory."""

import numpy as np
import pytest

from loralaw.errors import InputError
from loralaw.theory import BinaryTarget, FineTuning, KnownSource, draw_scores, ridge_source
from loralaw.theory.published import accuracy_setting, best_row_scales, regression_setting, score_setting


def test_scores_of_many_draws_have_the_moments_of_the_theory() -> None:
    setting = FineTuning(KnownSource(0.5, 0.4), BinaryTarget(60, 80, 1.0, 1.0, 0.5, 1.0))
    alpha = [0.1, 1.0, 5.0]
    draws = [draw_scores(setting, alpha, n_rows=400, seed=seed) for seed in range(60)]
    signed = np.concatenate([np.hstack([-d.negative, d.positive]) for d in draws], axis=1)
    said = setting.predict(alpha)

    assert draws[0].negative.shape == draws[0].positive.shape == (3, 200)
    assert signed.mean(axis=1) == pytest.approx(said.mean, rel=0.03)
    assert (signed**2).mean(axis=1) == pytest.approx(said.second_moment, rel=0.05)
    assert (signed > 0).mean(axis=1) == pytest.approx(said.accuracy, abs=0.01)


def test_a_draw_is_its_seed() -> None:
    first, again, other = (draw_scores(score_setting(0.3), [1.0], n_rows=10, seed=seed) for seed in (1, 1, 2))

    assert (first.positive == again.positive).all()
    assert (first.positive != other.positive).all()
    with pytest.raises(InputError, match="n_rows=1: give at least 2"):
        draw_scores(score_setting(0.3), [1.0], n_rows=1)
    with pytest.raises(InputError, match="row_scale"):
        draw_scores(score_setting(0.3), 1.0, n_rows=10)


def test_best_row_scales_are_those_of_single_settings() -> None:
    by_beta, by_rows, by_penalty = best_row_scales()

    assert [axis.name for axis in (by_beta, by_rows, by_penalty)] == ["beta", "n_target", "gamma_target"]
    for beta, best in zip(by_beta.values[::10], by_beta.ridge[::10], strict=True):
        assert best == pytest.approx(accuracy_setting(beta).best_row_scale().best)
    many = {"n_source": 10**9, "n_target": 40, "dim": 1000, "mu_norm": 0.8, "mu_orth_norm": 0.8, "gamma_source": 5.0}
    endless = ridge_source(**many, beta=0.5, gamma_target=by_penalty.values)
    assert by_penalty.known == pytest.approx(endless.best_row_scale().best, rel=1e-4)  # what the page says of it


def test_the_regression_has_its_best_alpha_at_beta() -> None:
    for beta in (-2.0, 0.5, 2.0):
        assert regression_setting(beta).best_row_scale().best == pytest.approx(beta)
