"""Cells of many kinds and lengths in one pack: each as if alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from solo_cells import SILENT, Heard, base_model, cell, cell_folder, encoded, results

from loralaw.spec import Cell
from loralaw.training import PackEvents, train_pack
from loralaw.training.train_solo import train_solo

torch.set_num_threads(1)


def mixed_cells(dtype: str = "float32") -> list[Cell]:
    return [
        cell("lora", 4, 1, steps=12, dtype=dtype),
        cell("lora", 24, 1, steps=5, dtype=dtype),
        cell("rslora", 4, 2, n=24, steps=20, lora_dropout=0.2, dtype=dtype),
        cell("lora", 1, 0, n=8, steps=5, learning_rate=1e-3, dtype=dtype),
        cell("rslora", 8, 1, steps=7, lora_dropout=0.2, dtype=dtype),
        cell("alpha-lora", 4, 1, steps=13, row_scale_every=3, dtype=dtype),
        cell("alpha-lora", 24, 2, n=24, steps=20, row_scale_protocol="joint", lora_dropout=0.2, dtype=dtype),
        cell("alpha-lora", 2, 0, steps=9, row_scale_protocol="authors", row_scale_every=2, dtype=dtype),
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_bit_depends_on_company(dtype: str, tmp_path: Path) -> None:
    """In training and in measuring, whoever leaves before or together with a cell."""
    base, cells = base_model(), mixed_cells(dtype)
    task = encoded(base, cells[0])
    together = {r["key"]: r for r in train_pack(base, task, cells, cell_folder(tmp_path / "together"), SILENT)}
    assert len(together) == len(cells)
    for one in cells:
        [alone] = train_pack(base, task, [one], cell_folder(tmp_path / "alone"), SILENT)
        assert alone["status"] == "finished"
        assert results(alone) == results(together[one.key])
        ours, theirs = (
            load_file(tmp_path / company / one.key / "adapter" / "adapter_model.safetensors")
            for company in ("alone", "together")
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_cell_leaves_with_its_record_as_soon_as_it_is_done(tmp_path: Path) -> None:
    base, cells, took = base_model(), mixed_cells(), list[int]()
    events = PackEvents(step=took.append, log=lambda key, line: None)
    n_steps = []
    for record in train_pack(base, encoded(base, cells[0]), cells, cell_folder(tmp_path), events):
        n_steps.append(len(took))
        assert record["counts"]["n_steps"] == n_steps[-1]
        assert (tmp_path / record["key"] / "adapter").exists()
        assert len(list(tmp_path.iterdir())) == len(n_steps)
    assert n_steps == [5, 5, 7, 9, 12, 13, 20, 20]
    assert took == [8] * 5 + [6] * 2 + [5] * 2 + [4] * 3 + [3] + [2] * 7


def test_row_scales_beside_other_cells_are_those_of_the_trainer(tmp_path: Path) -> None:
    """Every protocol, with other ranks and lengths in the pack, against `AlphaLoraTrainer`: records, logs and files."""
    settings: list[dict[str, Any]] = [
        {"row_scale_every": 4, "row_scale_share": 0.2, "steps": 21},
        {"row_scale_protocol": "joint", "max_grad_norm": 0.05},
        {"row_scale_protocol": "authors", "row_scale_every": 5, "steps": 60, "weight_decay": 0.1},
        {"row_scale_learning_rate": 2e-2, "target_modules": ["q_proj", "down_proj"], "steps": 11},
    ]
    alphas = [cell("alpha-lora", 4 + 8 * i, i % 3, n=16 + 2 * i, **changes) for i, changes in enumerate(settings)]
    others = [cell("lora", 4, 1, steps=9), cell("rslora", 16, 2, lora_dropout=0.1, steps=40)]
    base, packed = base_model(), Heard()
    task = encoded(base, alphas[0])
    records = train_pack(base, task, [*others, *alphas], cell_folder(tmp_path / "packed"), packed.events)
    ours = {record["key"]: record for record in records}
    for one in alphas:
        solo = Heard()
        theirs = train_solo(base, task, one, tmp_path / "solo" / one.key, solo.events)
        assert_same_record(ours[one.key], theirs)
        lines = [{**line} for line in packed.lines if line["key"] == one.key]
        assert len(lines) == len(solo.lines) > 0
        for line, expected in zip(lines, solo.lines, strict=True):
            assert line["row_scale_rms_change"] > 0
            assert line.pop("key") == expected.pop("key")
            assert line == pytest.approx(expected, rel=1e-5)
        assert_same_adapter(tmp_path / "packed" / one.key, tmp_path / "solo" / one.key)


def assert_same_record(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ("key", "status", "counts", "absent_metrics"):
        assert ours[name] == theirs[name]
    assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5, abs=1e-7)
    for row, expected in zip(ours["layers"], theirs["layers"], strict=True):
        assert row.pop("layer") == expected.pop("layer")
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-7)
    drift, expected_drift = ours["row_scale"]["drift"], theirs["row_scale"]["drift"]
    for point, expected in zip(drift, expected_drift, strict=True):
        assert point["step"] == expected["step"]
        assert point["rms_change"] == pytest.approx(expected["rms_change"], rel=1e-4)
    for row, expected in zip(ours["row_scale"]["layers"], theirs["row_scale"]["layers"], strict=True):
        assert row.pop("quantiles") == pytest.approx(expected.pop("quantiles"), rel=1e-5)
        assert [row.pop(name) for name in ("layer", "module_type")] == [
            expected.pop(name) for name in ("layer", "module_type")
        ]
        assert row == pytest.approx(expected, rel=1e-4)


def assert_same_adapter(ours: Path, theirs: Path) -> None:
    configs = [json.loads((folder / "adapter" / "adapter_config.json").read_text()) for folder in (ours, theirs)]
    assert configs[0] == configs[1]
    mine, expected = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (ours, theirs))
    assert mine.keys() == expected.keys()
    for name, tensor in expected.items():
        moved = tensor - 1 if "row_scale" in name else tensor
        assert moved.any()
        assert float((mine[name] - tensor).norm()) <= 1e-4 * float(moved.norm()), name


@pytest.mark.parametrize("protocol", ["held-out", "joint"])
def test_a_diverging_row_scale_is_a_result_and_harms_nobody(protocol: str, tmp_path: Path) -> None:
    base, healthy = base_model(), cell("lora")
    broken = cell("alpha-lora", row_scale_protocol=protocol, row_scale_learning_rate=1e38, max_grad_norm=1e30)
    task = encoded(base, healthy)
    diverged, other = train_pack(base, task, [healthy, broken], cell_folder(tmp_path), SILENT)
    assert (diverged["key"], diverged["status"]) == (broken.key, "diverged")
    assert "lower learning_rate or row_scale_learning_rate" in diverged["reason"]
    [alone] = train_pack(base, task, [healthy], cell_folder(tmp_path), SILENT)
    assert results(other) == results(alone)
