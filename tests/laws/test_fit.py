"""The law itself: known parameters, an independent least-squares fit, invariances, coverage."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from simulated import one_axis_table

from loralaw.errors import TableError
from loralaw.laws import LawFit, Status, fit, fit_all
from loralaw.laws.forms import Form
from loralaw.laws.posterior import law_posterior

LEVELS = np.array([1.0, 16.0, 256.0])


def fit_loss(table: pl.DataFrame) -> LawFit:
    return fit(table, metric="loss", axis="rank")


def test_data_without_noise_give_the_law_back() -> None:
    law = fit_loss(one_axis_table(levels=12, noise=1e-6))

    assert law.status is Status.LAW
    assert law.params == pytest.approx({"floor": 0.5, "amplitude": 1.0, "exponent": 0.5}, abs=1e-3)
    assert law.predict([4.0, 1024.0]) == pytest.approx([1.0, 0.53125], abs=1e-4)
    assert law.gain_of_doubling(4.0)[0] == pytest.approx(0.5 - 8**-0.5, abs=1e-4)


def test_rising_metrics_have_a_ceiling() -> None:
    table = one_axis_table(lambda x: 0.9 - 0.4 * x**-0.5, levels=8, noise=0.003, metric="accuracy")

    law = fit(table, metric="accuracy", axis="rank")

    low, high = law.interval("floor", 0.999)
    assert law.status is Status.LAW
    assert law.increasing
    assert low < 0.9 < high <= 1.0
    assert law.params["amplitude"] == pytest.approx(-0.4, abs=0.03)
    assert law.gain_of_doubling(1.0)[0] == pytest.approx(0.4 * (1 - 2**-0.5), abs=0.01)


@pytest.mark.parametrize("rng", range(5))
def test_agrees_with_least_squares_where_noise_is_low(rng: int) -> None:
    table = one_axis_table(noise=0.005, levels=8, seeds=3, rng=rng)
    x, y = table["rank"].to_numpy(), table["loss"].to_numpy()
    best, covariance = curve_fit(lambda x, e, a, b: e + a * x**-b, x, y, p0=(0.4, 1.1, 0.6))

    law = fit_loss(table)

    error = np.sqrt(np.diag(covariance))
    found = np.array([law.params[name] for name in ("floor", "amplitude", "exponent")])
    assert np.all(np.abs(found - best) < 0.6 * error)
    for i, name in ((0, "floor"), (2, "exponent")):
        low, high = law.interval(name)
        assert 0.6 < (high - low) / (2 * 2.08 * error[i]) < 1.7  # 2.08: t quantile, 24 - 3 degrees of freedom


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Nominal 95 %, 12 cells, 100 studies; 88 is 95 less three Monte Carlo errors."""
    inside = []
    for rng in range(100):
        law = fit_loss(one_axis_table(noise=0.03, rng=rng))
        if law.has_law:
            low, high = law.predict_interval([16.0])
            exponent = law.interval("exponent")
            inside.append((low[0] <= 0.75 <= high[0], exponent[0] <= 0.5 <= exponent[1]))

    assert len(inside) >= 95  # one in a hundred is called a bend by chance
    in_range, exponents = np.mean(inside, axis=0)
    assert 0.88 <= in_range <= 1.0
    assert 0.88 <= exponents <= 1.0


def test_intervals_are_not_merely_wide() -> None:
    """In range, the interval of 12 cells with sd 0.03 is that of a mean of about three of them."""
    low, high = fit_loss(one_axis_table(noise=0.03)).predict_interval([16.0])

    assert 0.02 < (high - low)[0] < 0.12


def test_a_shift_shared_by_a_seed_does_not_widen_the_exponent() -> None:
    plain = fit_loss(one_axis_table(levels=8, seeds=3, noise=0.01))
    shifted = fit_loss(one_axis_table(levels=8, seeds=3, noise=0.01, seed_effect=0.2))

    def width(law: LawFit) -> float:
        low, high = law.interval("exponent")
        return high - low

    assert width(shifted) < 2 * width(plain)
    assert shifted.interval("exponent")[0] < 0.5 < shifted.interval("exponent")[1]


def test_intervals_grow_outside_the_range() -> None:
    low, high = fit_loss(one_axis_table()).predict_interval([256.0, 4096.0])

    assert high[1] - low[1] > high[0] - low[0]


def test_interval_ends_are_ordered_by_level() -> None:
    law = fit_loss(one_axis_table())

    (low_50, high_50), (low_95, high_95) = law.interval("exponent", 0.5), law.interval("exponent", 0.95)

    assert low_95 < low_50 < law.params["exponent"] < high_50 < high_95


def test_the_floor_is_reported_within_its_bound() -> None:
    table = one_axis_table(lambda x: x**-0.5, noise=0.02, metric="cross_entropy")

    law = fit(table, metric="cross_entropy", axis="rank")

    assert law.interval("floor", 0.99)[0] == 0.0
    assert np.all(law.predict_interval([1e12])[0] >= 0.0)


def test_the_other_direction_is_no_posterior() -> None:
    x = np.repeat(LEVELS, 3)
    noise = 0.001 * np.random.default_rng(0).standard_normal(9)

    form, seeds = Form("power+floor", ("rank",)), np.zeros(9, dtype=np.int64)
    rng = np.random.default_rng(0)
    draws = law_posterior(form, x[:, None], -(x**-0.5) + noise, seeds, increasing=False, rng=rng)

    assert draws is None


tables = st.builds(
    one_axis_table,
    levels=st.integers(4, 7),
    seeds=st.integers(2, 3),
    noise=st.sampled_from([0.003, 0.01, 0.03]),
    seed_effect=st.sampled_from([0.0, 0.05]),
    rng=st.integers(0, 10_000),
)


def assert_same_law(
    first: LawFit, second: LawFit, *, metric_factor: float = 1.0, offset: float = 0.0, axis_factor: float = 1.0
) -> None:
    assert second.status is first.status
    assert second.p_trend == pytest.approx(first.p_trend, abs=0.003)
    if first.has_law:
        low, high = first.predict_interval(LEVELS)
        slack = 0.02 * metric_factor * (high - low).max()
        second_low, second_high = second.predict_interval(axis_factor * LEVELS)
        assert second_low == pytest.approx(metric_factor * low + offset, abs=slack)
        assert second_high == pytest.approx(metric_factor * high + offset, abs=slack)
        exponents = first.interval("exponent", 0.8)
        assert second.interval("exponent", 0.8) == pytest.approx(exponents, rel=0.02)
        moved = metric_factor * first.params["floor"] + offset
        assert second.params["floor"] == pytest.approx(moved, abs=0.02 * metric_factor)


@settings(max_examples=8, deadline=None)
@given(table=tables, rng=st.integers(0, 100))
def test_the_order_of_rows_does_not_matter(table: pl.DataFrame, rng: int) -> None:
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=rng)

    assert fit_loss(shuffled).message == fit_loss(table).message


@settings(max_examples=8, deadline=None)
@given(table=tables, factor=st.sampled_from([1e-6, 0.5, 3.0, 1e6]))
def test_the_unit_of_the_metric_scales_floor_and_amplitude(table: pl.DataFrame, factor: float) -> None:
    assert_same_law(fit_loss(table), fit_loss(table.with_columns(pl.col("loss") * factor)), metric_factor=factor)


@settings(max_examples=8, deadline=None)
@given(table=tables, factor=st.sampled_from([1e-3, 7.0, 1e9]))
def test_the_unit_of_the_axis_does_not_matter(table: pl.DataFrame, factor: float) -> None:
    assert_same_law(fit_loss(table), fit_loss(table.with_columns(pl.col("rank") * factor)), axis_factor=factor)


@settings(max_examples=8, deadline=None)
@given(table=tables, offset=st.sampled_from([-100.0, -1.0, 5.0, 1000.0]))
def test_a_constant_added_moves_the_floor(table: pl.DataFrame, offset: float) -> None:
    assert_same_law(fit_loss(table), fit_loss(table.with_columns(pl.col("loss") + offset)), offset=offset)


@settings(max_examples=10, deadline=None)
@given(table=tables)
def test_turned_over_a_metric_has_the_same_law(table: pl.DataFrame) -> None:
    """Nothing is known of "loss" beforehand, so a falling metric and its negative are the same evidence."""
    down, up = fit_loss(table), fit_loss(table.with_columns(-pl.col("loss")))

    assert up.status is down.status
    assert up.increasing is not down.increasing
    if down.has_law:
        low, high = down.predict_interval(LEVELS)
        assert up.predict_interval(LEVELS)[1] == pytest.approx(-low, abs=0.1 * (high - low).max())


def test_long_tables_take_seconds_not_minutes() -> None:
    random = np.random.default_rng(0)
    x = np.exp(random.uniform(0, 6, 100_000))
    table = pl.DataFrame({"rank": x, "loss": 0.5 + x**-0.5 + 0.03 * random.standard_normal(len(x))})
    start = time.process_time()

    law = fit_loss(table)

    assert time.process_time() - start < 10
    low, high = law.interval("exponent", 0.999)
    assert low < 0.5 < high < low + 0.02
    assert law.n_cells == 100_000


def test_an_accuracy_in_percent_has_no_ceiling_of_one() -> None:
    rank = np.repeat(2.0 ** np.arange(6), 2)
    accuracy = 100 * (0.9 - 0.4 * rank**-0.5) + np.random.default_rng(0).normal(0, 0.2, len(rank))
    law = fit(pl.DataFrame({"rank": rank, "seed": [0, 1] * 6, "accuracy": accuracy}), metric="accuracy", axis="rank")

    low, high = law.interval("floor")
    assert low < 90 < high
    assert law.gain_of_doubling(32.0)[0] > 0.5


def test_words_of_somebody_else_in_the_status_are_named() -> None:
    rows = pl.DataFrame({"rank": [1, 2, 4], "cross_entropy": [3.0, 2.0, 1.0], "status": ["completed"] * 3})
    with pytest.raises(TableError, match="completed"):
        fit_all(rows)
