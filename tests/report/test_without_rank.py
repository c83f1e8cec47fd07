"""Full fine-tuning has no rank and no adapter: the report compares it where it can, and says nothing else of it."""

from pathlib import Path

import pytest
from synthetic_study import BASES, write_synthetic

from loralaw.laws import fit, fit_all
from loralaw.report.answer import advise, configurations, limits
from loralaw.report.cells import columns_with_values, label, table_rows
from loralaw.report.cost import pareto_front
from loralaw.report.inside import layers_by_base_model
from loralaw.report.page import render, subtitle
from loralaw.report.terminal import terminal_laws, terminal_summary
from loralaw.store import Study

N_RANKED, N_FULL = 3 * 4 * 3 * 2, 3 * 3 * 2
FULL = "full(learning_rate=0.0005)"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """LoRA at four ranks, and full fine-tuning, of the same base models, sizes and seeds."""
    return write_synthetic(tmp_path_factory.mktemp("mixed"), full=True)


@pytest.fixture(scope="module")
def only_full(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_synthetic(tmp_path_factory.mktemp("full"), ranks=(), full=True)


def test_the_law_along_rank_is_that_of_the_cells_with_a_rank(study: Study, tmp_path: Path) -> None:
    mixed = fit(study.table(), metric="cross_entropy", axis="rank")
    alone = fit(write_synthetic(tmp_path).table(), metric="cross_entropy", axis="rank")

    assert mixed.params == alone.params
    assert (mixed.n_cells, mixed.n_excluded, mixed.n_without_size) == (N_RANKED, N_FULL, N_FULL)
    assert (alone.n_excluded, alone.n_without_size) == (0, 0)
    assert "18 rows were left out: no rank." in mixed.message
    assert "not finished" not in mixed.message


@pytest.mark.parametrize("axis", ["n_train_examples", "n_params_total"])
def test_full_fine_tuning_is_a_setting_of_its_own_along_the_other_axes(study: Study, axis: str) -> None:
    along = fit(study.table(), metric="cross_entropy", axis=axis)

    assert along.n_cells == N_RANKED + N_FULL
    assert along.n_contexts == 3 * (4 + 1)  # three of the other axis, four ranks and none
    assert along.n_contexts_left_out == 0


def test_only_full_fine_tuning_has_laws_of_size_and_none_of_rank(only_full: Study) -> None:
    fits = fit_all(only_full.table())

    assert {found.axis for found in fits} == {"n_train_examples", "n_params_total"}
    assert "miub_nats" not in {found.metric for found in fits}


def test_a_configuration_is_called_by_what_it_is() -> None:
    row = {"base_model": "m", "method": "lora", "rank": 8, "n_train_examples": 64}

    assert label(row) == "m · lora · rank 8 · 64 examples"
    assert label({**row, "method": "full", "rank": None}) == "m · full fine-tuning · 64 examples"
    assert label({**row, "method": FULL, "rank": None}, several_methods=False) == (
        "m · full fine-tuning (learning_rate=0.0005) · 64 examples"
    )


def test_the_subtitle_counts_what_was_crossed(study: Study, only_full: Study) -> None:
    assert "90 cells · 3 base models × 4 ranks × 3 data sizes × 2 seeds, and 18 cells of full fine-tuning ·" in (
        subtitle(study.table(), 90)
    )
    assert "18 cells · full fine-tuning of 3 base models × 3 data sizes × 2 seeds ·" in subtitle(only_full.table(), 18)


def test_full_fine_tuning_is_dearer_than_any_rank_of_the_same_model_and_data(tmp_path: Path) -> None:
    table = write_synthetic(tmp_path, bases=["micro-0.4m"], ranks=(16384,), sizes=(512,), full=True).table()
    sizes = {c.label.split(" · ")[1]: c.size for c in configurations(table)}
    advice = advise(table)

    assert sizes["lora"] < sizes["full fine-tuning (learning_rate=0.0005)"]
    assert advice is not None
    assert "lora" in advice.smallest.label  # the two differ by less than the noise


def test_times_of_two_ways_of_training_are_said_not_to_compare(study: Study, only_full: Study, tmp_path: Path) -> None:
    """LoRA's cells train many at a time, full fine-tuning alone."""
    words = "seconds and memory of the two kinds cannot be compared"
    assert words in render(study)
    assert words not in render(only_full)
    assert words not in render(write_synthetic(tmp_path))


def test_cheapest_and_best_include_full_fine_tuning(study: Study) -> None:
    table = study.table()
    advice = advise(table)

    assert advice is not None
    assert advice.best.label == f"micro-6m · full fine-tuning {FULL[4:]} · 4,096 examples"
    assert any("full fine-tuning" in c.label for c in pareto_front(configurations(table)))


def test_what_the_adapter_would_show_is_said_to_be_absent(study: Study) -> None:
    said = limits(study.table(), study.records(), fit_all(study.table()), 90)

    (absent,) = [sentence for sentence in said if "absent" in sentence]
    assert absent == (
        "Cosine of u and z, effective rank, Jensen-Shannon divergence, MIUB and norm ratio ‖u‖/‖z‖ are absent from 18 "
        "cells: there is no adapter."
    )
    assert any("lora_alpha / rank falls" in sentence for sentence in said)  # it is so for the cells with an adapter


def test_a_base_model_with_no_adapter_has_no_heat_map(study: Study, only_full: Study) -> None:
    records = [r for r in study.records() if r["cell"]["rank"] is None or r["cell"]["base_model"] != "micro-6m"]

    assert [base.base_model for base in layers_by_base_model(records, list(BASES))] == ["micro-0.4m", "micro-1.3m"]
    assert layers_by_base_model(only_full.records(), list(BASES)) == []


def test_the_table_shows_a_rank_only_where_there_is_one(study: Study, only_full: Study) -> None:
    assert "rank" in {name for name, _, _ in columns_with_values(study.table())}
    assert "rank" not in {name for name, _, _ in columns_with_values(only_full.table())}
    ranks = {row["cells"][2].text for row in table_rows(study.table())}
    assert ranks == {"1", "4", "16", "64", "–"}


@pytest.mark.parametrize("which", ["study", "only_full"])
def test_page_and_terminal_stand(which: str, request: pytest.FixtureRequest) -> None:
    done: Study = request.getfixturevalue(which)
    page = render(done)

    assert "full fine-tuning" in page
    assert "rank None" not in page
    assert "rank –" not in page
    terminal_laws(fit_all(done.table()))
    terminal_summary(done)
