"""Advice in worlds whose truth is known: what to train, what to run next, and whether folk rules hold."""

import itertools
from functools import cache

import numpy as np
import polars as pl
import pytest

from loralaw.errors import TableError
from loralaw.laws import check_rule, design, recommend
from loralaw.laws.costs import costs_of

BASES = {"small": 4e5, "middle": 1.6e6, "large": 6.4e6}
RANKS, SIZES = (1, 4, 16, 64), (100, 400, 1600, 6400)


def truth(base: str, rank: float, size: float) -> float:
    return 1 + (BASES[base] / 4e5) ** -0.4 + 0.3 * rank**-0.5 + (size / 100) ** -0.5


def seconds(base: str, rank: float, size: float) -> float:
    return 1e-9 * BASES[base] * size * rank**0.1


@cache
def world(noise: float = 0.01, *, methods: tuple[str, ...] = ("lora",), rng: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(rng)
    return pl.DataFrame(
        [
            {
                "base_model": base,
                "method": method,
                "rank": None if method == "full" else rank,
                "n_train_examples": size,
                "n_params_total": int(BASES[base]),
                "seed": seed,
                "cross_entropy": truth(base, rank, size)
                + noise * random.standard_normal()
                + 0.05 * methods.index(method),
                "train_seconds": seconds(base, rank, size),
            }
            for method, base, rank, size, seed in itertools.product(methods, BASES, RANKS, SIZES, (0, 1))
            if method != "full" or rank == 1
        ],
        schema_overrides={"rank": pl.Int64},
    )


def test_without_limits_the_best_is_the_largest() -> None:
    best = recommend(world()).best

    assert best is not None
    assert best.label == "large · lora · rank 128 · 12,800 examples"
    assert best.is_extrapolated
    assert not best.is_measured
    assert best.low < truth("large", 128, 12800) < best.high


def test_a_budget_is_kept_and_the_best_inside_it_is_found() -> None:
    budget = 1.0
    found = recommend(world(0.003), budget={"seconds": budget})

    assert found.best is not None
    assert found.best.cost is not None
    assert found.best.cost <= budget
    settings = [s for s in itertools.product(BASES, (*RANKS, 128), (*SIZES, 12800)) if seconds(*s) <= budget]
    chosen = found.best.settings
    value = truth(str(chosen["base_model"]), float(chosen["rank"]), float(chosen["n_train_examples"]))  # type: ignore[arg-type]
    assert value - min(truth(*s) for s in settings) < 0.01
    assert found.best.low < value < found.best.high


def test_a_target_is_reached_by_the_cheapest() -> None:
    target = 1.8
    found = recommend(world(0.003), target={"cross_entropy": target})

    assert found.best is not None
    assert found.best.p_reaches is not None
    assert found.best.p_reaches >= 0.5
    assert found.best.cost is not None
    settings = itertools.product(BASES, (*RANKS, 128), (*SIZES, 12800))
    cheapest = min(seconds(*s) for s in settings if truth(*s) <= target)
    assert found.best.cost < 1.5 * cheapest


def test_hours_gpu_hours_and_money_are_one_budget() -> None:
    table = world()
    labels = {
        recommend(table, budget=budget, price_per_hour=price).best.label  # type: ignore[union-attr]
        for budget, price in (
            ({"seconds": 3.6}, None),
            ({"hours": 0.001}, None),
            ({"gpu_hours": 0.001}, None),
            ({"money": 0.004}, 4.0),
        )
    }
    assert len(labels) == 1


def test_what_cannot_be_reached_is_said_with_the_nearest() -> None:
    found = recommend(world(), target={"cross_entropy": 0.5})

    assert found.best is None
    assert found.sentences[0].startswith("No configuration is predicted to reach cross-entropy 0.500")
    assert "nearest: large" in found.sentences[0]


def test_doubling_is_told_with_its_interval() -> None:
    found = recommend(world(0.003), budget={"seconds": 1.0})
    gains = {gain.axis: gain for gain in found.gains}

    assert set(gains) == {"rank", "n_train_examples", "n_params_total"}
    chosen = found.best.settings  # type: ignore[union-attr]
    size = float(chosen["n_train_examples"])  # type: ignore[arg-type]
    true_gain = (size / 100) ** -0.5 - (size / 50) ** -0.5
    assert gains["n_train_examples"].low < true_gain < gains["n_train_examples"].high
    assert any(sentence.startswith("Twice the training examples would buy") for sentence in found.sentences)


def test_full_fine_tuning_stands_beside_adapters_without_a_rank() -> None:
    found = recommend(world(methods=("lora", "full")), budget={"seconds": 2.0})

    assert found.best is not None
    assert found.best.settings["method"] == "lora"
    full = recommend(world(methods=("full",)))
    assert full.best is not None
    assert "rank" not in full.best.label


def test_a_study_without_a_law_knows_what_it_measured() -> None:
    found = recommend(
        world().filter((pl.col("rank") == 4) & (pl.col("n_train_examples") == 400) & (pl.col("seed") < 2))
    )

    assert found.best is not None
    assert found.best.is_measured


def test_settings_with_a_law_stand_beside_settings_without() -> None:
    two = world().filter(pl.col("base_model") != "middle")  # two base models are no axis: each has laws of its own
    found = recommend(two.filter((pl.col("base_model") == "large") | (pl.col("rank") == 4)))

    assert found.best is not None
    assert found.best.settings["base_model"] == "large"
    alone = recommend(two.filter((pl.col("base_model") == "small") | (pl.col("seed") == 5)))
    assert alone.best is not None
    assert alone.best.low < truth("small", 128, 12800) < alone.best.high


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"target": {"cross_entropi": 1.0}}, 'Did you mean "cross_entropy"'),
        ({"target": {}}, "give one metric"),
        ({"target": {"cross_entropy": float("nan")}}, "finite"),
        ({"budget": {"hour": 1}}, 'Did you mean "hours"'),
        ({"budget": {"hours": 0}}, "above 0"),
        ({"budget": {"money": 3}}, "price_per_hour"),
        ({"budget": {"memory_gb": 3}}, "peak_memory_bytes"),
    ],
)
def test_requests_that_are_not_understood(arguments: dict[str, object], part: str) -> None:
    with pytest.raises(TableError, match=part):
        recommend(world(), **arguments)  # type: ignore[arg-type]


def test_costs_of_configurations_that_were_not_run() -> None:
    rows = pl.DataFrame({"base_model": ["large"], "method": ["lora"], "rank": [128], "n_train_examples": [12800]})
    costs = costs_of(rows, world(), "train_seconds")

    assert costs.values == pytest.approx([seconds("large", 128, 12800)], rel=0.01)
    assert costs.relative_error < 0.01


def test_next_cells_narrow_the_interval() -> None:
    found = design(world(0.03), 4)

    assert len(found.labels) == len(found.costs) == 4
    assert found.expected_width < found.width
    cheap = design(world(0.03), 1, cost="train_seconds").costs[0]
    assert cheap <= design(world(0.03), 1, cost=None).costs[0] * 1e9  # a cost of one each


@pytest.mark.parametrize(("k", "table", "part"), [(0, world(), "at least 1"), (2, world().head(4), "no law")])
def test_next_cells_need_a_law_and_a_number(k: int, table: pl.DataFrame, part: str) -> None:
    with pytest.raises(TableError, match=part):
        design(table, k)


def ranked(loss: dict[int, float], size: int, noise: float = 0.002) -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [(rank, seed, value + noise * random.standard_normal()) for rank, value in loss.items() for seed in range(3)]
    table = pl.DataFrame(rows, schema=["rank", "seed", "cross_entropy"], orient="row")
    return table.with_columns(n_train_examples=pl.lit(size), method=pl.lit("lora"), base_model=pl.lit("m"))


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        ({4: 2.2, 8: 2.0, 64: 2.0}, "holds"),
        ({4: 2.2, 8: 2.0, 64: 1.8}, "fails"),
        ({4: 2.2, 8: 2.0, 64: 1.98}, "cannot tell"),
        ({4: 2.2, 16: 2.0}, "cannot tell"),
    ],
)
def test_rank_by_examples(loss: dict[int, float], verdict: str) -> None:
    found = check_rule(ranked(loss, 500), "rank-by-examples")

    (finding,) = found.findings
    assert (finding.says, finding.verdict, found.verdict) == (8, verdict, verdict)


def test_a_rank_that_was_not_run_is_told_by_the_law() -> None:
    table = ranked({rank: 1 + rank**-0.5 for rank in (1, 2, 4, 16, 64)}, 500)
    (finding,) = check_rule(table, "rank-by-examples").findings

    assert finding.loss is not None
    assert finding.loss[1] < 8**-0.5 - 64**-0.5 < finding.loss[2]
    assert finding.verdict == "fails"


def test_lora_alpha_is_read_from_the_method() -> None:
    at = [ranked({4: loss}, 500).with_columns(method=pl.lit(name)) for name, loss in METHODS.items()]
    found = check_rule(pl.concat(at), "alpha-2r")

    (finding,) = found.findings
    assert (finding.given, finding.says, finding.verdict) == (4, 8, "fails")
    assert "1.9" not in finding.sentence


METHODS = {"lora": 2.0, "lora(lora_alpha=8)": 2.2, "lora(lora_alpha=4)": 2.3}


def test_a_rule_that_nobody_knows() -> None:
    with pytest.raises(TableError, match='Did you mean "rank-16"'):
        check_rule(world(), "rank-61")


def test_cells_without_a_rank_have_a_law_of_their_own_though_no_method_is_named() -> None:
    table = world(methods=("lora", "full")).drop("method")
    found = recommend(table)

    assert found.best is not None
    assert found.best.low < truth("large", 128, 12800) < found.best.high + 0.05


def test_what_was_not_run_comes_first_only_where_it_is_told_apart() -> None:
    """Beyond rank 64 nothing is gained that this noise would show."""
    flat = world(0.03).with_columns(cross_entropy=pl.col("cross_entropy") - 0.3 * pl.col("rank") ** -0.5)
    found = recommend(flat.filter(pl.col("n_train_examples") == 6400).with_columns(n_train_examples=pl.lit(1)))

    assert found.best is not None
    assert found.best.is_measured


def test_a_target_needs_costs() -> None:
    with pytest.raises(TableError, match="has no costs"):
        recommend(world().drop("train_seconds"), target={"cross_entropy": 1.8})


def test_a_metric_of_unknown_direction_says_which_it_took() -> None:
    table = world().with_columns(bleu=1 / pl.col("cross_entropy"))

    taken, told = recommend(table, metric="bleu"), recommend(table, metric="bleu", larger_is_better=True)

    assert "Smaller bleu is taken to be better." in taken.sentences
    assert told.best is not None
    assert told.best.settings["base_model"] == "large"
    assert not any("taken to be" in sentence for sentence in told.sentences)


def test_noise_that_nobody_measured_is_not_taken_for_none() -> None:
    once = world(0.05).filter(
        (pl.col("seed") == 0) & pl.col("rank").is_in([4, 16]) & (pl.col("n_train_examples") < 500)
    )
    found = recommend(once.filter(pl.col("base_model") != "middle"))

    assert found.best is not None
    assert found.best.high - found.best.low > 0.1
    assert any("noise is not known" in sentence for sentence in found.sentences)


def test_rows_that_were_left_out_are_counted() -> None:
    table = world().with_columns(
        cross_entropy=pl.when(pl.col("seed") + pl.col("rank") == 1).then(None).otherwise("cross_entropy")
    )

    assert "12 rows were left out: not finished, or without a number." in recommend(table).sentences
    assert check_rule(table, "rank-16").n_left_out == 12


def test_small_integers_can_be_doubled() -> None:
    small = world().with_columns(pl.col("rank").cast(pl.Int8), pl.col("n_train_examples").cast(pl.UInt16))

    assert recommend(small).sentences == recommend(world()).sentences


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("cross_entropy", "high", "not numbers"),
        ("rank", True, "not numbers"),
        ("n_train_examples", 0, "above 0"),
        ("train_seconds", "long", "not numbers"),
    ],
)
def test_columns_that_hold_something_else(column: str, value: object, part: str) -> None:
    with pytest.raises(TableError, match=part):
        recommend(world().with_columns(pl.lit(value).alias(column)), budget={"seconds": 1})


@pytest.mark.parametrize("metric", ["rank", "base_model"])
def test_a_setting_is_no_metric(metric: str) -> None:
    with pytest.raises(TableError, match="is a setting"):
        recommend(world(), metric=metric)


def test_costs_that_are_no_numbers_are_left_out() -> None:
    table = world()
    broken = table.with_columns(
        train_seconds=pl.when(pl.col("seed") == 1).then(float("nan")).otherwise("train_seconds")
    )

    rows = pl.DataFrame({"base_model": ["large"], "method": ["lora"], "rank": [128], "n_train_examples": [12800]})
    assert costs_of(rows, broken, "train_seconds").values == pytest.approx(
        costs_of(rows, table, "train_seconds").values
    )


def test_a_budget_that_buys_nothing() -> None:
    with pytest.raises(TableError, match="buys no cell"):
        design(world(), budget=1e-9)


def test_many_levels_are_not_multiplied_out() -> None:
    random = np.random.default_rng(0)
    table = (
        world()
        .sample(500, with_replacement=True, seed=0)
        .with_columns(
            rank=pl.Series(random.integers(1, 400, 500)), n_train_examples=pl.Series(random.integers(1, 4000, 500))
        )
    )
    assert recommend(table).best is not None


def test_copies_of_a_seed_count_once() -> None:
    copied = pl.concat(
        [ranked({4: 2.2, 8: 2.05, 64: 2.0}, 500, noise=0).with_columns(seed=pl.lit(seed)) for seed in range(5)]
    )
    (finding,) = check_rule(copied, "rank-by-examples").findings

    assert finding.verdict == "cannot tell"
    assert "too few cells to compare" in finding.sentence
