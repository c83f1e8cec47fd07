import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from plotly.offline import get_plotlyjs
from synthetic_study import write_synthetic

from loralaw.laws import fit
from loralaw.report import write_report
from loralaw.report.html_page import script_json
from loralaw.report.inside import inside_figures, layers_by_base_model

HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "a<b>&amp;\u2028'\"{{7*7}}@ink%{x}")
LIMIT_BYTES = 6_000_000


class Outline(HTMLParser):
    """Tags, attributes, visible text and headings of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] not in ("script", "style"):
            self.text.append(data)
            if self._inside[-1] == "h2":
                self.headings.append(data)


def without_plotly(page: str) -> str:
    return page.replace(get_plotlyjs(), "")


def figures_of(page: str) -> dict:  # type: ignore[type-arg]
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_sections_stand_in_the_order_of_the_design(report: Path) -> None:
    page = Outline(report.read_text(encoding="utf-8"))

    assert report.name == "report.html"
    assert page.headings == [
        "Answer",
        "Laws",
        "Which metric to trust",
        "Inside the adapter",
        "Scores",
        "Cost",
        "Cells",
        "How it was made",
    ]
    assert len(page.ids) == len(set(page.ids))


def test_every_metric_and_axis_has_a_figure_with_its_cells(report: Path) -> None:
    figures = figures_of(report.read_text(encoding="utf-8"))

    assert set(figures["laws"]["cross_entropy"]) == {"rank", "n_train_examples", "n_params_total"}
    drawn = {
        view: sum(len(t["x"]) for t in figure["data"] if "cells" in t)
        for view, figure in figures["laws"]["cross_entropy"]["rank"].items()
    }
    # Two failed; levelled, each of them takes its setting with it: all 8 cells of one base model and data size.
    assert drawn == {"measured": 70, "levelled": 72 - 2 * 8}
    assert len(figures["inside"]) == 3
    assert set(figures["inside"][0]["miub_nats"]["z"]) == {"all", "1", "4", "16", "64"}


def test_every_measure_inside_the_adapter_is_drawn(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    measures = ["miub_nats", "jsd_nats", "norm_ratio", "cosine", "effective_rank"]

    assert all(list(base) == measures for base in figures_of(page)["inside"])
    assert "0.004" not in str(figures_of(page)["inside"][0]["miub_nats"]["z"])  # standard errors are no measure
    assert set(figures_of(page)["laws"]) >= set(measures)
    assert re.search(r"0\.\d+ ± 0\.0040</td>", page)


def test_records_of_the_first_version_still_draw(tmp_path: Path) -> None:
    page = write_report(write_synthetic(tmp_path, sizes=[64], controls=False)).read_text(encoding="utf-8")

    assert all(list(base) == ["miub_nats", "jsd_nats", "norm_ratio"] for base in figures_of(page)["inside"])
    assert "effective rank" not in " ".join(Outline(page).text)


def test_a_layer_that_is_not_finite_leaves_the_map_whole(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["a"], ranks=[1, 2], sizes=[8], seeds=[0])
    (base,) = layers_by_base_model(
        [{**r, "layers": [{**r["layers"][0], "miub_nats": math.nan}, *r["layers"][1:]]} for r in study.records()], ["a"]
    )
    z = inside_figures(base)["miub_nats"]["z"]["all"]

    assert z[0][0] is None
    assert all(value is not None for row in z for value in row[1:])


def test_the_levelled_view_keeps_level_means_and_removes_settings(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path)
    figures = figures_of(write_report(study).read_text(encoding="utf-8"))
    panel = figures["laws"]["cross_entropy"]["rank"]["levelled"]["data"]
    drawn = {cell: y for t in panel if "cells" in t for cell, y in zip(t["cells"], t["y"], strict=True)}
    table = study.table()

    for rank in (1, 4, 16, 64):
        cells = [i for i, r in enumerate(table["rank"]) if r == rank]
        measured = sum(table["cross_entropy"][i] for i in cells) / len(cells)
        assert sum(drawn[i] for i in cells) / len(cells) == pytest.approx(measured, abs=1e-4)
        # The synthetic law is additive, so what is left within a level is noise (0.01), not the settings' 0.4.
        assert max(drawn[i] for i in cells) - min(drawn[i] for i in cells) < 0.08


def test_the_largest_level_is_held_out_and_drawn(tmp_path: Path) -> None:
    """What the law of the smaller sizes says is the fit of a table without the largest."""
    study = write_synthetic(tmp_path)
    table = study.table()
    page = write_report(study).read_text(encoding="utf-8")
    traces = figures_of(page)["laws"]["cross_entropy"]["rank"]["levelled"]["data"]
    (drawn,) = [trace for trace in traces if trace.get("name") == "held out"]

    smaller = fit(table.filter(pl.col("rank") < 64), metric="cross_entropy", axis="rank")
    _, high = smaller.predict_interval([64.0])
    assert drawn["x"] == [64]
    assert drawn["y"] == pytest.approx(smaller.predict([64.0]), rel=1e-3)
    assert drawn["error_y"]["array"] == pytest.approx(high - smaller.predict([64.0]), rel=0.01)
    mean = table.filter(pl.col("rank") == 64)["cross_entropy"].mean()
    assert f"at 64; the cells' mean is {mean:.3f}." in " ".join(Outline(page).text)
    assert not [
        t
        for t in figures_of(page)["laws"]["cross_entropy"]["n_train_examples"]["levelled"]["data"]
        if t.get("name") == "held out"
    ]  # three levels: nothing to spare


def test_the_page_asks_no_host(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    outline = Outline(page)
    rest = without_plotly(page)

    assert len(rest) < len(page) - 4_000_000  # plotly's script is there, once
    assert not re.search(r"https?://", rest)
    assert not [a for a in outline.attributes if a[1] in ("src", "srcset", "action")]
    links = [value for _, name, value in outline.attributes if name == "href"]
    assert all(re.fullmatch(r"data:,|#[a-z]+|cells/[0-9a-f]{16}/", link) for link in links)
    (policy,) = [v for tag, name, v in outline.attributes if tag == "meta" and name == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_everywhere(tmp_path: Path, name: str) -> None:
    failed = {1: ("error", f"RuntimeError: {name}")}
    page = write_report(write_synthetic(tmp_path, bases=[name, "b", "c"], failed=failed)).read_text(encoding="utf-8")
    outline = Outline(page)

    assert name in " ".join(outline.text)
    assert outline.tags.count("script") == 3
    assert "img" not in outline.tags
    assert not [a for a in outline.attributes if a[1].startswith("on")]
    for text in _strings(figures_of(page)):
        assert not re.search(r"<(?!br>)", text)  # what plotly would read as a tag, other than our own line breaks


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [] if value.startswith("layer %{") else [value]
    if isinstance(value, dict):
        return [s for inner in value.values() for s in _strings(inner)]
    return [s for inner in value for s in _strings(inner)] if isinstance(value, list) else []


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"a": "</script><!-- & \u2028\u2029", "b": [1.5, None]}
    text = script_json(value)

    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_a_study_without_results_says_so(tmp_path: Path) -> None:
    page = Outline(write_report(write_synthetic(tmp_path, n_run=0)).read_text(encoding="utf-8"))

    assert "No cell has finished yet, so there is nothing to say" in " ".join(page.text)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_run": 1},
        {"n_run": 13},
        {"n_run": 3, "failed": dict.fromkeys(range(3), ("error", "x"))},
        {"bases": ["only"], "ranks": [8], "sizes": [64], "seeds": [0]},
        {"bases": ["only"], "ranks": [1, 2, 4, 8], "sizes": [64], "seeds": [0]},
        {"ranks": [4, 16], "choices": False},
    ],
    ids=["one cell", "unfinished", "all failed", "no axis", "one axis, one seed", "two levels, no choices"],
)
def test_partial_studies_have_a_report(tmp_path: Path, arguments: dict) -> None:  # type: ignore[type-arg]
    page = Outline(write_report(write_synthetic(tmp_path, **arguments)).read_text(encoding="utf-8"))

    assert page.headings[0] == "Answer"
    assert "None" not in " ".join(page.text)
    assert "nan" not in " ".join(page.text).split()


def test_failed_cells_are_listed_with_their_reason(report: Path) -> None:
    assert "the loss was nan at step 41" in Outline(report.read_text(encoding="utf-8")).text


def test_a_large_study_stays_within_six_megabytes(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, ranks=[2**i for i in range(8)], sizes=[64, 256, 1024], seeds=range(6))
    path = write_report(study, tmp_path / "elsewhere.html")

    assert path.stat().st_size <= LIMIT_BYTES
    assert "400 of 432 cells are listed" in path.read_text(encoding="utf-8")


def test_a_constant_is_drawn_up_to_levels_of_many_digits() -> None:
    """A constant is known between its levels only, and a plot's numbers are rounded."""
    from loralaw.report.law_panels import law_figures

    sizes, rng = [362_816, 1_328_256, 5_795_072], random.Random(0)
    rows = [
        {"key": f"{size}-{seed}", "base_model": str(size), "n_params_total": size, "method": "lora", "seed": seed,
         "status": "finished", "accuracy": 0.5 + rng.gauss(0, 0.01)}
        for size in sizes for seed in range(4)
    ]  # fmt: skip
    table = pl.DataFrame(rows)
    found = fit(table, metric="accuracy", axis="n_params_total")
    assert found.status == "constant"

    text = json.dumps(law_figures(table, [found], [None]), allow_nan=False)

    assert "5.7951e" in text or "5795100" in text
