"""The report in a real browser: drawn, quiet, and usable with its controls, wide and at 400 pixels."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_probe import llama_layers, synthetic_probe
from synthetic_row_scales import write_alpha_study
from synthetic_study import write_synthetic

from loralaw.report import write_heat_map, write_report
from loralaw.report.accuracy_sheet import AccuracyCurve, accuracy_sheet
from loralaw.report.theory_plot import Seen
from loralaw.report.theory_sheet import write_sheet
from loralaw.theory.published import accuracy_setting

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
FLAGS += ("disable-component-update", "disable-sync")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (it is in the group dev)")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.command_executor.client_config.timeout = 600  # seconds; a busy machine is not a failure
    yield driver
    driver.quit()


def opened(browser: Any, page: Path, width: int, scheme: str = "light") -> Any:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.resolve().as_uri())
    settle(browser)
    return browser


def settle(browser: Any) -> None:
    """Plots are drawn after the script that asked for them has returned."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200)));"
    )


def points(browser: Any, place: str) -> list[str]:
    """Where the points of a plot are drawn."""
    return browser.execute_script(  # type: ignore[no-any-return]
        f"return [...document.querySelectorAll('{place} svg.main-svg .scatterlayer .points path')]"
        ".map(p => p.getAttribute('transform'))"
    )


def choose(browser: Any, identifier: str, value: str) -> None:
    browser.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event(s.tagName === 'INPUT' ? 'input' : 'change'));",
        identifier,
        value,
    )
    settle(browser)


def column(browser: Any, number: int) -> list[str]:
    return browser.execute_script(  # type: ignore[no-any-return]
        "return [...document.querySelectorAll('#cell-table tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.cells[arguments[0]].textContent)",
        number,
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_is_drawn_and_its_controls_work(browser: Any, report: Path, width: int) -> None:
    opened(browser, report, width)
    rank_panel = "figure[data-axis=rank]"

    before = points(browser, rank_panel)
    assert len(before) >= 56 + 4  # the comparable cells and the means of 4 levels
    assert points(browser, "#cost-plot")
    assert browser.execute_script("return document.querySelectorAll('#heat .heatmaplayer image').length") == 1

    choose(browser, "metric", "accuracy")
    assert points(browser, rank_panel) != before
    shown = browser.execute_script(
        f"return [...document.querySelectorAll('{rank_panel} [data-metric]')].filter(e => !e.hidden)"
        ".map(e => e.dataset.metric)"
    )
    assert shown == ["accuracy"]
    choose(browser, "view", "measured")
    assert len(points(browser, rank_panel)) == 70

    header = browser.find_elements("css selector", "#cell-table thead th button")[1]
    for order in ("ascending", "descending"):
        browser.execute_script("arguments[0].click()", header)
        ranks = [int(text) for text in column(browser, 1)]
        assert ranks == sorted(ranks, reverse=order == "descending")
        assert header.find_element("xpath", "..").get_attribute("aria-sort") == order

    choose(browser, "status", "diverged")
    assert len(column(browser, 0)) == 1
    choose(browser, "status", "")
    choose(browser, "find", "6M")
    assert set(column(browser, 0)) == {"micro-6m"}

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_dark_is_another_ink(browser: Any, report: Path) -> None:
    inks = []
    for scheme in ("light", "dark"):
        opened(browser, report, 1280, scheme)
        law = "figure[data-axis=rank] .scatterlayer .trace:nth-child(2) .lines path"
        inks.append(browser.execute_script(f"return getComputedStyle(document.querySelector('{law}')).stroke"))

    assert inks[0] != inks[1]


def test_hostile_names_run_nothing_and_are_shown(browser: Any, tmp_path: Path) -> None:
    names = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"]
    opened(browser, write_report(write_synthetic(tmp_path, bases=names, sizes=[64, 512])), 1280)
    text = browser.find_element("tag name", "body").text

    assert all(name in text for name in names)
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    hover = browser.execute_script(
        "const p = document.getElementById('cost-plot'); Plotly.Fx.hover(p, [{curveNumber: 1, pointNumber: 0}]);"
        "return p.querySelector('.hoverlayer').textContent"
    )
    assert names[0] in hover or names[1] in hover
    assert browser.get_log("browser") == []  # an alert or a refused script would be here


def test_the_heat_map_of_the_study_follows_its_selectors(browser: Any, report: Path) -> None:
    opened(browser, report, 1280)
    labels = "return [...document.querySelectorAll('#heat .heatmap-label text')].map(t => t.textContent)"

    averaged = browser.execute_script(labels)
    choose(browser, "layer-rank", "64")
    assert browser.execute_script(labels) != averaged
    choose(browser, "layer-measure", "effective_rank")
    assert browser.execute_script(labels) == ["28"] * 2 * 7  # 64^0.8 in this study, for 2 blocks of 7 modules
    choose(browser, "layer-base", "2")
    assert browser.execute_script(labels) == ["28"] * 6 * 7
    assert "singular values" in browser.find_element("css selector", "[data-measure]:not([hidden])").text
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_row_scales_are_drawn_and_follow_their_selectors(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    opened(browser, write_report(write_alpha_study(tmp_path, ranks=[4], sizes=[64])), width, scheme)
    labels = "return [...document.querySelectorAll('#scale-map .heatmap-label text')].map(t => Number(t.textContent))"

    change = browser.execute_script(labels)
    assert len(change) == 2 * 7  # blocks and modules of the smallest base model
    assert min(change) < 0 < max(change)
    assert len(points(browser, "#scale-strips")) == 7
    assert len(points(browser, "#scale-drift")) == 7 * 6
    choose(browser, "scale-measure", "off_percent")
    assert browser.execute_script(labels) == pytest.approx([0, 0, 0, 0, 0, 0, 6.25] * 2, abs=0.06)
    choose(browser, "scale-base", "2")
    assert len(browser.execute_script(labels)) == 6 * 7
    assert "twentieth" in browser.find_element("css selector", "[data-scale-measure]:not([hidden])").text
    assert len(browser.find_elements("css selector", "[data-scale-base]:not([hidden])")) == 1

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_of_a_probe_is_drawn_and_its_controls_work(browser: Any, tmp_path: Path, width: int) -> None:
    probe = synthetic_probe(llama_layers(3))
    opened(browser, write_heat_map(probe, tmp_path / "probe.html"), width)
    labels = "return [...document.querySelectorAll('#probe-map .heatmap-label text')].map(t => Number(t.textContent))"

    assert browser.execute_script(labels) == [float(f"{layer['miub_nats']:.2g}") for layer in probe["layers"]]
    choose(browser, "probe-measure", "effective_rank")
    assert browser.execute_script(labels) == [float(f"{layer['effective_rank']:.2g}") for layer in probe["layers"]]
    assert "singular values" in browser.find_element("css selector", "[data-measure]:not([hidden])").text

    browser.execute_script("document.querySelectorAll('#layer-table thead button')[2].click()")
    values = browser.execute_script(
        "return [...document.querySelectorAll('#layer-table tbody tr')].map(r => Number(r.cells[2].dataset.value))"
    )
    assert values == sorted(values)
    assert len(values) == 21

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_the_page_of_a_probe_runs_nothing_that_a_name_says(browser: Any, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)></script><script>alert(1)</script>"
    probe = synthetic_probe([f"a.0.{name}", f"{name}.1.b"], adapter=name, base_model=name, skipped={name: name})
    opened(browser, write_heat_map(probe, tmp_path / "probe.html"), 1280)

    assert browser.find_element("tag name", "body").text.count(name) >= 4
    hover = browser.execute_script(
        "const p = document.getElementById('probe-map'); Plotly.Fx.hover(p, {xpx: 9, ypx: 9});"
        "return p.querySelector('.hoverlayer').textContent"
    )
    assert name in hover
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_of_the_theory_is_drawn(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    seen = Seen([0.0, 2.0], [0.5, 0.6], [0.01] * 2, 20)
    curves = [AccuracyCurve(f"β = {b}", accuracy_setting(b), seen) for b in (0, 1)]
    sheet = accuracy_sheet(curves, (-10.0, 10.0), title="Accuracy", subtitle="")
    opened(browser, write_sheet(sheet, tmp_path / "theory.html", ""), width, scheme)

    lines = "return [...document.querySelectorAll('[data-theory] .lines path')].map(p => getComputedStyle(p).stroke)"
    assert len(set(browser.execute_script(lines))) == 2
    assert len(points(browser, "[data-theory]")) == 2 * 2 + 2 + 1 + 2 + 2  # seen, best, half right, α = 1, α = 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_without_cells_nothing_fails(browser: Any, tmp_path: Path) -> None:
    opened(browser, write_report(write_synthetic(tmp_path, n_run=0)), 400)

    assert browser.get_log("browser") == []
