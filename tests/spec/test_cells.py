"""Cells and their keys: the same result has the same key, another result another one."""

from dataclasses import replace

import pytest

from loralaw.spec import Cell, parse_study, points

CELL = Cell(
    base_model="micro-0.4m",
    base_model_hash="h",
    method={"name": "lora", "lora_alpha": 16.0},
    rank=4,
    n_train_examples=64,
    seed=0,
    task={"name": "stdlib-code"},
    data_hash="d",
    training={"steps": 10, "dtype": "float32"},
    evaluation={"test_examples": 8},
)


def study(**changes: object) -> dict[str, object]:
    return {"base_models": ["a", "b", "c"], "task": "t", "ranks": [1, 2, 4, 8], "sizes": [5, 6, 7], **changes}


def test_names_are_not_part_of_a_key() -> None:
    assert replace(CELL, base_model="./a copy", task={"file": "elsewhere"}).key == CELL.key
    assert replace(CELL, training={"dtype": "float32", "steps": 10}).key == CELL.key


@pytest.mark.parametrize(
    "change",
    [
        {"base_model_hash": "x"},
        {"method": {"name": "rslora", "lora_alpha": 16.0}},
        {"rank": 5},
        {"n_train_examples": 65},
        {"seed": 1},
        {"data_hash": "x"},
        {"training": {"steps": 11, "dtype": "float32"}},
        {"evaluation": {"test_examples": 9}},
        {"template": "Q: {question}"},
    ],
)
def test_whatever_changes_a_result_changes_the_key(change: dict[str, object]) -> None:
    assert replace(CELL, **change).key != CELL.key


def test_grid_is_every_combination() -> None:
    found = points(parse_study(study(), "s"))
    assert len(found) == len(set(map(repr, found))) == 3 * 4 * 3 * 2


def test_star_moves_one_axis_at_a_time() -> None:
    found = points(parse_study(study(layout="star", seeds=[7]), "s"))
    assert len(found) == 1 + 2 + 3 + 2
    for point in found:
        away = [point.base_model != "b", point.rank != 4, point.n_train_examples != 6]
        assert sum(away) <= 1
