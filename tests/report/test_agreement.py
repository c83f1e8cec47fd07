import numpy as np
import pytest
from scipy import stats

from loralaw.report.agreement import N_PERMUTATIONS, concordance, rank_correlation


@pytest.mark.parametrize("ties", [False, True])
def test_w_is_friedmans_statistic_on_another_scale(ties: bool) -> None:
    values = np.random.default_rng(1).normal(size=(6, 7))
    values = np.round(values) if ties else values
    found = concordance(values)
    chi2 = stats.friedmanchisquare(*values.T).statistic

    assert found is not None
    assert found.w == pytest.approx(chi2 / (6 * (7 - 1)), rel=1e-12)
    assert found.mean_ranks == pytest.approx(np.mean([stats.rankdata(row) for row in values], axis=0))


def test_p_is_near_the_chi_square_approximation_with_many_judges() -> None:
    values = np.random.default_rng(3).normal(size=(40, 7)) + np.linspace(0, 0.45, 7)
    found = concordance(values)
    reference = stats.friedmanchisquare(*values.T).pvalue

    assert found is not None
    assert 0.001 < reference < 0.5
    assert found.p == pytest.approx(reference, abs=0.02)


def test_p_is_uniform_where_nothing_is_shared() -> None:
    random = np.random.default_rng(5)
    ps = [found.p for _ in range(200) if (found := concordance(random.normal(size=(4, 5)))) is not None]

    assert len(ps) == 200
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) < 0.05) < 0.09  # 10 expected of 200, 18 is 2.6 standard errors more


def test_a_planted_order_is_found_and_p_is_never_zero() -> None:
    found = concordance(np.random.default_rng(6).normal(size=(6, 7)) * 0.1 + np.arange(7))

    assert found is not None
    assert found.w == pytest.approx(1)
    assert found.p == 1 / (1 + N_PERMUTATIONS)
    assert found.by_chance == pytest.approx(1 / 6)


def test_the_same_values_have_the_same_p() -> None:
    values = np.random.default_rng(7).normal(size=(5, 6))

    assert concordance(values) == concordance(values)


@pytest.mark.parametrize("values", [np.zeros((4, 5)), np.ones((1, 5)), np.arange(4.0)[:, None]])
def test_nothing_to_rank_has_no_concordance(values: np.ndarray) -> None:
    assert concordance(values) is None


def test_rank_correlation_is_the_mean_over_pairs_within_groups() -> None:
    random = np.random.default_rng(8)
    a, b, c, d, e = np.round(random.normal(size=(5, 21)), 1)  # with ties
    found = rank_correlation([[a, b, c], [d, e], [a]])
    pairs = [stats.spearmanr(*pair).statistic for pair in ((a, b), (a, c), (b, c), (d, e))]

    assert found is not None
    assert found.n_pairs == 4
    assert found.mean == pytest.approx(np.mean(pairs))
    assert found.lowest == pytest.approx(min(pairs))


def test_constant_values_have_no_rank_correlation() -> None:
    assert rank_correlation([[np.ones(5), np.arange(5.0)]]) is None
