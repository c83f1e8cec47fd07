"""The methods of a study: their settings, their mistakes, and which points each of them has."""

import hashlib
import json
from typing import Any

import pytest

from loralaw.errors import SpecError
from loralaw.spec import METHOD_NAMES, AlphaLoraMethod, Cell, method_spec, parse_study, points

STUDY = {"base_models": ["a", "b", "c"], "task": "t", "ranks": [2, 4, 8], "sizes": [5, 6, 7], "seeds": [0]}


def study(**changes: object) -> dict[str, Any]:
    return {k: v for k, v in {**STUDY, **changes}.items() if v is not None}


def problems(**changes: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_study(study(**changes), "s")
    return {problem.where: problem.message for problem in caught.value.problems}


def test_each_method_by_its_name_alone() -> None:
    spec = parse_study(study(methods=list(METHOD_NAMES)), "s")
    stored = [method.model_dump(mode="json", exclude_none=True) for method in spec.methods]
    adapter = {"lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": "all-linear"}
    row_scale = {
        "row_scale_protocol": "held-out",
        "row_scale_learning_rate": 0.005,
        "row_scale_every": 10,
        "row_scale_share": 0.1,
    }
    assert stored == [
        {"name": "lora", **adapter},
        {"name": "rslora", **adapter},
        {"name": "dora", **adapter},
        {"name": "alpha-lora", **adapter, **row_scale},
        {"name": "full"},
    ]
    assert [method_spec(method) for method in stored] == spec.methods
    assert parse_study(spec.settings(), "stored") == spec


def test_the_key_is_a_hash_of_what_was_always_stored() -> None:
    """By hand: a study goes on with the cells that it has, until the training's numbers change."""
    method = {"name": "rslora", "lora_alpha": 32.0, "lora_dropout": 0.0, "target_modules": ["q_proj"]}
    given = {"name": "rslora", "lora_alpha": 32.0, "target_modules": ["q_proj"]}
    (parsed,) = parse_study(study(methods=[given]), "s").methods
    cell = Cell(
        base_model="m", base_model_hash="h", method=parsed.model_dump(mode="json", exclude_none=True), rank=4,
        n_train_examples=64, seed=1, task={"name": "t"}, data_hash="d", training={"steps": 3},
        evaluation={"test_examples": 8},
    )  # fmt: skip
    hashed = {
        "base_model_hash": "h", "method": method, "rank": 4, "n_train_examples": 64, "seed": 1, "data_hash": "d",
        "training": {"steps": 3}, "evaluation": {"test_examples": 8}, "template": None, "semantics": "packed-3",
    }  # fmt: skip
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    assert cell.key == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_learning_rate_of_its_own_is_part_of_the_method_only_where_given() -> None:
    given = parse_study(study(methods=["lora", {"name": "full", "learning_rate": 1e-4}]), "s").methods
    assert [m.model_dump(exclude_none=True).get("learning_rate") for m in given] == [None, 1e-4]


@pytest.mark.parametrize(
    ("method", "where", "parts"),
    [
        ("alpha_lora", ".name", ['"alpha_lora" is not one of', "'full'", 'Did you mean "alpha-lora"?']),
        ({"name": 3}, ".name", ["3 is not one of"]),
        (7, "", ["7 is not settings"]),
        ({"name": "full", "lora_alpha": 3}, ".lora_alpha", ["unknown key. Accepted: name, learning_rate"]),
        ({"name": "lora", "row_scale_every": 2}, ".row_scale_every", ["unknown key", "target_modules"]),
        (
            {"name": "alpha-lora", "row_scale_evry": 2},
            ".row_scale_evry",
            ['Did you mean "row_scale_every"?', "row_scale_share"],
        ),
        ({"name": "alpha-lora", "row_scale_protocol": "heldout"}, ".row_scale_protocol", ['Did you mean "held-out"?']),
        ({"name": "alpha-lora", "row_scale_every": 0}, ".row_scale_every", ["greater than or equal to 1"]),
        ({"name": "alpha-lora", "row_scale_share": 1}, ".row_scale_share", ["less than 1"]),
        ({"name": "dora", "learning_rate": 0}, ".learning_rate", ["greater than 0"]),
        ({"name": "dora", "target_modules": []}, ".target_modules", ["at least one"]),
        (
            {"name": "alpha-lora", "row_scale_protocol": "joint", "row_scale_every": 4},
            "",
            ["row_scale_every is 4", "joint", "leave row_scale_every out"],
        ),
        ({"name": "alpha-lora", "row_scale_protocol": "joint", "row_scale_share": 0.5}, "", ["row_scale_share is 0.5"]),
    ],
)
def test_each_mistake_has_its_place_and_cure(method: object, where: str, parts: list[str]) -> None:
    found = problems(methods=["lora", method])
    assert set(found) == {f"methods[1]{where}"}
    for part in parts:
        assert part in found[f"methods[1]{where}"]


def test_the_same_method_twice() -> None:
    assert problems(methods=["full", {"name": "full"}], ranks=None) == {
        "methods": "full stands twice: list each value once"
    }
    parse_study(study(methods=["lora", {"name": "lora", "learning_rate": 1e-3}]), "s")


def test_mistakes_in_several_methods_come_together() -> None:
    found = problems(methods=["lorra", {"name": "full", "rank": 3}, {"lora_alpha": -1}], layout="gird")
    assert set(found) == {"methods[0].name", "methods[1].rank", "methods[2].lora_alpha", "layout"}


def test_full_fine_tuning_is_one_point_where_others_have_one_a_rank() -> None:
    found = points(parse_study(study(methods=["lora", "full"]), "s"))
    assert [p.rank for p in found if p.method.name == "full"] == [None] * 3 * 3
    assert len({(p.base_model, p.n_train_examples) for p in found if p.method.name == "full"}) == 3 * 3
    assert len([p for p in found if p.method.name == "lora"]) == 3 * 3 * 3


def test_a_star_has_full_fine_tuning_in_its_middle_once() -> None:
    found = points(parse_study(study(methods=["full", "lora"], layout="star"), "s"))
    full = [p for p in found if p.method.name == "full"]
    assert [(p.base_model, p.n_train_examples, p.rank) for p in full] == [("b", 6, None)]
    assert len(found) == 1 + 1 + 2 + 2 + 2


def test_a_star_around_full_fine_tuning_varies_no_rank() -> None:
    found = problems(methods=["lora", "full"], layout="star")
    assert set(found) == {"layout"}
    assert "the middle one here is full" in found["layout"]
    around = points(parse_study(study(methods=["lora", "full"], ranks=[4], layout="star"), "s"))
    assert sorted((p.method.name, p.rank) for p in around if p.rank) == [("lora", 4)]
    assert len(around) == 1 + 1 + 2 + 2


def test_ranks_are_needed_where_a_method_has_one() -> None:
    alone = points(parse_study(study(methods=["full"], ranks=None), "s"))
    assert [p.rank for p in alone] == [None] * 9
    assert "no rank" in problems(methods=["full"])["ranks"]
    assert "required and missing" in problems(methods=["full", "dora"], ranks=None)["ranks"]
    assert set(problems(methods=[{"name": "full", "lora_alpha": 3}], ranks=None)) == {"methods[0].lora_alpha"}


def test_what_is_left_of_a_study_of_full_fine_tuning_needs_no_rank() -> None:
    with pytest.raises(SpecError) as caught:
        parse_study(study(methods=["full"], sizes=[0, 5]), "s")
    rest: Any = caught.value.rest
    assert (rest.spec.ranks, rest.spec.sizes) == ([], [5])


@pytest.mark.parametrize(
    ("protocol", "n_adapter", "n_row_scale"), [("held-out", 75, 25), ("joint", 100, 100), ("authors", 100, 25)]
)
def test_who_learns_from_how_many_rows(protocol: str, n_adapter: int, n_row_scale: int) -> None:
    share = {} if protocol == "joint" else {"row_scale_share": 0.25}
    method = AlphaLoraMethod.model_validate({"name": "alpha-lora", "row_scale_protocol": protocol, **share})
    assert (method.n_adapter_rows(100), method.n_row_scale_rows(100)) == (n_adapter, n_row_scale)
