from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_study import write_synthetic

import loralaw
from loralaw import laws
from loralaw.laws import describe, fit, fit_all
from loralaw.report import law_table, terminal_joint_laws, terminal_judgement, terminal_summary
from loralaw.store import Study


def printed(study: Study, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(terminal_summary(study))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_law_table_holds_the_true_exponent(tmp_path: Path) -> None:
    row = law_table([fit(write_synthetic(tmp_path).table(), metric="cross_entropy", axis="rank")]).row(0, named=True)

    assert row["status"] == "law"
    assert row["exponent_low"] < 0.6 < row["exponent_high"]  # the exponent of the synthetic law
    assert row["gain_of_doubling_low"] < row["gain_of_doubling"] < row["gain_of_doubling_high"]


def test_a_fit_without_a_law_has_no_numbers(tmp_path: Path) -> None:
    found = fit(write_synthetic(tmp_path, ranks=[4, 16]).table(), metric="cross_entropy", axis="rank")
    row = law_table([found]).row(0, named=True)

    assert (row["status"], row["exponent"], row["floor"], row["gain_of_doubling"]) == ("two-levels", None, None, None)
    assert row["sentence"] == describe(found)


def test_no_fits_make_an_empty_table_with_all_columns() -> None:
    assert law_table([]).columns[:3] == ["metric", "axis", "status"]


def test_the_summary_answers_first_and_ends_with_the_report(tmp_path: Path) -> None:
    text = printed(write_synthetic(tmp_path))

    assert text.startswith("synthetic · 72 cells · 3 base models × 4 ranks × 3 data sizes × 2 seeds")
    assert text.index("falls at every step") < text.index("exponent") < text.index("best measured")
    assert "report.html" in text.replace("\n", "")


@pytest.mark.parametrize("n_run", [0, 1, 20])
def test_the_summary_of_an_unfinished_study_says_what_is_missing(tmp_path: Path, n_run: int) -> None:
    text = printed(write_synthetic(tmp_path, n_run=n_run))

    assert f"{n_run} of 72 cells finished" in text


def test_a_study_is_judged_and_advises_as_its_table_does(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path)

    assert loralaw.judge(study).comparisons == laws.judge(study.table()).comparisons
    assert loralaw.recommend(study, budget={"hours": 1}).best == laws.recommend(study.table(), budget={"hours": 1}).best
    assert loralaw.design(study, 3).labels == laws.design(study.table(), 3).labels
    assert loralaw.check_rule(study, "rank-16") == laws.check_rule(study.table(), "rank-16")


def test_the_judgement_and_joint_laws_stand_in_eighty_columns(tmp_path: Path) -> None:
    table = write_synthetic(tmp_path, bases=["[bold]x[/nope]", "b", "c"]).table()
    for shown in (terminal_judgement(laws.judge(table)), terminal_joint_laws(laws.fit_all_jointly(table))):
        console = Console(file=StringIO(), width=80)
        console.print(shown)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "cross-entropy" in text
        assert max(map(len, text.splitlines())) <= 80


def test_names_are_no_markup_in_the_terminal(tmp_path: Path) -> None:
    assert "[bold]x[/nope]" in printed(write_synthetic(tmp_path, bases=["[bold]x[/nope]"]), width=200)


def test_every_pair_of_a_study_is_in_the_table(tmp_path: Path) -> None:
    fits = fit_all(write_synthetic(tmp_path).table())

    assert law_table(fits).select("metric", "axis").n_unique() == len(fits)
