"""The pages of the theory: one file, every line with its marks, and text that stays text."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from test_page import HOSTILE, LIMIT_BYTES, Outline, figures_of, without_plotly

from loralaw.report.accuracy_sheet import AccuracyCurve, accuracy_sheet
from loralaw.report.risk_sheet import RiskCurve, risk_sheet
from loralaw.report.theory_plot import Seen
from loralaw.report.theory_sheet import Sheet, terminal_sheet, write_sheet
from loralaw.theory.published import accuracy_setting, regression_setting


def sheet_of(label: str = "β = 0.5", seen: Seen | None = None, ends: tuple[float, float] = (-10.0, 10.0)) -> Sheet:
    curves = [AccuracyCurve(label, accuracy_setting(0.5), seen), AccuracyCurve("β = 0.9", accuracy_setting(0.9))]
    return accuracy_sheet(curves, ends, title="T", subtitle="S")


def page_of(tmp_path: Path, sheet: Sheet) -> str:
    return write_sheet(sheet, tmp_path / "t.html", "loralaw theory curve").read_text(encoding="utf-8")


def test_the_page_asks_no_host_and_says_how_it_was_made(tmp_path: Path) -> None:
    page = page_of(tmp_path, sheet_of())
    outline = Outline(page)

    assert outline.headings == ["Answer", "Numbers", "How it was made"]
    assert len(outline.ids) == len(set(outline.ids))
    assert not re.search(r"https?://", without_plotly(page))
    assert len(page.encode()) < LIMIT_BYTES
    assert "loralaw theory curve" in "".join(outline.text)
    assert "β\u00a0=\u00a00.5: best at α\u00a0=\u00a04.10, where 63.9\u00a0% of new rows" in "".join(outline.text)


def test_lines_marks_and_points_are_where_the_theory_has_them(tmp_path: Path) -> None:
    setting = accuracy_setting(0.5)
    seen = Seen([-4.0, 2.0], [0.4, 0.64], [0.01, 0.002], 20)
    plot = figures_of(page_of(tmp_path, sheet_of(seen=seen)))["theory"]["0"]
    line, _, points, *marks = plot["data"]
    best = setting.best_row_scale()

    for x, y in zip(line["x"][::20], line["y"][::20], strict=True):
        assert y == pytest.approx(100 * float(setting.predict(x).accuracy), rel=1e-3)
    assert (points["x"], points["y"], points["error_y"]["array"]) == ([-4.0, 2.0], [40.0, 64.0], [1.0, 0.2])
    found = {mark["name"]: (mark["x"][0], mark["y"][0]) for mark in marks}
    assert found["best α"] == pytest.approx((float(best.best), 100 * float(best.accuracy_best)), rel=1e-4)
    assert found["half right"] == pytest.approx((float(best.worst), 50), rel=1e-4)
    assert found["α = 1"] == pytest.approx((1, 100 * float(best.accuracy_at_1)), rel=1e-4)
    assert found["α = 0"] == pytest.approx((0, 100 * float(best.accuracy_at_0)), rel=1e-4)
    assert [shape["x0"] for shape in plot["layout"]["shapes"]] == [0, 1]
    assert len({trace["line"]["dash"] for trace in plot["data"][:2]}) == 2
    assert line["line"]["color"].startswith("@")  # a token, which the page resolves for light and dark


def test_a_mark_outside_the_plot_is_not_drawn_and_not_in_the_legend() -> None:
    sheet = sheet_of(ends=(0.2, 0.8))

    assert [key.label for key in sheet.keys] == ["β = 0.5", "β = 0.9"]
    assert sheet.panels[0].figure["layout"]["shapes"] == []
    assert not any("coin" in note for note in sheet.notes)
    assert "best at α = 4.10" in sheet.lead[0]  # but it is said


def test_how_far_points_are_off_is_said_and_shown() -> None:
    near, far = (float(accuracy_setting(0.5).predict(x).accuracy) for x in (2.0, 4.0))
    sheet = sheet_of(seen=Seen([2.0, 4.0], [near + 0.03, far + 0.01], [0.01, 0.001], 20))

    # The second is nearer in points, but further for its standard error: both numbers are its own.
    assert sheet.lead[-1] == (
        "Of 2 simulated points, the furthest from the theory in standard errors is 1.0 points off (10 standard "
        "errors): β = 0.5 at α = 4."
    )
    assert [row[-1] for row in sheet.numbers[1].rows] == ["+3.0", "+10"]
    assert len(sheet_of().numbers) == 1


def test_few_draws_tell_no_standard_errors() -> None:
    near, far = (float(accuracy_setting(0.5).predict(x).accuracy) for x in (2.0, 4.0))
    sheet = sheet_of(seen=Seen([2.0, 4.0], [near + 0.03, far + 0.01], [0.01, 0.0001], 19))

    assert sheet.lead[-1] == (
        "The 2 simulated points are at most 3.0 points off the theory; 19 draws are too few to say whether that is "
        "chance."
    )


def shown(sheet: Sheet, width: int) -> str:
    screen = Console(width=width, file=StringIO())
    screen.print(terminal_sheet(sheet))
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_number_folds_in_a_narrow_terminal(width: int) -> None:
    sheet = sheet_of(seen=Seen([-4.0, 2.0], [0.4, 0.64], [0.0123, 0.00212], 20))
    lines = shown(sheet, width).splitlines()

    assert max(map(len, lines)) <= width
    for row in [row for numbers in sheet.numbers for row in numbers.rows]:
        assert any(line.split()[-len(" ".join(row[1:]).split()) :] == " ".join(row[1:]).split() for line in lines)


def test_the_risk_of_a_regression_has_its_own_words() -> None:
    setting = regression_setting(0.5)
    sheet = risk_sheet([RiskCurve("β = 0.5", setting)], (-4.0, 4.0), title="T", subtitle="S")

    assert sheet.lead == ["β = 0.5: best at α = 0.500, with a risk of 205; 255 at α = 1, 255 at α = 0."]
    assert [key.label for key in sheet.keys] == ["β = 0.5", "best α", "α = 1", "α = 0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name: str, tmp_path: Path) -> None:
    page = page_of(tmp_path, sheet_of(name))
    outline = Outline(page)

    assert "img" not in outline.tags
    assert outline.tags.count("script") == 3
    assert name in "".join(outline.text)
    (line, *_) = figures_of(page)["theory"]["0"]["data"]
    assert "<img" not in line["name"] + line["text"][0]
