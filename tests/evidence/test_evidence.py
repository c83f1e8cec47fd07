"""The evidence: its tables can be refitted by anyone, and every number of its documents is what they give."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from loralaw.report import write_report
from loralaw.spec import load_study
from loralaw.store import StudyFile

REPOSITORY = Path(__file__).parents[2]
CODE, RESULTS = REPOSITORY / "benchmarks" / "evidence", REPOSITORY / "benchmarks" / "results" / "evidence"


def _table_of(study: Path) -> Path:
    return RESULTS / f"{study.stem.removeprefix('evidence_')}.parquet"


STUDIES = sorted(REPOSITORY.glob("studies/evidence_*.yaml"))
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module", autouse=True)
def code() -> Iterator[None]:
    """The modules of the evidence can be imported, as they are where the folder is run."""
    sys.path.insert(0, str(CODE))
    yield
    sys.path.remove(str(CODE))


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_the_tables_are_small_enough_to_hand_on() -> None:
    assert 0 < sum(path.stat().st_size for path in RESULTS.glob("*.parquet")) <= MOST_BYTES


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_table_is_of_the_study_that_stands_in_the_repository(path: Path) -> None:
    study = StudyFile(_table_of(path))
    assert _without_places(study.settings) == _without_places(load_study(path).settings())
    assert len(study.records()) == len(study.planned_keys)


def _without_places(settings: Any) -> Any:
    """Files of tasks stand in a study as full paths."""
    if isinstance(settings, dict):
        return {name: _without_places(value) for name, value in settings.items()}
    if isinstance(settings, list):
        return [_without_places(value) for value in settings]
    return Path(settings).name if isinstance(settings, str) and settings.endswith(".jsonl") else settings


def test_every_number_of_the_documents_is_what_the_tables_give() -> None:
    blocks = module("blocks")
    named = set()
    for document in blocks.DOCUMENTS:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        assert blocks.filled(text) == text, f"{document}: run python benchmarks/evidence --write"
        named |= set(re.findall(r"<!-- numbers: ([a-z-]+) -->", text))
    assert named == set(blocks.BLOCKS)


def test_cells_that_failed_are_said() -> None:
    """In the table of cells of the document, whose counts are those of the files."""
    counts = module("blocks").BLOCKS["cells"]()
    for path in STUDIES:
        table = StudyFile(_table_of(path)).table()
        n_failed = table.filter(pl.col("status") != "finished").height
        row = next(line for line in counts.splitlines() if f"`{path.name}`" in line)
        assert row.split("|")[3:5] == [f" {table.height} ", f" {n_failed} "]


@pytest.mark.parametrize(("name", "part"), [("glue", "Row scale"), ("rank_scaling", "Which metric to trust")])
def test_the_report_draws_from_a_table(name: str, part: str, tmp_path: Path) -> None:
    page = write_report(StudyFile(RESULTS / f"{name}.parquet"), tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"evidence_{name}" in page
    assert part in page


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12, unique_by=lambda p: p[0]))
def test_tau_is_that_of_scipy_where_nothing_is_tied(pairs: list[tuple[int, int]]) -> None:
    resampling = module("resampling")
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    y += np.arange(len(y)) / 100  # no ties
    assert resampling.kendall(x, y) == pytest.approx(kendalltau(x, y).statistic)
    assert resampling.kendall(x, -y) == pytest.approx(-resampling.kendall(x, y))


def test_paired_intervals() -> None:
    """A metric is as good as itself whatever is drawn, and one that follows the target is better than noise."""
    resampling, rng = module("resampling"), np.random.default_rng(0)
    target = np.arange(40.0)
    near, noise = target + rng.normal(0, 3, 40), rng.normal(size=40)
    taus, differences = resampling.kendalls([near, noise, near], target)
    assert taus[0] == taus[2]
    assert (differences[0][2].low, differences[0][2].high) == (0, 0)
    assert differences[0][1].low > 0
    assert differences[1][0].high < 0
    assert taus[1].low < 0 < taus[1].high
    inside = resampling.same(pl.Series([0, 1] * 20))
    (only,), _ = resampling.kendalls([np.where(np.arange(40) % 2, target - 100, target)], target, inside)
    assert only.value == 1


def test_intervals_hold_as_often_as_they_say() -> None:
    """Of tau, for 30 configurations of a Gaussian pair whose tau is known: 2/π · arcsin ρ."""
    resampling, rng = module("resampling"), np.random.default_rng(1)
    rho, held = 0.7, 0
    for _ in range(200):
        x, e = rng.normal(size=(2, 30))
        (tau,), _ = resampling.kendalls([x], rho * x + np.sqrt(1 - rho**2) * e)
        held += tau.low <= 2 / np.pi * np.arcsin(rho) <= tau.high
    assert held / 200 > 0.9  # 3 standard errors below 0.95


def test_pooled_differences() -> None:
    """Against the t interval of one task, by scipy."""
    from scipy.stats import ttest_1samp

    glue, rng = module("glue"), np.random.default_rng(2)
    seeds = rng.normal(0.01, 0.02, 5)
    found = glue.pooled([seeds])
    low, high = ttest_1samp(100 * seeds, 0).confidence_interval()
    assert (found.value - found.half, found.value + found.half) == pytest.approx((low, high))
    twice = glue.pooled([seeds, seeds])
    assert twice.value == pytest.approx(found.value)
    assert twice.half < found.half / np.sqrt(2)


def test_units_are_drawn_whole() -> None:
    """Rows that come twice, as of two seeds that say the same, give the interval of the rows once."""
    resampling, rng = module("resampling"), np.random.default_rng(3)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    once, _ = resampling.kendalls([x], y)
    seed = pl.Series([0] * 20 + [1] * 20)
    units = pl.Series([*range(20)] * 2)
    twice, _ = resampling.kendalls([np.tile(x, 2)], np.tile(y, 2), resampling.same(seed), units)
    assert [twice[0].value, twice[0].low, twice[0].high] == pytest.approx([once[0].value, once[0].low, once[0].high])


def test_trainings_that_came_to_nothing() -> None:
    rows = [
        ("mrpc", 0.652, 2 * 0.652 / 1.652, True),  # all positive
        ("mrpc", 0.348, 0.0, True),  # all negative
        ("mrpc", 0.652, 0.74, False),  # the accuracy by chance
        ("qnli", 0.495, None, True),
        ("qnli", 0.6, None, False),
        ("mnli", 0.667, None, False),  # what is left of the commonest of three is no class
    ]
    shares = {"mrpc": 0.652, "qnli": 0.505, "mnli": 0.333}
    table = pl.DataFrame(rows, schema=["task", "accuracy", "f1", "lost"], orient="row")
    table = table.with_columns(majority_accuracy=pl.col("task").replace_strict(shares))
    assert table.select(module("glue").one_answer()).to_series().to_list() == table["lost"].to_list()


def test_a_combination_never_sees_what_it_scores() -> None:
    ordering, rng = module("ordering"), np.random.default_rng(4)
    features = rng.normal(size=(12, 3))
    candidate = ordering.Candidate("three", lambda table: table.select("a", "b", "c").to_numpy())
    half = pl.DataFrame(features, schema=["a", "b", "c"]).with_columns(cross_entropy=features @ np.array([1.0, 2, 3]))
    other = half.with_columns(pl.col("a") + 1)
    chosen, judged = ordering.scores(candidate, half, other)
    spoilt = half.with_columns(cross_entropy=pl.when(pl.int_range(pl.len()) == 5).then(99.0).otherwise("cross_entropy"))
    assert ordering.scores(candidate, spoilt, other)[0][5] == pytest.approx(chosen[5])
    assert ordering.scores(candidate, half, spoilt)[1] == pytest.approx(ordering.scores(candidate, half, half)[1])
    assert ordering.kendall(judged, half["cross_entropy"].to_numpy()) > 0.8


def test_adapters_that_both_conventions_share_count_once() -> None:
    resampling = module("resampling")
    table = pl.DataFrame({"method": ["lora", "lora", "rslora", "rslora"], "rank": [1, 4, 1, 4]})
    assert resampling.once(table).rows() == [("lora", 1), ("lora", 4), ("rslora", 4)]
