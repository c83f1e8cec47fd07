"""The page of a probe: every number it was given, text that stays text, and names in their places."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_probe import MEASURES, bert_layers, llama_layers, synthetic_probe
from test_page import HOSTILE, Outline, figures_of, without_plotly

import loralaw
from loralaw.errors import InputError, LoralawError
from loralaw.report import write_heat_map
from loralaw.report.layer_grid import layer_grid


def page_of(tmp_path: Path, probe: dict[str, Any]) -> str:
    return write_heat_map(probe, tmp_path / "probe.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return " ".join(" ".join(Outline(page).text).split())


def test_the_sections_and_what_was_probed(tmp_path: Path) -> None:
    page = page_of(tmp_path, synthetic_probe(llama_layers(2), skipped={"lm_head": "it is merged"}))
    outline, text = Outline(page), text_of(page)

    assert outline.headings == ["Heat map", "Means over layers", "Layers", "Not measured", "How it was made"]
    assert len(outline.ids) == len(set(outline.ids))
    assert "on micro-1.3m · 14 adapted layers · 8,192 tokens of 64 rows" in text
    assert "lm_head it is merged" in text
    assert "transformers 5.23.0" in text
    assert loralaw.write_heat_map is write_heat_map


def test_nothing_skipped_needs_no_section(tmp_path: Path) -> None:
    assert "Not measured" not in Outline(page_of(tmp_path, synthetic_probe(llama_layers(1)))).headings


def test_every_layer_stands_at_its_place_with_its_value(tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(3))
    maps = figures_of(page_of(tmp_path, probe))["maps"]

    assert list(maps) == list(MEASURES)
    for name, figure in maps.items():
        (trace,) = figure["data"]
        assert trace["x"] == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        assert trace["y"] == ["0", "1", "2"]
        for layer in probe["layers"]:
            _, _, block, _, module = layer["layer"].split(".")
            assert trace["z"][int(block)][trace["x"].index(module)] == pytest.approx(layer[name], rel=1e-4)


def test_the_lead_names_the_mean_and_both_ends(tmp_path: Path) -> None:
    probe = synthetic_probe(["h.0.a", "h.1.a", "h.2.a"])
    for layer, value in zip(probe["layers"], (0.25, 0.0, 0.5), strict=True):
        layer["miub_nats"] = value
    probe["means"]["miub_nats"] = 0.25

    assert (
        "MIUB, channel bound: 0.250 ± 0.0012 nats, mean over 3 layers. "
        "It is highest in h.2.a (0.500) and lowest in h.1.a (0)."
    ) in text_of(page_of(tmp_path, probe))


def test_means_and_standard_errors_are_in_the_table(tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(1), means={"miub_nats": 0.5, "miub_stderr_nats": 0.25, "cosine": -0.125})
    text = text_of(page_of(tmp_path, probe))

    assert re.search(r"MIUB, channel bound \(nats\) 0\.500 0\.25 ", text)
    assert re.search(r"Cosine of u and z −0\.125 – ", text)
    assert re.search(r"Norm ratio ‖u‖/‖z‖ – – 0\.\d+ 0\.\d+", text)  # absent from the means, not from the layers


def test_estimators_that_were_asked_for_are_shown_and_others_are_not(tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(1))
    for layer in probe["layers"]:
        del layer["jsd_nats"]
        layer |= {"gaussian_noise_nats": 1.0, "gaussian_noise_stderr_nats": 0.5, "of_tomorrow_nats": 2.0}
    page = page_of(tmp_path, probe)

    assert list(figures_of(page)["maps"]) == [
        "miub_nats",
        "gaussian_noise_nats",
        "norm_ratio",
        "cosine",
        "effective_rank",
        "of_tomorrow_nats",
    ]
    assert "Of tomorrow (nats)" in text_of(page)
    assert "1.00 ± 0.50" in text_of(page)


@pytest.mark.parametrize("absent", [None, math.nan])
def test_absent_and_infinite_values_are_said_and_not_drawn(tmp_path: Path, absent: float | None) -> None:
    probe = synthetic_probe(llama_layers(1))
    probe["layers"][0] |= {"miub_nats": absent, "miub_stderr_nats": absent, "norm_ratio": math.inf}
    for layer in probe["layers"]:
        layer["cosine"] = absent
    probe["means"] |= {"miub_nats": absent, "cosine": absent}
    page = page_of(tmp_path, probe)
    maps, words = figures_of(page)["maps"], text_of(page).split()

    assert maps["miub_nats"]["data"][0]["z"][0][0] is None
    assert maps["norm_ratio"]["data"][0]["z"][0][0] is None
    assert "cosine" not in maps
    assert "∞" in words
    assert not {"nan", "None", "inf"} & set(words)


def test_an_untrained_adapter_has_no_highest_layer(tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(1))
    for layer in probe["layers"]:
        layer["miub_nats"] = 0.0
    probe["means"]["miub_nats"] = 0.0

    assert "It is highest" not in text_of(page_of(tmp_path, probe))


@pytest.mark.parametrize("layers", [[], ["classifier"]], ids=["nothing measured", "one layer, no number"])
def test_small_probes_have_a_page(tmp_path: Path, layers: list[str]) -> None:
    text = text_of(page_of(tmp_path, synthetic_probe(layers, base_model=None, versions={}, n_sequences=1)))

    assert ("No adapted layer was measured." in text) == (not layers)
    assert "None" not in text


def test_few_rows_are_called_few(tmp_path: Path) -> None:
    said = [
        "rests on few rows" in text_of(page_of(tmp_path, synthetic_probe(llama_layers(1), n_sequences=n)))
        for n in (4, 400)
    ]
    assert said == [True, False]


def test_the_page_asks_no_host(tmp_path: Path) -> None:
    page = page_of(tmp_path, synthetic_probe(llama_layers(2)))
    outline = Outline(page)

    assert not re.search(r"https?://", without_plotly(page))
    assert not [a for a in outline.attributes if a[1] in ("src", "srcset", "action")]
    assert all(re.fullmatch(r"data:,|#[a-z]+", v) for _, name, v in outline.attributes if name == "href")
    (policy,) = [v for tag, name, v in outline.attributes if tag == "meta" and name == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize("name", [*HOSTILE, "\udcff not UTF-8", "${x}.9", "x" * 500])
def test_hostile_names_are_text_everywhere(tmp_path: Path, name: str) -> None:
    layers = [f"model.layers.0.{name}", f"{name}.1.k", name, *llama_layers(1)]
    probe = synthetic_probe(
        layers,
        adapter=name,
        base_model=name,
        estimators=[name],
        skipped={name: name},
        versions={name: name},
        command=f"loralaw probe {name}",
    )
    page = page_of(tmp_path, probe)
    outline, maps = Outline(page), figures_of(page)["maps"]

    assert " ".join(outline.text).count(name.replace("\udcff", "?")) >= 6  # heading, base, skipped, estimator, versions
    assert outline.tags.count("script") == 3
    assert "img" not in outline.tags
    assert not [a for a in outline.attributes if a[1].startswith("on")]
    (trace,) = maps["miub_nats"]["data"]
    labels = [*trace["x"], *trace["y"]]
    assert sum(z is not None for row in trace["z"] for z in row) == len(layers)
    for axis in ("xaxis", "yaxis"):
        labels += maps["miub_nats"]["layout"][axis]["ticktext"]
    assert not [label for label in labels if re.search(r"<", label)]  # what plotly would read as a tag


def test_what_is_no_probe_is_refused_and_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks adapter, n_tokens, .*loralaw probe --json"):
        write_heat_map({"layers": [], "means": {}}, tmp_path / "probe.html")
    with pytest.raises(LoralawError):
        write_heat_map(synthetic_probe(llama_layers(1)), tmp_path)  # a folder
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["miub_nats", "miub_stderr_nats", "of_tomorrow_nats", "n_tokens"])
def test_values_that_are_no_number_are_refused(name: str, tmp_path: Path) -> None:
    for value in ("x", [1.0], {}, 10**400):
        probe = synthetic_probe(llama_layers(1))
        probe["layers"][0][name] = value
        with pytest.raises(InputError, match=rf"{name} of model\.layers\.0\.self_attn\.q_proj is .*, no number"):
            page_of(tmp_path, probe)
    with pytest.raises(InputError, match="miub_nats of the means is 'x', no number"):
        page_of(tmp_path, synthetic_probe(llama_layers(1)) | {"means": {"miub_nats": "x"}})


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_count_that_is_absent_is_said(value: float | None, tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(1))
    probe["layers"][0]["n_tokens"] = value
    assert "model.layers.0.self_attn.q_proj – 0.0" in text_of(page_of(tmp_path, probe)).replace(". ", ".")


def test_a_column_that_one_layer_lacks_is_absent_there(tmp_path: Path) -> None:
    probe = synthetic_probe(llama_layers(2))
    del probe["layers"][3]["cosine"]
    (trace,) = figures_of(page_of(tmp_path, probe))["maps"]["cosine"]["data"]
    assert [z is None for row in trace["z"] for z in row] == [i == 3 for i in range(14)]


@pytest.mark.parametrize(
    "wrong",
    [{"layers": None}, {"layers": {"a": 1}}, {"layers": "ab"}, {"layers": [5]}, {"layers": [{"miub_nats": 1.0}]},
     {"means": []}, {"skipped": ["a"]}, {"n_tokens": None}, {"n_sequences": "8"}, {"estimators": 5}, {"versions": "1"}],
)  # fmt: skip
def test_parts_of_another_kind_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not the result of a probe: .*loralaw probe --json"):
        write_heat_map(synthetic_probe(llama_layers(1)) | wrong, tmp_path / "probe.html")
    assert not list(tmp_path.iterdir())


def test_names_that_end_alike_have_columns_of_their_own() -> None:
    grid = layer_grid([*bert_layers(2), "pooler.dense"])

    assert grid.rows == ["0", "1", "–"]
    assert grid.columns == [
        "query",
        "key",
        "value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
        "pooler.dense",
    ]
    assert grid.places["encoder.layer.1.attention.output.dense"] == ("1", "attention.output.dense")
    assert grid.places["pooler.dense"] == ("–", "pooler.dense")


def test_two_stacks_have_rows_of_their_own_and_experts_share_a_place(tmp_path: Path) -> None:
    vision = layer_grid(["m.vision.layers.0.q", "m.text.layers.0.q", "m.text.layers.10.q", "m.text.layers.2.q"])
    assert vision.rows == ["vision 0", "text 0", "text 2", "text 10"]

    probe = synthetic_probe([f"layers.0.experts.{i}.up" for i in range(4)])
    page = page_of(tmp_path, probe)
    (trace,) = figures_of(page)["maps"]["norm_ratio"]["data"]
    mean = sum(layer["norm_ratio"] for layer in probe["layers"]) / 4
    assert (trace["x"], trace["y"]) == (["up"], ["0"])
    assert trace["z"][0][0] == pytest.approx(mean, rel=1e-4)
    assert "show their mean" in text_of(page)


@given(st.lists(st.text("ab.019\u0663*", max_size=8), min_size=1, max_size=8, unique=True))
def test_every_name_has_a_place_of_the_grid_and_no_two_labels_are_one(names: list[str]) -> None:
    grid = layer_grid(names)

    assert set(grid.places) == set(names)
    assert {row for row, _ in grid.places.values()} == set(grid.rows)
    assert {column for _, column in grid.places.values()} == set(grid.columns)
    assert len(set(grid.rows)) == len(grid.rows)
    assert len(set(grid.columns)) == len(grid.columns)
    for i, name in enumerate(names):
        for other in names[:i]:
            same_once_numbered = re.sub(r"[0-9]+|\*", "#", name) == re.sub(r"[0-9]+|\*", "#", other)
            if grid.places[name] == grid.places[other]:
                assert same_once_numbered  # only names that differ in a number, nothing else, share a place
