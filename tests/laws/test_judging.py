"""Which metric obeys the law: known answers, invariances, and how often it is wrong."""

import numpy as np
import polars as pl
import pytest
from simulated import study_table

from loralaw.errors import TableError
from loralaw.laws import Judgement, judge
from loralaw.laws.judge_sentences import comparison_sentence
from loralaw.laws.judging import Score


def two_metrics(noise: tuple[float, float], *, levels: int = 8, seeds: int = 3, rng: int = 0) -> pl.DataFrame:
    """MIUB and cross-entropy with one law and their own noise."""
    random = np.random.default_rng(rng)
    x, seed = np.repeat(2.0 ** np.arange(levels), seeds), np.tile(np.arange(seeds), levels)
    law = 0.5 + x**-0.5
    first, second = (law + sd * random.standard_normal(len(x)) for sd in noise)
    return pl.DataFrame({"rank": x, "seed": seed, "miub_nats": first, "cross_entropy": second})


def judged(table: pl.DataFrame) -> Judgement:
    return judge(table, axes=["rank"], metrics=["miub_nats", "cross_entropy"])


def test_the_metric_with_less_noise_obeys_better() -> None:
    found = judged(two_metrics((0.01, 0.05)))

    (comparison,) = found.comparisons
    assert comparison.p_misfit < 0.05
    assert comparison.misfit_ratio.value == pytest.approx(0.2, rel=0.5)
    assert comparison.misfit_ratio.low < 0.2 < comparison.misfit_ratio.high
    assert comparison.sentence.startswith("MIUB follows the rank law better than cross-entropy")
    misfits = {score.metric: score.misfit for score in found.scores}
    assert misfits["miub_nats"].value < misfits["cross_entropy"].value
    assert misfits["miub_nats"].low < misfits["miub_nats"].value < misfits["miub_nats"].high


@pytest.mark.parametrize(
    ("ends", "p", "said"),
    [
        ((0.2, 0.1, 0.4), 0.01, "MIUB follows the rank law better than cross-entropy"),
        ((5.0, 2.5, 10.0), 0.01, "MIUB follows the rank law worse than cross-entropy"),
        ((0.3, 0.05, 1.8), 0.04, "MIUB seems to follow the rank law better than cross-entropy, but the interval"),
        ((0.2, 0.1, 0.4), 0.06, "MIUB follows the rank law neither visibly better nor worse than cross-entropy"),
    ],
)
def test_a_difference_is_said_plainly_only_where_p_and_interval_agree(
    ends: tuple[float, float, float], p: float, said: str
) -> None:
    assert comparison_sentence("miub_nats", "cross_entropy", "rank", Score(*ends), p).startswith(said)


def test_equal_metrics_are_rarely_told_apart() -> None:
    n_told = sum(judged(two_metrics((0.03, 0.03), rng=rng)).comparisons[0].p_misfit <= 0.05 for rng in range(40))

    assert n_told <= 6  # 5 of 100 are expected; 7 of 40 have a probability of 0.003


def test_exchanging_the_metrics_turns_the_ratio_over() -> None:
    table = two_metrics((0.01, 0.05))
    there = judge(table, axes=["rank"], reference="miub_nats", rivals=["cross_entropy"]).comparisons[0]
    back = judge(table, axes=["rank"], reference="cross_entropy", rivals=["miub_nats"]).comparisons[0]

    assert back.misfit_ratio.value == pytest.approx(1 / there.misfit_ratio.value)
    assert back.misfit_ratio.low == pytest.approx(1 / there.misfit_ratio.high)
    assert back.p_misfit == pytest.approx(there.p_misfit, abs=0.02)


def test_units_and_seed_shifts_do_not_matter() -> None:
    table = two_metrics((0.02, 0.03))
    changed = table.with_columns(miub_nats=5 + 100 * (pl.col("miub_nats") + 0.3 * pl.col("seed")))

    before, after = judged(table), judged(changed)

    assert after.scores[0].misfit.value == pytest.approx(before.scores[0].misfit.value)
    assert after.comparisons[0].p_misfit == before.comparisons[0].p_misfit


def test_a_metric_that_rises_is_judged_as_one_that_falls() -> None:
    table = two_metrics((0.02, 0.03))
    turned = table.with_columns(miub_nats=1 - pl.col("miub_nats"))

    before, after = judged(table), judged(turned)

    assert after.scores[0].increasing
    assert not before.scores[0].increasing
    assert after.scores[0].misfit.value == pytest.approx(before.scores[0].misfit.value)
    assert after.scores[0].monotonicity.value == before.scores[0].monotonicity.value


def test_three_levels_are_not_judged_and_that_is_said() -> None:
    found = judge(study_table())

    assert {score.axis for score in found.scores} == {"rank"}
    assert [sentence.split(":")[0] for sentence in found.not_judged] == [
        "along training examples nothing is judged",
        "along base-model size nothing is judged",
    ]
    assert "4 levels" in found.not_judged[0]


def test_agreement_with_the_accuracy_that_users_care_about() -> None:
    table = study_table(noise=0.0001).with_columns(miub_nats=pl.lit(1.0) + pl.col("cross_entropy").rank())
    by_metric = {each.metric: each for each in judge(table).agreements}

    assert by_metric["cross_entropy"].downstream == "accuracy"
    assert by_metric["cross_entropy"].correlation.value == pytest.approx(1.0)
    assert by_metric["cross_entropy"].n_configurations == 36
    assert by_metric["miub_nats"].correlation.value == pytest.approx(1.0, abs=0.01)


def test_one_seed_has_no_spread() -> None:
    found = judged(two_metrics((0.01, 0.02), seeds=1))

    assert np.isnan(found.scores[0].seed_spread.value)
    assert np.isfinite(found.scores[0].misfit.value)


def test_all_metrics_are_judged_on_the_cells_that_have_them_all() -> None:
    """A cell without MIUB is left out of cross-entropy too, and with it its seed, which is then not at every level."""
    is_first = (pl.col("rank") < 2) & (pl.col("seed") == 0)
    table = two_metrics((0.01, 0.05)).with_columns(miub_nats=pl.when(is_first).then(None).otherwise("miub_nats"))
    found = judged(table)

    assert found.n_left_out == 1
    assert {score.n_seeds for score in found.scores} == {2}
    without = judged(table.filter(pl.col("seed") > 0))
    assert found.comparisons[0].misfit_ratio == without.comparisons[0].misfit_ratio


def test_a_metric_that_no_seed_changes_is_not_compared() -> None:
    found = judged(two_metrics((0.01, 0.05)).with_columns(miub_nats=0.5 + pl.col("rank") ** -0.5))

    assert found.comparisons == []
    assert found.not_judged == ["MIUB and cross-entropy are not compared along rank: one is the same whatever the seed"]


def test_a_constant_metric_is_named() -> None:
    found = judged(two_metrics((0.01, 0.05)).with_columns(miub_nats=pl.lit(1.0)))

    assert found.not_judged == ["MIUB does not change along rank"]


def test_a_rival_that_is_no_column() -> None:
    with pytest.raises(TableError, match='Did you mean "cross_entropy"'):
        judge(two_metrics((0.01, 0.05)), rivals=["cross_entropi"])


def test_a_metric_that_is_no_column() -> None:
    with pytest.raises(TableError, match='Did you mean "miub_nats"'):
        judge(two_metrics((0.01, 0.05)), metrics=["miub_nat"])


@pytest.mark.parametrize("names", [{"metrics": "miub_nats"}, {"axes": "rank"}, {"rivals": "cross_entropy"}])
def test_one_name_is_no_list(names: dict[str, str]) -> None:
    with pytest.raises(TableError, match="give a list of columns"):
        judge(two_metrics((0.01, 0.05)), **names)  # type: ignore[arg-type]


def test_a_name_twice_is_scored_once() -> None:
    found = judge(two_metrics((0.01, 0.05)), axes=["rank", "rank"], rivals=["cross_entropy", "cross_entropy"])

    assert len(found.comparisons) == 1
    assert [score.metric for score in found.scores] == ["cross_entropy", "miub_nats"]


def test_level_means_that_are_equal_to_the_last_bit_give_numbers() -> None:
    """As those of an accuracy on a hundred questions: cells differ, their means at every level do not."""
    x, seed = np.repeat([1.0, 2.0, 4.0, 8.0], 2), np.tile([0, 1], 4)
    table = pl.DataFrame({"rank": x, "seed": seed, "choice_accuracy": np.tile([0.25, 0.375, 0.375, 0.25], 2)})
    falling = table.with_columns(cross_entropy=2 + x**-0.5 + 0.01 * np.tile([1, -1, -1, 1], 2))

    (score,) = judge(falling, axes=["rank"], metrics=["choice_accuracy"], reference="choice_accuracy", rivals=[]).scores

    assert np.isfinite([score.misfit.value, score.seed_spread.value]).all()
