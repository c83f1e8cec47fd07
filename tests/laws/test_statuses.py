"""Every status: when it comes, what can be asked of it, and what it tells the user; and bad tables."""

import numpy as np
import polars as pl
import pytest
from simulated import falling_law, one_axis_table, study_table

from loralaw.errors import InputError, TableError
from loralaw.laws import AXES, METRICS, LawFit, Status, describe, fit, fit_all


def fit_cross_entropy(law=falling_law, **settings) -> LawFit:  # type: ignore[no-untyped-def]
    return fit(one_axis_table(law, metric="cross_entropy", **settings), metric="cross_entropy", axis="rank")


def assert_no_law(found: LawFit) -> None:
    assert not found.has_law
    assert found.params == {}
    for ask in (lambda: found.interval("exponent"), lambda: found.gain_of_doubling(4)):
        with pytest.raises(TableError, match=found.status.value):
            ask()


def test_law() -> None:
    found = fit_cross_entropy()

    assert found.status == "law"
    assert found.has_law
    assert found.can_predict
    assert set(found.params) == {"floor", "amplitude", "exponent"}
    assert describe(found).startswith("cross-entropy falls with rank: 1.")
    assert "one more doubling at 256 buys 0.0" in describe(found)
    assert describe(found).endswith("nats")
    assert "the floor is that of this law over these sizes" in found.message


def test_weak_exponent() -> None:
    found = fit_cross_entropy(noise=0.15)

    low, high = found.interval("exponent")
    assert found.status is Status.WEAK_EXPONENT
    assert low == 0 or high > 8 * low
    assert np.all(np.isfinite(found.predict_interval([1, 16, 256])))
    assert "cannot be told apart" in found.message
    assert "how steeply is not known" in describe(found)


def test_constant() -> None:
    found = fit_cross_entropy(lambda x: 3 + 0 * x, noise=0.1, rng=3)

    low, high = found.predict_interval([1.0, 10.0, 256.0])
    assert found.status is Status.CONSTANT
    assert found.p_trend > 0.05
    assert found.can_predict
    assert_no_law(found)
    assert np.all(low < 3)
    assert np.all(high > 3)
    assert found.predict([[2.0, 4.0]]) == pytest.approx(np.full((1, 2), found.means.mean()))
    assert np.isnan(found.predict([0.5, 512.0])).all()
    assert describe(found).startswith("no law of cross-entropy along rank: ")


def test_every_cell_the_same_is_constant() -> None:
    found = fit_cross_entropy(lambda x: 3 + 0 * x, noise=0.0)

    assert found.status is Status.CONSTANT
    assert found.p_trend == 1
    assert found.predict([4.0]).tolist() == [3.0]


def test_wrong_direction() -> None:
    found = fit_cross_entropy(lambda x: 3 - x**-0.5, noise=0.02)

    assert found.status is Status.WRONG_DIRECTION
    assert_no_law(found)
    assert found.increasing
    assert "cross-entropy rises with rank where a scaling law would fall" in found.message


def test_no_direction_is_asserted_of_miub() -> None:
    table = one_axis_table(lambda x: 3 - x**-0.5, noise=0.02, metric="miub_nats")

    found = fit(table, metric="miub_nats", axis="rank")

    assert found.has_law
    assert describe(found).startswith("MIUB rises with rank")


def test_bends() -> None:
    found = fit_cross_entropy(
        lambda x: falling_law(x) + 0.1 * np.maximum(np.log2(x) - 5, 0), levels=9, seeds=3, noise=0.01
    )

    assert found.status is Status.BENDS
    assert found.p_bend < 0.01
    assert_no_law(found)
    with pytest.raises(TableError, match="bends"):
        found.predict([4])
    assert "not by one power law" in found.message


def test_two_levels() -> None:
    found = fit_cross_entropy(levels=2, seeds=4, noise=0.01)

    assert found.status is Status.TWO_LEVELS
    assert_no_law(found)
    with pytest.raises(TableError, match="two-levels"):
        found.predict([4])
    assert found.change is not None
    low, high = found.change.interval()
    assert low < falling_law(np.array(256.0)) - falling_law(np.array(1.0)) < high
    assert "a difference, not a law" in found.message


def test_change_is_the_paired_t_interval() -> None:
    before, after = np.array([1.0, 2.0, 4.0]), np.array([0.7, 1.6, 3.9])
    table = pl.DataFrame({"rank": [1] * 3 + [8] * 3, "seed": [0, 1, 2] * 2, "loss": np.concatenate([before, after])})
    difference = after - before
    half = 4.30265 * difference.std(ddof=1) / 3**0.5  # t quantile at 0.975 with 2 degrees of freedom

    change = fit(table, metric="loss", axis="rank").change

    assert change is not None
    assert change.interval() == pytest.approx((difference.mean() - half, difference.mean() + half), abs=1e-5)


def test_two_cells_say_nothing_about_noise() -> None:
    found = fit_cross_entropy(levels=2, seeds=1)

    assert found.change is not None
    assert found.change.interval() == (-np.inf, np.inf)
    assert "[-∞, ∞]" in found.message


def test_one_level() -> None:
    found = fit(pl.DataFrame({"rank": [8, 8], "cross_entropy": [1.0, 1.1]}), metric="cross_entropy", axis="rank")

    assert found.status is Status.ONE_LEVEL
    assert found.increasing is None
    assert_no_law(found)
    assert "only 8 was run" in describe(found)


def test_too_few_cells() -> None:
    found = fit_cross_entropy(levels=3, seeds=1)

    assert found.status is Status.TOO_FEW_CELLS
    assert_no_law(found)
    assert "3 cells at 3 levels" in found.message


def test_four_cells_of_six_orders_cannot_deny_a_law() -> None:
    """Two seeds, of which one was run at one level only: no order of the cells could reach p = 0.05."""
    table = one_axis_table(levels=3, seeds=2).filter((pl.col("seed") == 0) | (pl.col("rank") == 1))

    assert fit(table, metric="loss", axis="rank").status is Status.TOO_FEW_CELLS


def test_three_levels_and_two_seeds_are_enough() -> None:
    assert fit_cross_entropy(levels=3, seeds=2, noise=0.003).has_law


def test_seeds_equal() -> None:
    table = one_axis_table(levels=12, seeds=1, noise=0.003, metric="cross_entropy")
    twice = pl.concat([table, table.with_columns(seed=pl.lit(1, dtype=pl.Int64))])

    once, both = (fit(t, metric="cross_entropy", axis="rank") for t in (table, twice))

    assert (once.status, both.status) == (Status.LAW, Status.SEEDS_EQUAL)
    assert both.interval("exponent") == once.interval("exponent")
    assert "Every seed gave the same values" in both.message


@pytest.mark.parametrize("status", list(Status))
def test_statuses_are_words_for_files(status: Status) -> None:
    assert status == status.value == str(status)


# Bad tables: one message that says what was seen and how to mend it.


@pytest.mark.parametrize(
    ("metric", "axis", "said"),
    [
        ("cross_entrpy", "rank", 'no column "cross_entrpy".* Did you mean "cross_entropy"'),
        ("cross_entropy", "n_train_example", 'Did you mean "n_train_examples"'),
        ("cross_entropy", "base_model", 'column "base_model" holds String, not numbers'),
        ("choice_accuracy", "rank", "none of the 72 rows can be used"),
    ],
)
def test_columns_that_cannot_be_used(metric: str, axis: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(study_table(), metric=metric, axis=axis)


def test_an_empty_table() -> None:
    with pytest.raises(TableError, match="no rows"):
        fit(study_table().clear(), metric="cross_entropy", axis="rank")


@pytest.mark.parametrize("size", [0.0, -4.0, np.inf, np.nan])
def test_sizes_must_be_positive(size: float) -> None:
    table = pl.concat([one_axis_table(), pl.DataFrame({"rank": [size], "seed": [0], "loss": [1.0]})])

    with pytest.raises(TableError, match=r"rank is (0|-4|inf|nan) in 1 of 13 finished rows"):
        fit(table, metric="loss", axis="rank")


@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_rows_without_a_number_are_left_out_and_counted(value: float | None) -> None:
    extra = pl.DataFrame({"rank": [4.0], "seed": [0], "loss": [value]}, schema_overrides={"loss": pl.Float64})

    found = fit(pl.concat([one_axis_table(), extra]), metric="loss", axis="rank")

    assert (found.n_excluded, found.n_cells) == (1, 12)
    assert "1 row was left out: not finished, or without a number." in found.message


def test_rows_without_a_size_are_left_out_and_counted() -> None:
    extra = pl.DataFrame({"rank": [None], "seed": [0], "loss": [1.0]}, schema_overrides={"rank": pl.Float64})

    assert fit(pl.concat([one_axis_table(), extra]), metric="loss", axis="rank").n_excluded == 1


@pytest.mark.parametrize("size", [0, -1, np.nan])
def test_predictions_need_positive_sizes(size: float) -> None:
    with pytest.raises(TableError, match="finite and above 0"):
        fit_cross_entropy().predict([1.0, size])


def test_unknown_parameter() -> None:
    with pytest.raises(TableError, match='Did you mean "exponent"'):
        fit_cross_entropy().interval("exponnt")


# All laws of a study.


def test_fit_all_fits_what_the_table_has() -> None:
    fits = fit_all(study_table())

    assert [(f.axis, f.metric) for f in fits] == [
        (axis, metric)
        for axis in ("rank", "n_train_examples", "n_params_total")
        for metric in ("cross_entropy", "accuracy")  # no task of this study has choices
    ]


def test_fit_all_leaves_out_axes_that_were_not_varied() -> None:
    fits = fit_all(study_table().filter((pl.col("rank") == 4) & (pl.col("base_model") == "small")))

    assert {f.axis for f in fits} == {"n_train_examples"}


def test_fit_all_of_a_study_that_failed_is_empty() -> None:
    table = study_table().with_columns(status=pl.lit("error"), cross_entropy=None, accuracy=None)

    assert fit_all(table) == []


def test_every_fit_of_a_study_is_described() -> None:
    table = study_table()
    for axis in AXES:
        found = fit(table, metric="cross_entropy", axis=axis)
        assert found.message
        assert "nan" not in found.message + describe(found)


def test_metrics_and_axes_are_named_by_their_columns() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert all(name == axis.name for name, axis in AXES.items())
    assert METRICS["accuracy"].increasing is True
    assert METRICS["miub_nats"].increasing is None


def test_a_floor_beyond_its_bound_is_said_not_to_be_known() -> None:
    """3·rank^(-0.3) - 0.5 is positive where it was run; its floor is where no cross-entropy can be."""
    rank = np.repeat(2.0 ** np.arange(8), 2)
    loss = 3 * rank**-0.3 - 0.5 + np.random.default_rng(0).normal(0, 0.003, len(rank))
    found = fit(
        pl.DataFrame({"rank": rank, "seed": [0, 1] * 8, "cross_entropy": loss}), metric="cross_entropy", axis="rank"
    )

    assert found.interval("floor") == (0.0, 0.0)
    assert "floor not known (the points ask for one beyond its bound, 0)" in found.message
