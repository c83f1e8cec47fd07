"""Which cells are compared along an axis: grids, stars, missing and unfinished cells."""

import numpy as np
import polars as pl
import pytest
from simulated import study_table

from loralaw.errors import TableError
from loralaw.laws import Status, design, fit, judge, recommend
from loralaw.laws.contexts import check_one_text, comparable_rows, context_codes, context_columns


def unfinished(table: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """The table with these cells diverged: no metric, as in a real one."""
    return table.with_columns(
        status=pl.when(where).then(pl.lit("diverged")).otherwise("status"),
        cross_entropy=pl.when(where).then(None).otherwise("cross_entropy"),
    )


@pytest.mark.parametrize(
    ("axis", "columns"),
    [
        ("rank", ["base_model", "method", "n_train_examples", "template"]),
        ("n_train_examples", ["base_model", "method", "rank", "template"]),
        ("n_train_tokens", ["base_model", "method", "rank", "template"]),
        ("n_params_total", ["method", "rank", "n_train_examples", "template"]),
        ("n_params_trainable", ["base_model", "method", "n_train_examples", "template"]),
    ],
)
def test_functions_of_the_axis_are_not_contexts(axis: str, columns: list[str]) -> None:
    assert context_columns(study_table(), [axis]) == columns


def test_functions_of_a_setting_stand_in_where_it_is_absent() -> None:
    table = study_table().drop("base_model", "n_train_examples", "template")

    assert context_columns(table, ["rank"]) == ["n_params_total", "method", "n_train_tokens"]
    assert context_columns(table, ["n_params_total"]) == ["method", "rank", "n_train_tokens"]


def test_null_is_a_value_of_a_setting() -> None:
    table = pl.DataFrame({"template": [None, "a", None, "b"]})

    codes = context_codes(table, ["template"])

    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 3


def test_a_full_grid_uses_every_setting() -> None:
    table = study_table()

    along_rank, along_size, along_model = (
        fit(table, metric="cross_entropy", axis=a) for a in ("rank", "n_train_examples", "n_params_total")
    )

    assert [f.n_contexts for f in (along_rank, along_size, along_model)] == [3 * 3, 3 * 4, 4 * 3]
    assert {f.n_cells for f in (along_rank, along_size, along_model)} == {table.height}
    assert {f.n_contexts_left_out for f in (along_rank, along_size, along_model)} == {0}


def test_means_by_level_are_over_the_same_settings() -> None:
    table = study_table(noise=0.0)

    means = fit(table, metric="cross_entropy", axis="rank").means

    expected = table.group_by("rank").agg(pl.col("cross_entropy").mean()).sort("rank")["cross_entropy"]
    assert means == pytest.approx(expected.to_numpy())


def test_a_star_uses_its_centre() -> None:
    table = study_table(star=True)

    along_rank = fit(table, metric="cross_entropy", axis="rank")

    centre = table.filter((pl.col("base_model") == "middle") & (pl.col("n_train_examples") == 256))
    assert (along_rank.n_contexts, along_rank.n_contexts_left_out) == (1, 4)
    assert along_rank.n_cells == centre.height == 8
    assert along_rank.means == pytest.approx(
        centre.group_by("rank").agg(pl.col("cross_entropy").mean()).sort("rank")["cross_entropy"].to_numpy()
    )
    assert "1 of 5 settings" in along_rank.message


def test_a_missing_cell_of_a_grid_costs_its_setting() -> None:
    lost = (pl.col("base_model") == "small") & (pl.col("n_train_examples") == 64) & (pl.col("rank") == 16)
    table = unfinished(study_table(), lost & (pl.col("seed") == 1))

    along_rank = fit(table, metric="cross_entropy", axis="rank")

    assert (along_rank.n_contexts, along_rank.n_contexts_left_out, along_rank.n_excluded) == (8, 1, 1)
    assert along_rank.n_cells == 8 * 4 * 2
    assert "8 of 9 settings" in along_rank.message
    assert "1 row was left out" in along_rank.message


def test_a_missing_cell_of_a_star_costs_only_itself() -> None:
    centre = (pl.col("base_model") == "middle") & (pl.col("n_train_examples") == 256)
    table = unfinished(study_table(star=True), centre & (pl.col("rank") == 64) & (pl.col("seed") == 1))

    along_rank = fit(table, metric="cross_entropy", axis="rank")

    assert (along_rank.n_contexts, along_rank.n_cells, len(along_rank.levels)) == (1, 7, 4)


def test_a_level_that_never_finished_is_no_level() -> None:
    along_rank = fit(unfinished(study_table(), pl.col("rank") == 64), metric="cross_entropy", axis="rank")

    assert along_rank.levels.tolist() == [1, 4, 16]
    assert (along_rank.n_contexts, along_rank.n_excluded) == (9, 3 * 3 * 2)


def test_more_seeds_at_one_setting_do_not_push_the_others_out() -> None:
    more = study_table(seeds=(2, 3, 4), rng=1)
    centre = (pl.col("base_model") == "middle") & (pl.col("n_train_examples") == 256)
    table = pl.concat([study_table(), more.filter(centre)])

    along_rank = fit(table, metric="cross_entropy", axis="rank")

    assert (along_rank.n_contexts, along_rank.n_cells) == (9, 72)


def test_settings_that_differ_by_far_more_than_the_axis_hide_nothing() -> None:
    """The point of contexts: an off-centre cell of a star must not be averaged into a level."""
    table = study_table(star=True, noise=0.001)
    moved = table.with_columns(
        cross_entropy=pl.col("cross_entropy") + pl.when(pl.col("base_model") == "small").then(100.0).otherwise(0.0)
    )

    plain, shifted = (fit(t, metric="cross_entropy", axis="rank") for t in (table, moved))

    assert shifted.means == pytest.approx(plain.means)
    assert plain.status is Status.LAW


def test_runs_with_a_seed_each_are_repeats() -> None:
    table = study_table(star=True).with_columns(seed=pl.int_range(pl.len()))

    along_rank = fit(table, metric="cross_entropy", axis="rank")

    assert along_rank.has_law
    assert along_rank.n_cells == 8


def test_many_contexts_are_chosen_without_a_loop_over_rows() -> None:
    """Every second of 20,000 contexts lacks a level; the others are used."""
    context = np.repeat(np.arange(20_000), 3)
    level = np.tile(np.arange(3), 20_000)
    run = (context % 2 == 0) | (level < 2)

    used = comparable_rows(context[run], level[run], np.zeros(run.sum(), dtype=np.int64))

    assert used.sum() == 30_000
    assert np.all(context[run][used] % 2 == 0)


def test_tables_of_several_tasks_are_refused() -> None:
    """Whatever reads off which configuration is best, or whether a metric obeys a law, wants one task."""
    table = study_table()
    one = table.with_columns(task=pl.lit("piqa"))
    several = pl.concat([one, table.with_columns(task=pl.lit("boolq")), table.with_columns(task=pl.lit("arc_easy"))])
    check_one_text(one)
    check_one_text(table.drop("task") if "task" in table.columns else table)
    check_one_text(one.with_columns(task=pl.when(pl.col("seed") == 0).then("task")))  # of some it is not known
    check_one_text(one.clear())
    with pytest.raises(TableError) as caught:
        check_one_text(several)
    assert "3 tasks (arc_easy, boolq, piqa)" in str(caught.value)
    assert "--task" in str(caught.value)
    for ask in (recommend, judge, lambda given: design(given, k=2, cost=None)):
        with pytest.raises(TableError, match="3 tasks"):
            ask(several)
        ask(several.filter(pl.col("task") == "piqa"))


def test_numbers_of_tasks_are_named_too() -> None:
    with pytest.raises(TableError, match=r"2 tasks \(1, 2\)"):
        check_one_text(pl.DataFrame({"task": [2, 1, 2]}))
