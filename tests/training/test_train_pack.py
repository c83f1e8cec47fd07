"""Cells of many kinds and lengths in one pack: each as if alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from solo_cells import SILENT, base_model, cell, cell_folder, encoded, results

from loralaw.spec import Cell
from loralaw.training import PackEvents, train_pack

torch.set_num_threads(1)


def mixed_cells(dtype: str = "float32") -> list[Cell]:
    return [
        cell("lora", 4, 1, steps=12, dtype=dtype),
        cell("lora", 24, 1, steps=5, dtype=dtype),
        cell("rslora", 4, 2, n=24, steps=20, lora_dropout=0.2, dtype=dtype),
        cell("lora", 1, 0, n=8, steps=5, learning_rate=1e-3, dtype=dtype),
        cell("rslora", 8, 1, steps=7, lora_dropout=0.2, dtype=dtype),
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
    assert n_steps == [5, 5, 7, 12, 20]
    assert took == [5] * 5 + [3] * 2 + [2] * 5 + [1] * 8
