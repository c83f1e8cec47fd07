"""The section of the row scale: numbers drawn, sentences said, and its absence."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_row_scales import CHANGES, STEPS, layer_row, write_alpha_study
from synthetic_study import write_synthetic
from test_page import HOSTILE, LIMIT_BYTES, Outline, figures_of

from loralaw.report import write_report
from loralaw.report.row_scale import drift_note, off_rows, pooled_quantiles, row_scale_figures, row_scales_of
from loralaw.report.row_scale_patterns import patterns

SIX = {"bases": ["micro-6m"], "ranks": [4], "sizes": [64]}  # 6 blocks of 7 module types


def said(path: Path, **study: Any) -> list[str]:
    """The sentences of the first base model."""
    groups = row_scales_of(write_alpha_study(path, **study).records(), study["bases"])
    return patterns(groups).sentences[0][1]


def with_layers(records: list[dict[str, Any]], change: Any) -> list[dict[str, Any]]:
    """Records whose layers are `change` of what they were."""
    return [
        record | {"row_scale": record["row_scale"] | {"layers": change(record["row_scale"]["layers"])}}
        for record in records
    ]


def test_the_section_stands_after_the_adapter_and_only_for_alpha_lora(tmp_path: Path, report: Path) -> None:
    page = write_report(write_alpha_study(tmp_path, **SIX)).read_text(encoding="utf-8")
    outline = Outline(page)

    at = outline.headings.index("Inside the adapter")
    assert outline.headings[at : at + 3] == ["Inside the adapter", "The row scale α", "Scores"]
    assert len(outline.ids) == len(set(outline.ids))
    assert ("a", "href", "#scale") in outline.attributes

    other = report.read_text(encoding="utf-8")
    assert "The row scale α" not in Outline(other).headings
    assert "#scale" not in [value for _, name, value in Outline(other).attributes if name == "href"]
    assert figures_of(other)["row_scale"] == []


@pytest.mark.parametrize("arguments", [{"n_run": 0}, {"failed": {0: ("error", "x")}, "seeds": [0]}])
def test_without_finished_cells_the_section_is_absent(tmp_path: Path, arguments: dict[str, Any]) -> None:
    page = write_report(write_alpha_study(tmp_path, **SIX | arguments)).read_text(encoding="utf-8")

    assert "The row scale α" not in Outline(page).headings


def test_old_records_of_the_method_have_no_section(tmp_path: Path) -> None:
    records = write_synthetic(tmp_path, method_name="alpha-lora", **SIX).records()

    assert row_scales_of([records[0], records[1] | {"row_scale": None}], ["micro-6m"]) == []


def test_cells_that_ended_otherwise_are_not_averaged(tmp_path: Path) -> None:
    first, second = write_alpha_study(tmp_path, **SIX).records()
    (group,) = row_scales_of([first, second | {"status": "diverged"}], ["micro-6m"])

    assert group.cells == [first]


def test_base_models_stand_in_the_order_given(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, ranks=[4], sizes=[64]).records()
    order = ["micro-6m", "micro-0.4m", "micro-1.3m"]

    assert [group.label for group in row_scales_of(records, order)] == order


def test_the_maps_show_means_over_cells_around_no_change(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX).records()
    (group,) = row_scales_of(records, ["micro-6m"])
    figures = row_scale_figures(group)

    v, down = 2, 6  # columns
    for name, block, column in (("self_attn.v_proj", 3, v), ("mlp.down_proj", 5, down)):
        rows = [
            r for record in records for r in record["row_scale"]["layers"] if r["layer"].endswith(f".{block}.{name}")
        ]
        assert len(rows) == 2
        shown = {measure: figure["data"][0]["z"][block][column] for measure, figure in figures["maps"].items()}
        assert shown["mean_change"] == pytest.approx(np.mean([r["mean"] for r in rows]) - 1, rel=1e-4)
        assert shown["rms_change"] == pytest.approx(np.sqrt(np.mean([r["rms_change"] ** 2 for r in rows])), rel=1e-4)
        assert shown["off_percent"] == (6.25 if column == down else 0)

    change = figures["maps"]["mean_change"]["data"][0]
    assert change["zmin"] == -change["zmax"]
    assert max(abs(z) for row in change["z"] for z in row) == pytest.approx(change["zmax"], rel=1e-4)
    assert change["colorscale"][1] == [0.5, "@change-none"]
    assert figures["maps"]["rms_change"]["data"][0]["zmin"] == 0


def test_strips_are_the_quantiles_of_all_rows() -> None:
    random = np.random.default_rng(2)
    alphas = [random.normal(centre, 0.05, size) for centre, size in ((0.9, 4000), (1.0, 4000), (1.1, 16000))]
    found = pooled_quantiles([layer_row("v_proj", a) for a in alphas])

    # Between its quantiles a layer is taken as uniform, which widens its tails; a mean of quantiles would be 0.06 off.
    truth = np.quantile(np.concatenate(alphas), [0.05, 0.25, 0.5, 0.75, 0.95])
    assert list(found) == pytest.approx(list(truth), abs=0.02)


def test_strips_of_a_frozen_row_scale_lie_at_one() -> None:
    assert pooled_quantiles([layer_row("v_proj", np.ones(32))] * 2) == (1, 1, 1, 1, 1)


def test_drift_is_the_mean_over_the_cells_with_the_most_common_steps(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX | {"seeds": [0, 1, 2]}).records()
    records[2]["row_scale"]["drift"] = records[2]["row_scale"]["drift"][:3]
    (group,) = row_scales_of(records, ["micro-6m"])
    lines = {trace["name"]: trace for trace in row_scale_figures(group)["drift"]["data"]}
    ends = [r["row_scale"]["drift"][-1]["rms_change"]["v_proj"] for r in records[:2]]

    assert set(lines) == {name.split(".")[-1] for name in CHANGES}
    assert tuple(lines["v_proj"]["x"]) == STEPS
    assert lines["v_proj"]["y"][0] == 0
    assert lines["v_proj"]["y"][-1] == pytest.approx(np.mean(ends), rel=1e-4)
    assert (
        drift_note(group)
        == "Mean over 2 cells with 300 steps; 1 cell with other steps left out. One line a module type."
    )
    records[1]["row_scale"]["drift"] = records[1]["row_scale"]["drift"][:3]
    assert drift_note(group).startswith("Mean over 2 cells with 120 steps; 1 cell")


def test_rows_that_are_off_are_counted_over_all_cells(tmp_path: Path) -> None:
    (group,) = row_scales_of(write_alpha_study(tmp_path, **SIX).records(), ["micro-6m"])

    # 2 cells × 6 blocks × (5 modules of 32 rows and 2 of 64); 2 rows off in each down_proj
    assert off_rows(group) == ["micro-6m", "2", "3,456", "24", "0.694 %", "down_proj (24)"]


def test_a_planted_pattern_is_named(tmp_path: Path) -> None:
    change, rms, seeds = said(tmp_path, **SIX)

    assert change.startswith("Consistent: in 6 blocks the 7 module types rank alike in mean change α − 1 (W = ")
    assert "by chance about 0.17; p = 0.0001" in change
    assert change.endswith("highest in v_proj (+0.060), lowest in gate_proj (−0.050).")
    assert "down_proj moves most" in rms
    assert seeds.startswith(
        "Seeds agree: over 1 pair of cells that differ by seed only, the mean changes of the 42 mod"
    )


def test_seeds_are_compared_within_a_configuration(tmp_path: Path) -> None:
    seeds = said(tmp_path, **SIX | {"ranks": [4, 16], "seeds": [0, 1, 2]})[2]

    assert seeds.startswith("Seeds agree: over 6 pairs of cells")


def test_noise_is_not_a_pattern(tmp_path: Path) -> None:
    seeds = range(6)
    records = write_alpha_study(tmp_path, pattern=False, **SIX | {"seeds": seeds}).records()
    rest = with_layers(records, lambda layers: [x for x in layers if x["module_type"] != "down_proj"])  # its rows off
    change, _, between = patterns(row_scales_of(rest, ["micro-6m"])).sentences[0][1]

    assert change.startswith("Not consistent: in 6 blocks the 6 module types rank in mean change α − 1 no more alike")
    assert between.startswith("Seeds do not agree: over 15 pairs")


def test_too_little_is_not_told(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX | {"seeds": [0]}).records()

    def sentences(change: Any) -> list[str]:
        return patterns(row_scales_of(with_layers(records, change), ["micro-6m"])).sentences[0][1]

    two_blocks = sentences(lambda layers: layers[:14])
    assert two_blocks[0].endswith("module types that every block has; here there are 2 and 7.")
    assert two_blocks[1:] == ["Cannot tell whether seeds agree: no configuration ran with two seeds."]
    assert sentences(lambda layers: [x for x in layers if x["module_type"] in ("q_proj", "v_proj")])[0].endswith(
        "6 and 2."
    )
    three = ("q_proj", "v_proj", "o_proj")
    assert (
        "even full agreement has p = 0.028."
        in sentences(lambda layers: [x for x in layers[:21] if x["module_type"] in three])[0]
    )  # 1/3!², above 0.05 / 2 tests
    still = sentences(lambda layers: [x | {"mean": 1.0, "rms_change": 0.0} for x in layers])
    assert all("within every block all module types changed alike" in sentence for sentence in still[:2])
    assert sentences(lambda layers: [x | {"layer": x["module_type"]} for x in layers])[0].endswith("0 and 0.")


def test_modules_outside_the_blocks_and_in_some_blocks_only_are_drawn_but_judge_nothing(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX).records()
    extra = layer_row("lm_head", np.full(8, 1.5)), layer_row("model.layers.0.router", np.full(8, 0.5))
    (group,) = row_scales_of(with_layers(records, lambda layers: [*layers, *extra]), ["micro-6m"])

    assert {"lm_head", "router"} <= set(group.grid.columns)
    assert "in 6 blocks the 7 module types" in patterns([group]).sentences[0][1][0]


def test_the_level_is_shared_among_the_tests(tmp_path: Path) -> None:
    groups = row_scales_of(
        write_alpha_study(tmp_path, ranks=[4], sizes=[64]).records(), ["micro-0.4m", "micro-1.3m", "micro-6m"]
    )

    assert patterns(groups).note.endswith("below 0.013: 0.05 shared among 4 tests.")  # one base model has two blocks


def test_methods_that_differ_are_not_averaged_together(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX).records()
    for record, protocol in zip(records, ("held-out", "joint"), strict=True):
        record["cell"]["method"] |= {"row_scale_protocol": protocol, "row_scale_every": 1}
    records[1]["cell"]["method"]["learning_rate"] = 0.01

    assert [group.label for group in row_scales_of(records, ["micro-6m"])] == [
        "micro-6m · learning rate as the study · protocol held-out",
        "micro-6m · learning rate 0.01 · protocol joint",
    ]


def test_numbers_that_are_not_finite_leave_the_section_whole(tmp_path: Path) -> None:
    records = write_alpha_study(tmp_path, **SIX).records()
    bad = {"mean": math.nan, "rms_change": math.inf, "min": math.nan, "max": math.nan, "quantiles": [math.nan] * 5}
    groups = row_scales_of(with_layers(records, lambda layers: [layers[0] | bad, *layers[1:]]), ["micro-6m"])
    figures = row_scale_figures(groups[0])

    json.dumps(figures, allow_nan=False)
    assert figures["maps"]["mean_change"]["data"][0]["z"][0][0] is None
    assert "in 6 blocks the 6 module types" in patterns(groups).sentences[0][1][0]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(tmp_path: Path, name: str) -> None:
    study = write_alpha_study(tmp_path, **SIX | {"bases": [name], "seeds": [0]})
    (key,) = study.planned_keys
    path = tmp_path / "cells" / key / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for layer in record["row_scale"]["layers"]:
        layer["layer"], layer["module_type"] = layer["layer"].replace("v_proj", name), name
    for point in record["row_scale"]["drift"]:
        point["rms_change"][name] = point["rms_change"].pop("v_proj")
    path.write_text(json.dumps(record), encoding="utf-8")
    page = write_report(study).read_text(encoding="utf-8")

    assert "img" not in Outline(page).tags
    assert Outline(page).tags.count("script") == 3
    figures = figures_of(page)["row_scale"][0]
    assert "<" not in json.dumps([figures["strips"], figures["drift"]]).replace("<br>", "")


def test_a_large_study_stays_within_six_megabytes(tmp_path: Path) -> None:
    study = write_alpha_study(tmp_path, ranks=[2**i for i in range(8)], sizes=[64, 256, 1024], seeds=range(2))
    path = write_report(study, tmp_path / "elsewhere.html")

    assert path.stat().st_size <= LIMIT_BYTES
