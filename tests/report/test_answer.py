import math
from pathlib import Path

import polars as pl
import pytest
from synthetic_study import write_synthetic

from loralaw.laws import fit_all
from loralaw.report.answer import advise, averages, configurations, limits, noise_of, nothing_to_say
from loralaw.report.cost import pareto_front
from loralaw.store import Study, table_of


def rows(study: Study, **losses: list[float]) -> pl.DataFrame:
    """The study's table with some columns replaced."""
    return study.table().with_columns(**{name: pl.Series(values) for name, values in losses.items()})


def test_best_is_a_mean_over_seeds_not_one_lucky_cell(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0, 1])
    table = rows(study, cross_entropy=[1.0, 3.0, 1.5, 1.6])  # rank 1 has the best cell, rank 2 the best mean

    advice = advise(table)

    assert advice is not None
    assert "rank 2" in advice.best.label
    assert advice.best.cross_entropy == pytest.approx(1.55)


def test_smallest_within_noise_follows_from_the_pooled_seed_spread(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2, 4], sizes=[8], seeds=[0, 1])
    seconds = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    # Pooled variance 3 · (0.1²/2) / 3 = 0.005, t(0.975, 3) = 3.182: means closer than 3.182 · 0.0707 = 0.225 are equal.
    table = rows(study, cross_entropy=[2.4, 2.5, 2.15, 2.25, 2.0, 2.1], train_seconds=seconds)

    advice = advise(table)

    assert advice is not None
    assert "rank 4" in advice.best.label
    assert "rank 2" in advice.smallest.label  # 0.15 worse: within; rank 1 is 0.40 worse: not
    assert advice.worse_by == "0.150 [-0.075, 0.375] nats worse"
    assert advice.best.sentence(advice.noise) == "2.05 [1.89, 2.21] nats, mean of 2 seeds"  # 3.182 · 0.0707 / √2


def test_one_seed_says_that_training_noise_is_unknown(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0])

    advice = advise(study.table())

    assert advice is not None
    assert "noise of training is not in it" in advice.noise.said
    assert any("One seed" in sentence for sentence in limits(study.table(), study.records(), [], 2))


def test_averages_say_where_cross_entropy_does_not_fall(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 4, 16], sizes=[8], seeds=[0, 1])
    table = rows(study, cross_entropy=[3.0, 3.1, 2.0, 2.1, 2.5, 2.7])

    (average,) = averages(fit_all(table))

    assert average.axis == "rank"
    # The paired changes are -0.5 and -0.4: -0.45 ± 12.71 · 0.05, Student's t with one degree of freedom.
    ends = "from 3.050 at rank 1 to 2.600 at rank 16"
    assert f"falls over the whole range, {ends}, a change of -0.45 [-1.09, 0.19] nats" in average.short
    assert "does not fall from rank 4 to rank 16" in average.short


def test_averages_say_that_it_falls_at_every_step(tmp_path: Path) -> None:
    table = write_synthetic(tmp_path).table()
    found = {a.axis: a.short for a in averages(fit_all(table))}

    assert set(found) == {"rank", "n_train_examples", "n_params_total"}
    assert all(text.startswith("falls at every step") for text in found.values())


def test_limits_count_every_way_to_be_unfinished(tmp_path: Path) -> None:
    failed = {0: ("diverged", "loss was nan"), 1: ("out-of-memory", "9 GiB"), 2: ("out-of-memory", "9 GiB")}
    study = write_synthetic(tmp_path, n_run=10, failed=failed, choices=False)

    said = limits(study.table(), study.records(), fit_all(study.table()), len(study.planned_keys))

    assert said[0] == (
        "7 of 72 planned cells have a result: 1 cell diverged, 2 cells ran out of memory and 62 cells not run yet."
    )
    assert any("Only one base model" in sentence for sentence in said)
    assert any("the task has no choices" in sentence for sentence in said)


def test_scores_on_validation_rows_are_called_so(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], sizes=[8], seeds=[0])
    records = study.records()
    assert "Scored on validation rows" not in " ".join(limits(study.table(), records, [], 4))
    records[1]["cell"]["evaluation"] = {"split": "validation"}
    assert "Scored on validation rows" in " ".join(limits(study.table(), records, [], 4))


@pytest.mark.parametrize(("method", "warned"), [("lora", True), ("rslora", False)])
def test_a_fall_of_miub_with_rank_may_be_the_scale(tmp_path: Path, method: str, warned: bool) -> None:
    study = write_synthetic(tmp_path, bases=["a"], method_name=method)

    said = " ".join(limits(study.table(), study.records(), [], 24))

    assert ("lora_alpha / rank falls" in said) == warned


def test_nothing_cheaper_beats_a_point_of_the_front(tmp_path: Path) -> None:
    every = configurations(write_synthetic(tmp_path).table())
    front = pareto_front(every)

    assert front[-1] == every[0]  # the best of all is on it
    for one in front:
        assert not any(
            o.train_seconds <= one.train_seconds and o.cross_entropy < one.cross_entropy  # type: ignore[operator]
            for o in every
        )


def test_an_empty_table_has_no_advice() -> None:
    assert advise(table_of([])) is None


def test_nothing_to_say_names_what_would_help(tmp_path: Path) -> None:
    table = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0]).table()
    diverged = table.with_columns(status=pl.lit("diverged"))
    assert "lower training.learning_rate" in nothing_to_say(diverged, 2)
    assert "Run the study again" in nothing_to_say(diverged, 3)
    assert "Run the study again" in nothing_to_say(table.with_columns(status=pl.lit("error")), 2)


def test_equal_seeds_say_nothing_of_noise(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0, 1])
    advice = advise(rows(study, cross_entropy=[2.0, 2.0, 1.9, 1.9]))

    assert advice is not None
    assert "every seed gave the same values" in advice.noise.said
    assert advice.best.sentence(advice.noise) == "1.900 nats, mean of 2 seeds"


def test_with_one_seed_a_difference_has_no_interval(tmp_path: Path) -> None:
    """The error of the test set is that of a mean; between two models on the same rows it cancels."""
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0])
    noise = noise_of(study.table())

    assert noise.half_width(1) == pytest.approx(1.96 * noise.deviation)
    assert math.isnan(noise.half_width(1, 1))
