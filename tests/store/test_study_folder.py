"""Study folders: what was finished stays, what is torn is told, and nobody writes into another's."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from loralaw.errors import StorageError, StudyFolderError
from loralaw.spec import Cell
from loralaw.store import Study, folder_lock, open_study, write_json, write_study
from loralaw.store.events import append_event, read_events

SETTINGS: dict[str, Any] = {"name": "s", "training": {"dtype": "float32"}}
CELL = Cell("m", "h", {"name": "lora"}, 4, 64, 0, {}, "d", {}, {})


def record(key: str, status: str = "finished") -> dict[str, Any]:
    return {
        "key": key,
        "status": status,
        "reason": None,
        "cell": CELL.settings(),
        "metrics": {"cross_entropy": 2.5},
        "counts": {"n_params_total": 100},
        "cost": {"train_seconds": 1.0},
        "provenance": {},
    }


def make(folder: Path, keys: list[str], **settings: Any) -> Study:
    return write_study(folder, {**SETTINGS, **settings}, keys, {"command": "loralaw run"})


def test_a_cell_is_finished_when_its_record_is_there(tmp_path: Path) -> None:
    study = make(tmp_path, ["a", "b", "c"])
    study.cell("a").finish(record("a"))
    study.cell("b").finish(record("b", "error"))
    assert study.pending_keys() == ["b", "c"]
    assert open_study(tmp_path).table()["status"].to_list() == ["finished", "error"]
    assert study.table()["cross_entropy"].to_list() == [2.5, 2.5]
    assert study.table()["accuracy"].to_list() == [None, None]


def test_a_diverged_cell_is_a_result(tmp_path: Path) -> None:
    study = make(tmp_path, ["a"])
    study.cell("a").finish(record("a", "diverged"))
    assert study.pending_keys() == []


def test_a_grown_study_keeps_its_records(tmp_path: Path) -> None:
    make(tmp_path, ["a"]).cell("a").finish(record("a"))
    grown = make(tmp_path, ["a", "b"])
    assert grown.pending_keys() == ["b"]


def test_beginning_again_forgets_the_failed_attempt(tmp_path: Path) -> None:
    study = make(tmp_path, [CELL.key])
    study.cell(CELL.key).finish(record(CELL.key, "error"))
    study.cell(CELL.key).log({"step": 10})
    study.cell(CELL.key).begin(CELL)
    assert study.record(CELL.key) is None
    assert study.cell(CELL.key).events() == []


def test_another_study_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path, ["a"]).cell("a").finish(record("a"))
    with pytest.raises(StudyFolderError, match="--out"):
        make(tmp_path, ["b"], name="other")
    assert open_study(tmp_path).name == "s"


def test_a_study_with_nothing_in_common_does_not_empty_the_table(tmp_path: Path) -> None:
    make(tmp_path, ["a"]).cell("a").finish(record("a"))
    with pytest.raises(StudyFolderError, match="training changed"):
        make(tmp_path, ["b"], training={"dtype": "bfloat16"})
    assert open_study(tmp_path).table().height == 1


def test_a_base_model_under_another_path_is_the_same(tmp_path: Path) -> None:
    make(tmp_path, ["a"]).cell("a").finish(record("a"))
    moved = write_study(tmp_path, SETTINGS, ["a", "b"], {"base_model_hashes": {"proj/m": "h"}})
    assert moved.table()["base_model"].to_list() == ["proj/m"]


def test_other_versions_and_damage_are_told(tmp_path: Path) -> None:
    study = make(tmp_path, ["a"])
    study.cell("a").finish(record("a"))
    path = tmp_path / "cells" / "a" / "record.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(StudyFolderError, match=r"record\.json is damaged"):
        study.table()
    write_json(path, {"format": 1})
    with pytest.raises(StudyFolderError, match="it has no key"):
        study.table()
    content = json.loads((tmp_path / "study.json").read_text())
    write_json(tmp_path / "study.json", {**content, "format": 99, "loralaw": "9.9"})
    with pytest.raises(StudyFolderError, match=r"99.*9\.9"):
        open_study(tmp_path)


def test_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(StudyFolderError, match="not a study folder"):
        open_study(tmp_path)


def test_a_torn_last_event_is_dropped_and_a_torn_middle_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_event(path, {"step": 1})
    append_event(path, {"step": 2})
    with path.open("a") as file:
        file.write('{"step": 3, "tra')
    assert [event["step"] for event in read_events(path)] == [1, 2]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(StudyFolderError, match="line 2"):
        read_events(path)


def test_a_refused_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*What was finished before is safe"):
        write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_values_that_are_not_numbers_never_reach_a_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})


def _hold(folder: Path, held: Any, release: Any) -> None:
    with folder_lock(folder):
        held.set()
        release.wait()


def test_one_run_a_folder_and_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release))
    other.start()
    assert held.wait(30)
    with pytest.raises(StudyFolderError, match="another process"), folder_lock(tmp_path):
        pass
    other.kill()
    other.join()
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("metrics", None),
        ("counts", []),
        ("key", 3),
        ("cell", "m"),
        ("cost", {"train_seconds": "long"}),
        ("metrics", {"cross_entropy": [2.5]}),
        ("provenance", {"pack": 3}),
        ("cell", {**CELL.settings(), "method": "lora"}),
        ("cell", {**CELL.settings(), "method": {"name": "laura"}}),
        ("cell", {**CELL.settings(), "rank": "4"}),
    ],
)
def test_a_record_of_wrong_kinds_is_damaged_and_set_aside(tmp_path: Path, part: str, value: Any) -> None:
    study = make(tmp_path, ["a", "b"])
    study.cell("a").finish(record("a"))
    study.cell("b").finish({**record("b"), part: value} if part != "provenance" else record("b"))
    if part == "provenance":
        path = study.cell("b").record_path
        path.write_text(json.dumps({**json.loads(path.read_text()), part: value}))
    with pytest.raises(StudyFolderError, match=r"record\.json is damaged"):
        study.table()
    assert study.mend() == ["b"]
    assert study.pending_keys() == ["b"]


def test_a_record_that_is_a_folder_is_set_aside(tmp_path: Path) -> None:
    study = make(tmp_path, ["a"])
    study.cell("a").record_path.mkdir(parents=True)
    assert study.mend() == ["a"]
    assert study.pending_keys() == ["a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": []},
        {"settings": {}},
        {"planned_keys": None},
        {"planned_keys": ["a", 3]},
        {"provenance": None},
        {"provenance": {"base_model_hashes": []}},
    ],
)
def test_a_study_of_wrong_kinds_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    make(tmp_path, ["a"])
    path = tmp_path / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(StudyFolderError, match=r"study\.json is damaged.*run the study again"):
        open_study(tmp_path)


def test_a_line_that_is_no_event_is_damage(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('123\n{"step": 10}\n')
    with pytest.raises(StudyFolderError, match="line 1 is damaged"):
        read_events(tmp_path / "events.jsonl")
