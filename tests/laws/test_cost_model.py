"""What cells cost, learned from simulated cells of known cost."""

import doctest
import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loralaw.errors import TableError
from loralaw.laws import Basis, CostSetting, cost_model, fit_costs

PER_STEP, PER_FLOP, PER_PACK, PER_EVALUATE_FLOP = 4e-3, 5e-12, 0.3, 2e-11
FACTORS = {"small": 1.25, "middle": 1.0, "large": 0.8}
FLOPS = {"small": 2e8, "middle": 8e8, "large": 4e9}
PATHS = {"packed": 1.0, "trainer": 3.0}


def simulated(
    noise: float = 0.0, models: Sequence[str] = tuple(FACTORS), equal_models: bool = True, seconds: float = 1.0
) -> pl.DataFrame:
    """Three ranks, two numbers of steps and two sizes of packs; the Trainer takes three times as long."""
    draw, rows = np.random.default_rng(0), []
    for path, base_model in itertools.product(PATHS, models):
        for rank, n_steps, together in itertools.product((1, 16, 64), (50, 300), (4, 8)):
            k = together if path == "packed" else 1
            of_training, of_evaluation = n_steps * FLOPS[base_model] * (1 + rank / 64), 50 * FLOPS[base_model]
            factor = PATHS[path] * seconds * (1.0 if equal_models else FACTORS[base_model])
            train = factor * (PER_STEP * n_steps / k + PER_FLOP * of_training)
            evaluate = factor * (PER_PACK / k + PER_EVALUATE_FLOP * of_evaluation)
            scatter = np.exp(noise * draw.standard_normal(2))
            rows.append(
                (base_model, path, k, n_steps, of_training, train * scatter[0], of_evaluation, evaluate * scatter[1])
            )
    return pl.DataFrame(rows, schema=cost_model.COLUMNS, orient="row")


def setting(base_model: str = "middle", path: str = "packed", **changes: Any) -> CostSetting:
    return CostSetting(
        **{
            "base_model": base_model,
            "path": path,
            "n_steps": 120,
            "train_flops": 3e11,
            "evaluate_flops": 6e10,
            "n_cells_together": 5,
            **changes,
        }
    )


def truth(of: CostSetting) -> tuple[float, float]:
    k, slower = of.n_cells_together, PATHS[of.path]
    return (
        slower * (PER_STEP * of.n_steps / k + PER_FLOP * of.train_flops),
        slower * (PER_PACK / k + PER_EVALUATE_FLOP * of.evaluate_flops),
    )


@pytest.mark.parametrize("path", list(PATHS))
def test_known_coefficients_come_back(path: str) -> None:
    asked = setting(path=path, n_cells_together=5 if path == "packed" else 1)
    exact, noisy = fit_costs(simulated()).predict(asked), fit_costs(simulated(noise=0.1)).predict(asked)
    assert (exact.train_seconds, exact.evaluate_seconds) == pytest.approx(truth(asked))
    assert exact.relative_error == pytest.approx(0, abs=1e-6)
    assert (noisy.train_seconds, noisy.evaluate_seconds) == pytest.approx(truth(asked), rel=0.1)
    assert noisy.relative_error == pytest.approx(0.1, rel=0.4)
    assert noisy.basis is Basis.THIS_MODEL
    assert f"{noisy.relative_error:.0%}" in noisy.message


def test_equal_cells_that_took_unequal_times_are_part_of_the_error() -> None:
    """As packs on a machine that others use: the half of the cells take four times as long as the other."""
    table, times = simulated(), pl.col("train_seconds")
    both = pl.concat([table.with_columns(times / 2), table.with_columns(times * 2)])
    told = fit_costs(both).predict(setting())
    assert told.train_seconds == pytest.approx(1.25 * truth(setting())[0], rel=0.2)
    assert told.relative_error == pytest.approx(np.log(2), rel=0.1)


def test_each_base_model_has_its_own_speed() -> None:
    costs = fit_costs(simulated(equal_models=False))
    for name, factor in FACTORS.items():
        asked = setting(name, train_flops=120 * FLOPS[name] * 1.1)
        assert costs.predict(asked).train_seconds == pytest.approx(factor * truth(asked)[0], rel=0.12)
    new = costs.predict(setting("new"))
    assert new.basis is Basis.OTHER_MODELS
    assert "none of them of this base model" in new.message
    assert new.relative_error is not None
    assert 0.1 < new.relative_error < 0.5  # the speeds differ by a quarter


def test_few_settings_fall_back_to_a_ratio() -> None:
    one = simulated(models=["middle"]).filter(pl.col("path") == "packed").head(1)
    seconds, flops = one["train_seconds"][0], one["train_flops"][0]
    predicted = fit_costs(one).predict(setting(train_flops=3 * flops))
    assert predicted.train_seconds == pytest.approx(3 * seconds)
    assert predicted.relative_error is None
    assert predicted.message == "from 1 cell: too few settings to say how wrong this is"


def test_the_ranks_of_one_base_model_do_not_say_what_a_step_costs() -> None:
    """They differ too little: the noise of a few times would decide what fifteen times as large a model takes."""
    noise = np.random.default_rng(1).normal(1, 0.05, 40).reshape(10, 4)
    for times in noise:
        rows = [
            ("small", "packed", 12, 120, flops, 2.0 * seconds, 1e9, 0.5)
            for flops, seconds in zip((2.0e10, 2.1e10, 2.3e10, 3.2e10), times, strict=True)
        ]
        costs = fit_costs(pl.DataFrame(rows, schema=cost_model.COLUMNS, orient="row"))
        larger = costs.predict(setting("large", train_flops=15 * 2.4e10, n_cells_together=12))
        assert larger.train_seconds == pytest.approx(15 * 2.0, rel=0.3)


def test_it_says_when_it_cannot_tell() -> None:
    table = simulated().filter(pl.col("path") == "packed")
    for costs in (fit_costs(table.clear()), fit_costs(table.with_columns(train_seconds=pl.lit(None, pl.Float64)))):
        assert costs.predict(setting()).basis is Basis.NOTHING
    unknown = fit_costs(table).predict(setting(path="trainer"))
    assert (unknown.basis, unknown.seconds, unknown.relative_error) == (Basis.NOTHING, 0.0, None)
    assert "trainer" in unknown.message
    assert fit_costs(table.with_columns(status=pl.lit("diverged"))).paths == {}
    with pytest.raises(TableError, match="train_flops"):
        fit_costs(table.drop("train_flops"))


numbers = st.floats(1e-3, 1e3)
RANDOM_ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.just("packed"), st.integers(1, 9), st.integers(1, 99), *[numbers] * 4),
    min_size=1,
    max_size=12,
)


@given(RANDOM_ROWS, numbers, numbers)
def test_never_negative_and_more_work_is_never_quicker(rows: list[Any], flops: float, more: float) -> None:
    costs = fit_costs(pl.DataFrame(rows, schema=cost_model.COLUMNS, orient="row"))
    less, greater = (
        costs.predict(setting("a", train_flops=f, evaluate_flops=f, n_steps=n))
        for f, n in ((flops, 10), (flops + more, 20))
    )
    assert 0 < less.train_seconds <= greater.train_seconds * (1 + 1e-12)
    assert 0 < less.evaluate_seconds <= greater.evaluate_seconds * (1 + 1e-12)


@given(RANDOM_ROWS, st.floats(1e-6, 1e6), st.randoms())
def test_a_slower_clock_scales_and_the_order_of_rows_is_nothing(rows: list[Any], slower: float, draw: Any) -> None:
    table = pl.DataFrame(rows, schema=cost_model.COLUMNS, orient="row")
    times = pl.col("train_seconds", "evaluate_seconds")
    draw.shuffle(rows)
    shuffled = pl.DataFrame(rows, schema=cost_model.COLUMNS, orient="row")
    mine = fit_costs(table).predict(setting("a"))
    scaled = fit_costs(table.with_columns(times * slower)).predict(setting("a"))
    again = fit_costs(shuffled).predict(setting("a"))
    assert scaled.seconds == pytest.approx(slower * mine.seconds, rel=1e-6)
    assert again.seconds == pytest.approx(mine.seconds, rel=1e-6)


def test_many_records_take_no_time() -> None:
    many = pl.concat([simulated(noise=0.1)] * 2000)
    started = time.process_time()
    assert fit_costs(many).paths["packed"].n_records == many.height // 2
    assert time.process_time() - started < 3


def test_the_example() -> None:
    assert doctest.testmod(cost_model).attempted == 4
    assert doctest.testmod(cost_model).failed == 0
