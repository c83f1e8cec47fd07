"""From a study to cells and packs: what trains alone is alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from loralaw.spec import Cell, parse_study
from loralaw.study import check, plan_cells, plan_packs
from loralaw.study.cell_needs import Needs
from loralaw.study.check import CheckedStudy
from loralaw.study.plan import plan_jobs


@pytest.fixture
def checked(tiny_model: Path, text_file: Path) -> CheckedStudy:
    settings: dict[str, Any] = {
        "base_models": [str(tiny_model)],
        "task": str(text_file),
        "methods": ["lora", "rslora", {"name": "dora", "learning_rate": 1e-3}, "alpha-lora", "full"],
        "ranks": [1, 4],
        "sizes": [16],
        "seeds": [0, 1],
        "training": {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "float32"},
    }
    return check(parse_study(settings, "s"))


def names(cells: list[Cell]) -> set[str]:
    return {str(cell.method["name"]) for cell in cells}


def test_methods_that_cannot_share_a_pass_are_packs_of_one(checked: CheckedStudy) -> None:
    packs = plan_packs(plan_cells(checked), checked, Needs(checked))
    together = [pack for pack in packs if len(pack) > 1]
    assert [(names(pack), len(pack)) for pack in together] == [({"lora", "rslora", "alpha-lora"}, 3 * 2 * 2)]
    alone = [pack[0] for pack in packs if len(pack) == 1]
    assert names(alone) == {"dora", "full"}
    assert len(alone) == 2 * 2 + 2


def test_cells_hold_what_their_method_has_and_no_more(checked: CheckedStudy) -> None:
    cells = {(cell.method["name"], cell.rank, cell.seed): cell for cell in plan_cells(checked)}
    assert len({cell.key for cell in cells.values()}) == len(cells) == 2 * 2 * 4 + 2
    assert cells["full", None, 0].method == {"name": "full"}
    assert cells["dora", 4, 1].method["learning_rate"] == 1e-3
    assert "learning_rate" not in cells["lora", 4, 1].method
    assert set(cells["alpha-lora", 1, 0].method) == {
        "name", "lora_alpha", "lora_dropout", "target_modules", "row_scale_protocol", "row_scale_learning_rate",
        "row_scale_every", "row_scale_share",
    }  # fmt: skip


def test_packs_hold_cells_of_similar_length_and_are_nearly_equal(tiny_model: Path, text_file: Path) -> None:
    settings: dict[str, Any] = {
        "base_models": [str(tiny_model)],
        "task": str(text_file),
        "ranks": [1, 4],
        "sizes": [8, 16, 24, 32, 40],
        "seeds": [0],
        "training": {"epochs": 2.0, "batch_size": 2, "max_length": 16, "dtype": "float32"},
    }
    checked = check(parse_study(settings, "s"))
    cells = plan_cells(checked)
    (pack,) = plan_packs(cells, checked, Needs(checked))
    assert sorted(cell.key for cell in pack) == sorted(cell.key for cell in cells)
    settings["training"] |= {"epochs": 5.0, "batch_size": 40, "max_length": 32}  # three cells are 4,000 tokens
    checked = check(parse_study(settings | {"sizes": [40, 8, 16, 24, 32]}, "s"))
    packs = plan_packs(plan_cells(checked), checked, Needs(checked))
    assert [len(pack) for pack in packs] == [2, 3, 2, 3]
    assert [cell.n_train_examples for pack in packs for cell in pack] == [8, 8, 16, 16, 24, 24, 32, 32, 40, 40]


def test_the_engine_trainer_trains_every_cell_alone(checked: CheckedStudy) -> None:
    training = checked.spec.training.model_copy(update={"engine": "trainer"})
    alone = dataclasses.replace(checked, spec=checked.spec.model_copy(update={"training": training}))
    cells = plan_cells(alone)
    assert all(len(pack) == 1 for pack in plan_packs(cells, alone, Needs(alone)))
    assert not {cell.key for cell in cells} & {cell.key for cell in plan_cells(checked)}


def test_no_more_workers_than_cells(checked: CheckedStudy) -> None:
    """And as many threads each as if there were work for all: the last cells of a study must not get other bits."""
    cells, needs = plan_cells(checked), Needs(checked)
    plan = plan_jobs(cells, checked, needs, 10**8)
    assert (plan.n_workers, plan.n_threads, len(plan.jobs)) == (len(cells), 1, len(cells))
