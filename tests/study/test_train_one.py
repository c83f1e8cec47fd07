"""One model without a study: the same result as a study's cell, a record whatever comes, nothing ever replaced."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import loralaw
from loralaw.errors import ModelError, SpecError, StorageError, StudyFolderError
from loralaw.spec import parse_study
from loralaw.store import CellFolder, folder_lock
from loralaw.study import OneModel, train_one

SHORT = {"steps": 12, "batch_size": 2, "max_length": 16}


@pytest.fixture
def one(tiny_model: Path, text_file: Path) -> dict[str, Any]:
    return {"model": str(tiny_model), "task": str(text_file), "rank": 2, "examples": 16, "seed": 3, **SHORT}


def problems(out: Path, **fields: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        train_one(OneModel(**fields), out)
    return {problem.where: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize("method", ["lora", "dora", "alpha-lora", "full"])
def test_the_record_is_that_of_the_same_cell_in_a_study(
    method: str, one: dict[str, Any], tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    rank = None if method == "full" else 2
    record = train_one(OneModel(**{**one, "method": method, "rank": rank}), tmp_path / "one")
    study = {
        "base_models": [str(tiny_model)], "task": str(text_file), "methods": [method], "sizes": [16, 20], "seeds": [3],
        "training": SHORT, **({} if rank is None else {"ranks": [rank]}),
    }  # fmt: skip
    done = loralaw.run(parse_study(study, "s"), tmp_path / "study", executor="inline")
    (same,) = (other for other in done.records() if other["cell"]["n_train_examples"] == 16)

    assert record["status"] == "finished"
    assert (record["key"], record["metrics"]) == (same["key"], same["metrics"])
    stored = json.loads((tmp_path / "one" / "record.json").read_text())
    assert stored["metrics"] == record["metrics"]
    assert stored["provenance"]["finished_at"]
    assert ("row_scale" in stored) == (method == "alpha-lora")
    weights = "model/model.safetensors" if method == "full" else "adapter/adapter_model.safetensors"
    mine, theirs = load_file(tmp_path / "one" / weights), load_file(done.cell_folder(same["key"]) / weights)
    assert mine.keys() == theirs.keys()
    assert all(mine[name].equal(theirs[name]) for name in mine)
    events = [json.loads(line) for line in (tmp_path / "one" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == [10]


def test_every_problem_at_once_by_the_names_of_the_fields(one: dict[str, Any], tmp_path: Path) -> None:
    changes = {"rank": 99, "examples": 1000, "target_modules": ["q_prj", "v_proj"], "lora_alpha": -1, "max_length": 99}
    found = problems(tmp_path, **{**one, **changes})
    assert set(found) == {
        "rank",
        "examples",
        "lora_alpha",
        "max_length",
    }  # the targets wait: another setting of the method is wrong
    assert set(problems(tmp_path, **{**one, "target_modules": ["q_prj"], "rank": None})) == {"rank", "target_modules"}
    assert 'Did you mean "alpha-lora"' in problems(tmp_path, **{**one, "method": "alphalora"})["method"]
    assert set(problems(tmp_path, **{**one, "model": "micro-9m", "seed": -1})) == {"model", "seed"}
    assert set(problems(tmp_path, **{**one, "task": "none.csv"})) == {"task"}
    assert set(problems(tmp_path, **{**one, "text_column": "body"})) == {"task"}
    assert set(problems(tmp_path, **{**one, "epochs": 2.0})) == {"epochs"}
    assert not list(tmp_path.glob("[!r]*"))


def test_what_a_method_does_not_have_is_refused(one: dict[str, Any], tmp_path: Path) -> None:
    assert "no rank" in problems(tmp_path, **{**one, "method": "full"})["rank"]
    found = problems(tmp_path, **{**one, "method": "full", "rank": None, "lora_alpha": 3.0})
    assert found == {"lora_alpha": "full has no such setting: leave it out"}
    assert set(problems(tmp_path, **{**one, "row_scale_every": 2})) == {"row_scale_every"}


@pytest.mark.parametrize("there", ["record.json", "adapter", "model"])
def test_what_was_trained_before_is_never_replaced(there: str, one: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / there).mkdir()
    found = problems(tmp_path, **{**one, "rank": 99})
    assert set(found) == {"rank", "out"}  # with the other mistakes, before anything is trained
    assert there in found["out"]


def test_a_folder_that_cannot_be_one(one: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file" in problems(tmp_path / "file" / "below", **one)["out"]
    with folder_lock(tmp_path / "busy"), pytest.raises(StudyFolderError, match="another process"):
        train_one(OneModel(**one), tmp_path / "busy")


def test_divergence_is_a_record(one: dict[str, Any], tmp_path: Path) -> None:
    record = train_one(OneModel(**{**one, "learning_rate": 1e30}), tmp_path)
    assert record["status"] == "diverged"
    assert "learning_rate" in record["reason"]
    assert json.loads((tmp_path / "record.json").read_text())["status"] == "diverged"
    assert not (tmp_path / "adapter").exists()


def test_failure_is_a_record(one: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setitem(train_one.__globals__, "train_cells", broken)
    record = train_one(OneModel(**one), tmp_path)
    assert (record["status"], record["key"]) == (
        "out-of-memory",
        json.loads((tmp_path / "record.json").read_text())["key"],
    )
    assert "99 bytes" in record["reason"]
    assert "Traceback" in (tmp_path / "error.txt").read_text()


@pytest.mark.parametrize("how", ["out of memory", "full disk", "killed"])
def test_an_attempt_without_a_result_is_begun_again(
    how: str, one: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise {"out of memory": MemoryError(), "full disk": StorageError("no space"), "killed": KeyboardInterrupt()}[
            how
        ]

    with monkeypatch.context() as broken:
        # A full disk refuses the last file, and a person may lose patience just before it.
        if how == "out of memory":
            broken.setitem(train_one.__globals__, "train_cells", fail)
        else:
            broken.setattr(CellFolder, "finish", fail)
        try:
            assert train_one(OneModel(**one), tmp_path)["status"] == "out-of-memory"
        except (StorageError, KeyboardInterrupt):
            assert (tmp_path / "adapter").exists()
    record = train_one(OneModel(**one), tmp_path)
    assert record["status"] == json.loads((tmp_path / "record.json").read_text())["status"] == "finished"
    assert not (tmp_path / "error.txt").exists()
    assert "earlier training" in problems(tmp_path, **one)["out"]


def test_weights_that_are_not_there_are_no_training(one: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:-64])
    with pytest.raises((ModelError, SpecError), match="broken"):
        train_one(OneModel(**{**one, "model": str(broken)}), tmp_path / "out")
    assert not (tmp_path / "out" / "record.json").exists()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "micro-1.3m", "method": "alpha-lora", "rank": 8}, "micro-1.3m-alpha-lora-r8-s0"),
        ({"model": "org/Llama 3: 8B", "method": "full", "seed": 2}, "Llama_3_8B-full-s2"),
        ({"model": "../models/mine/", "rank": 1}, "mine-lora-r1-s0"),
        ({"model": "C:\\models\\mine", "rank": 1}, "mine-lora-r1-s0"),
        ({"model": "..", "rank": 1}, "lora-r1-s0"),
    ],
)
def test_the_folder_has_a_name_that_every_system_takes(fields: dict[str, Any], name: str) -> None:
    assert OneModel(task="t", examples=1, **fields).default_folder() == Path("runs") / name
