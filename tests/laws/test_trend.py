"""Is there a law at all, and does it bend: error rates on noise, power, and an independent enumeration."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from simulated import falling_law, one_axis_table

from loralaw.laws import Status, fit
from loralaw.laws.exponent_grid import arc_length_grid
from loralaw.laws.trend import bend_test, n_orders, trend_test


@pytest.mark.parametrize("metric", ["cross_entropy", "miub_nats"])  # with a direction asserted, and without
def test_noise_is_a_law_about_five_times_in_a_hundred(metric: str) -> None:
    """150 studies at 5 %: more than 16 or none would be a broken test; so for the claim of a wrong direction."""
    found = []
    for rng in range(150):
        table = one_axis_table(lambda x: 0 * x, noise=1.0, seed_effect=2.0 * (rng % 2), metric=metric, rng=rng)
        found.append(fit(table, metric=metric, axis="rank").status)

    n_wrong_way, n_constant = found.count(Status.WRONG_DIRECTION), found.count(Status.CONSTANT)
    assert 1 <= len(found) - n_constant - n_wrong_way <= 16
    assert n_wrong_way <= 16


def test_one_setting_of_three_levels_and_two_seeds_can_show_a_law() -> None:
    """The centre of a small star: of its 36 orders one is as extreme in the asserted direction, two in either."""
    x = np.array([400_000.0, 1_300_000.0, 6_310_000.0])
    values = [3.0, 2.8, 2.5, 3.02, 2.79, 2.51]
    table = pl.DataFrame({"rank": [*x, *x], "seed": [0] * 3 + [1] * 3, "cross_entropy": values, "miub_nats": values})

    asserted, free = (fit(table, metric=metric, axis="rank") for metric in ("cross_entropy", "miub_nats"))

    assert asserted.p_trend == pytest.approx(1 / 36)
    assert asserted.has_law
    assert free.p_trend == pytest.approx(2 / 36)
    assert free.status is Status.TOO_FEW_CELLS


def test_contexts_keep_the_power_of_three_levels_and_two_seeds() -> None:
    """Averaged over contexts there are 36 orders and p ≥ 1/36; inside contexts there are 6¹⁸."""
    random = np.random.default_rng(0)
    level = np.tile([1.0, 8.0, 64.0], 18)
    block = np.repeat(np.arange(18), 3)
    value = falling_law(level) + 0.1 * random.standard_normal(54) + block

    assert trend_test(level, value, block, random).p_either == pytest.approx(0.001)
    assert n_orders(block[:6]) == 36


def test_few_orders_are_all_taken() -> None:
    """One block of four: p is a multiple of 1/24, counted here over every order with a dense set of exponents."""
    level = np.array([1.0, 4.0, 16.0, 64.0])
    value = np.array([2.0, 1.1, 1.4, 0.3])
    exponents = arc_length_grid(level, 40)[0]

    def largest_correlation(y: np.ndarray) -> float:
        return max(abs(float(np.corrcoef(y, level**-a)[0, 1])) for a in exponents)

    seen = largest_correlation(value)
    expected = np.mean([largest_correlation(value[list(order)]) >= seen - 1e-12 for order in permutations(range(4))])

    p = trend_test(level, value, np.zeros(4, dtype=np.int64), np.random.default_rng(0)).p_either

    assert p == pytest.approx(expected)
    assert (24 * p) == pytest.approx(round(24 * p))


def test_the_normal_limit_of_long_tables_keeps_the_rate() -> None:
    """1,500 rows of skewed noise in blocks of three: p ≤ 0.2 in about a fifth of 60 studies."""
    level, block = np.tile([1.0, 8.0, 64.0], 500), np.repeat(np.arange(500), 3)
    p = [
        trend_test(level, np.random.default_rng(rng).exponential(size=1500), block, np.random.default_rng(rng)).p_either
        for rng in range(60)
    ]

    assert 4 <= np.sum(np.array(p) <= 0.2) <= 22


def test_the_direction_is_that_of_the_data() -> None:
    level, block = np.tile([1.0, 8.0, 64.0], 3), np.repeat(np.arange(3), 3)

    falling, rising = (trend_test(level, sign * level, block, np.random.default_rng(0)) for sign in (-1, 1))

    assert (falling.increasing, rising.increasing) == (False, True)
    assert falling.p_falling == rising.p_rising < 0.01
    assert falling.p_rising == rising.p_falling == 1


def test_constant_values_have_no_trend() -> None:
    """Also where their mean is not exactly their value, as that of 0.1 three times."""
    level, block = np.tile([1.0, 2.0, 4.0], 4), np.repeat(np.arange(4), 3)

    trend = trend_test(level, np.full(12, 0.1), block, np.random.default_rng(0))

    assert (trend.p_falling, trend.p_rising, trend.p_either) == (1, 1, 1)


def bent(x: np.ndarray) -> np.ndarray:
    return np.asarray(falling_law(x) + 0.1 * np.maximum(np.log2(x) - 5, 0))


def points(law, **settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    table = one_axis_table(law, levels=8, seeds=3, **settings)
    return table["rank"].to_numpy(), table["loss"].to_numpy(), table["seed"].to_numpy()


@pytest.mark.parametrize("rng", range(5))
def test_a_rise_at_the_end_is_a_bend(rng: int) -> None:
    assert bend_test(*points(bent, noise=0.01, rng=rng)) < 0.01


def test_a_power_law_is_no_bend() -> None:
    """100 studies at 1 %, with shifts shared by a seed: more than 5 would be a broken test."""
    bends = [bend_test(*points(falling_law, noise=0.02, seed_effect=0.05, rng=rng)) < 0.01 for rng in range(100)]

    assert np.sum(bends) <= 5


def test_a_missing_cell_and_seeds_that_differ_are_no_bend() -> None:
    """Level means of an unbalanced table carry the seeds' shifts; the test takes them out."""
    level, value, seed = points(falling_law, noise=0.01, seed_effect=1.0)
    keep = ~((seed == 0) & (level == level.max()))

    assert bend_test(level[keep], value[keep], seed[keep]) > 0.01


def test_three_levels_cannot_bend() -> None:
    table = one_axis_table(levels=3, seeds=4)

    assert np.isnan(bend_test(table["rank"].to_numpy(), table["loss"].to_numpy(), table["seed"].to_numpy()))


def test_grid_is_equal_in_arc_length() -> None:
    x = np.exp2(np.arange(9.0))
    centres, edges = arc_length_grid(x, 40)
    direction = x[None] ** -edges[:, None]
    direction -= direction.mean(axis=1, keepdims=True)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    step = np.linalg.norm(np.diff(direction, axis=0), axis=1)

    assert step.max() / step.min() < 1.02
    assert np.all((edges[:-1] < centres) & (centres < edges[1:]))
