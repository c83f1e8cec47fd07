"""Study files: everything wrong is said at once, with the place, the value, and what is accepted."""

from pathlib import Path

import pytest

from loralaw.errors import SpecError
from loralaw.spec import StudySpec, load_study, parse_study

GOOD = {"base_models": ["micro-0.4m"], "task": "stdlib-code", "ranks": [1, 4], "sizes": [16]}


def problems(**changes: object) -> dict[str, str]:
    """The problems of a good study with some settings changed, by place; a setting of None is left out."""
    raw = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    with pytest.raises(SpecError) as caught:
        parse_study(raw, "mine.yaml")
    return {problem.where: problem.message for problem in caught.value.problems}


def test_defaults_are_written_out() -> None:
    settings = parse_study(GOOD, "mine.yaml").settings()
    assert settings["methods"] == [
        {"name": "lora", "learning_rate": None, "lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": "all-linear"}
    ]
    assert settings["training"]["dtype"] == "auto"
    assert settings["training"]["steps"] == 300
    assert parse_study({**GOOD, "training": {"epochs": 1}}, "mine.yaml").training.steps is None
    assert parse_study(settings, "stored").settings() == settings


def test_all_problems_at_once() -> None:
    found = problems(ranks=[0, 4, 4.5], layout="gird", base_models=[], trainng={}, sizes=None)
    assert set(found) == {"ranks[0]", "ranks[2]", "layout", "base_models", "trainng", "sizes"}
    assert found["ranks[0]"] == "0 is not a rank: use a whole number of at least 1"
    assert 'Did you mean "training"?' in found["trainng"]
    assert 'Did you mean "grid"?' in found["layout"]
    assert "required" in found["sizes"]


@pytest.mark.parametrize(
    ("changes", "where", "part"),
    [
        ({"ranks": []}, "ranks", "at least one"),
        ({"ranks": [True]}, "ranks[0]", "not a rank"),
        ({"ranks": [4, 4]}, "ranks", "stands twice"),
        ({"evaluation": {"other_estimators": ["jsd_standardised"] * 2}}, "evaluation.other_estimators", "stands twice"),
        ({"ranks": 4}, "ranks", "list"),
        ({"sizes": [-1]}, "sizes[0]", "greater than or equal to 1"),
        ({"seeds": ["a"]}, "seeds[0]", "integer"),
        ({"methods": ["lorra"]}, "methods[0].name", 'Did you mean "lora"?'),
        ({"methods": [{"lora_alpa": 3}]}, "methods[0].lora_alpa", 'Did you mean "lora_alpha"?'),
        ({"methods": [{"target_modules": []}]}, "methods[0].target_modules", "at least one"),
        ({"training": {"steps": 1, "epochs": 1}}, "training.epochs", "steps or epochs"),
        ({"training": {"learning_rate": True}}, "training.learning_rate", "valid number"),
        ({"training": {"weight_decay": "1"}}, "training.weight_decay", "valid number"),
        ({"packing": "yes"}, "packing", "boolean"),
        ({"evaluation": {"split": "train"}}, "evaluation.split", "validation"),
        (
            {"evaluation": {"other_estimators": ["gaussian_noise"]}},
            "evaluation.other_estimators[0]",
            "jsd_standardised",
        ),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "finite"),
        ({"name": "../escape"}, "name", "letters"),
        ({"task": {"name": "stdlib-code", "file": "x.csv"}}, "task", "not both"),
        ({"task": {"file": "x.csv", "prompt_column": "q"}}, "task", "together"),
        ({"task": {}}, "task", "either"),
    ],
)
def test_each_mistake_has_its_place_and_cure(changes: dict[str, object], where: str, part: str) -> None:
    found = problems(**changes)

    assert set(found) == {where}
    assert part in found[where]


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("base_models: [m]\ntask: rows.csv\nranks: [1]\nsizes: [2]\ntraining: {learning_rate: 2e-3}\n")
    spec = load_study(path)
    assert spec.name == "s"
    assert spec.training.learning_rate == 0.002
    assert spec.task.file == tmp_path / "rows.csv"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ranks: [1\n", "line 2"),
        ("ranks: [1]\nranks: [2]\n", "'ranks' stands twice"),
        ("- 1\n", "not settings"),
        ("", "nothing"),
        ("name: 2024-13-45\n", "month"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=part):
        load_study(path)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="loralaw new"):
        load_study(tmp_path / "none.yaml")


def test_steps_from_epochs() -> None:
    spec: StudySpec = parse_study({**GOOD, "training": {"epochs": 2, "batch_size": 4}}, "mine.yaml")
    assert spec.training.n_steps(100) == 50
    assert spec.training.n_steps(1) == 1
