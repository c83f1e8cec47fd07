"""Cells of all methods in one call: those that can train together, the others one after the other."""

import itertools
from pathlib import Path

import pytest
import torch
from solo_cells import SILENT, assert_untouched, base_model, cell, cell_folder, encoded, state

from loralaw.training import n_params_trainable, path_of, train_cells

torch.set_num_threads(1)


def test_all_methods_of_a_base(tmp_path: Path) -> None:
    names = ["full", "lora", "dora", "alpha-lora", "rslora"]
    base, cells = base_model(), [cell(name) for name in names]
    task, before = encoded(base, cells[0]), state(base.model)
    folder_of, keys = cell_folder(tmp_path), {one.method["name"]: one.key for one in cells}
    records = {}
    for record in train_cells(base, task, cells, folder_of, SILENT):
        wrote = {path.name for path in folder_of(record["key"]).iterdir()}
        assert wrote == {"model" if record["key"] == keys["full"] else "adapter"}  # before the record is given out
        records[record["cell"]["method"]["name"]] = record
    assert_untouched(base.model, before)
    assert records.keys() == set(names)
    for one in cells:
        name, record = one.method["name"], records[one.method["name"]]
        assert (record["key"], record["status"]) == (one.key, "finished")
        path = path_of(one, base.model.config)
        together = {keys["lora"], keys["rslora"], keys["alpha-lora"]} if path == "packed" else {one.key}
        assert record["provenance"]["path"] == path
        assert set(record["provenance"]["pack"]) == together
        assert record["counts"]["n_params_trainable"] == n_params_trainable(base.model, one.method, one.rank)
        assert record["counts"]["n_steps"] == 12
        assert ("row_scale" in record) == (name == "alpha-lora")
        assert record["cost"]["train_seconds"] > 0
        assert record["cost"]["evaluate_seconds"] > 0
        assert record["cost"]["peak_memory_bytes"] > 0
    losses = [record["metrics"]["cross_entropy"] for record in records.values()]
    assert all(one != other for one, other in itertools.combinations(losses, 2))


def test_cells_of_one_kind(tmp_path: Path) -> None:
    base = base_model()
    for name in ("lora", "dora"):
        one = cell(name)
        [record] = train_cells(base, encoded(base, one), [one], cell_folder(tmp_path), SILENT)
        assert (record["key"], record["status"]) == (one.key, "finished")


def test_the_engine_trainer_trains_every_cell_alone_to_the_same_result(tmp_path: Path) -> None:
    base = base_model()
    kinds = [("lora", 4), ("rslora", 8), ("alpha-lora", 4)]
    packed = [cell(name, rank) for name, rank in kinds]
    alone = [cell(name, rank, engine="trainer") for name, rank in kinds]
    task = encoded(base, packed[0])
    theirs = list(train_cells(base, task, packed, cell_folder(tmp_path), SILENT))
    ours = list(train_cells(base, task, alone, cell_folder(tmp_path), SILENT))
    assert [record["provenance"]["path"] for record in ours] == ["trainer"] * 3
    assert [record["provenance"]["pack"] for record in ours] == [[one.key] for one in alone]
    expected = {(record["cell"]["method"]["name"], record["cell"]["rank"]): record["metrics"] for record in theirs}
    for record, kind in zip(ours, kinds, strict=True):
        assert record["key"] != {one.method["name"]: one.key for one in packed}[kind[0]]
        assert record["metrics"] == pytest.approx(expected[kind], rel=1e-5, abs=1e-7)
