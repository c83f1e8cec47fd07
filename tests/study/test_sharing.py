"""Several runs of one study, damaged files, and disks that refuse: nothing is lost, nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal

import loralaw
from loralaw.errors import InputError, StorageError
from loralaw.report import PackState
from loralaw.spec import StudySpec, parse_study
from loralaw.store import COSTS_OF_A_RUN, RunLease, Study, open_study, write_study
from loralaw.store.leases import _can_lock, read_leases
from loralaw.study import RunProgress
from loralaw.training import machine

SCRIPT = """
import json, sys, loralaw
from loralaw.spec import parse_study
loralaw.run(parse_study(json.loads(sys.argv[1]), "s"), sys.argv[2], executor=sys.argv[3], jobs=int(sys.argv[4]))
"""


@pytest.fixture
def spec(tiny_model: Path, text_file: Path) -> StudySpec:
    settings = {
        "name": "s",
        "base_models": [str(tiny_model)],
        "task": str(text_file),
        "ranks": [1, 2, 4],
        "sizes": [8, 16],
        "seeds": [0],
        "packing": False,
        "training": {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "float32"},
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study(settings, "s")


class Seen(RunProgress):
    """What a run told, and something to do when a pack begins."""

    def __init__(self, when_a_pack_begins: Callable[[], None] = lambda: None) -> None:
        self.ended: list[str] = []
        self.lines: list[str] = []
        self._do = when_a_pack_begins

    def pack_began(self, pack: PackState) -> None:
        self._do()

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self.ended.append(title)

    def say(self, line: str) -> None:
        self.lines.append(line)


def run(spec: StudySpec, folder: Path, progress: RunProgress | None = None) -> Study:
    return loralaw.run(spec, folder, progress, executor="inline")


def results(study: Study) -> pl.DataFrame:
    return study.table().drop(COSTS_OF_A_RUN)


OtherRun = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def other_run() -> Iterator[OtherRun]:
    """Begins a run in another process, which ends with the test at the latest."""
    begun = list[subprocess.Popen[bytes]]()

    def begin(spec: StudySpec, folder: Path, executor: str = "inline") -> subprocess.Popen[bytes]:
        begun.append(_begin(spec, folder, executor))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def _begin(spec: StudySpec, folder: Path, executor: str) -> subprocess.Popen[bytes]:
    # As many workers as cores, so that each has one thread, as this process has: threads decide the last bits.
    n_workers = "1" if executor == "inline" else str(machine.n_cores())
    arguments = [json.dumps(spec.settings()), str(folder), executor, n_workers]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.DEVNULL)


def wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def records(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("cells/*/record.json")}


def ended(folder: Path, key: str) -> bool:
    return (folder / "cells" / key / "record.json").exists()


def test_two_runs_share_the_cells_and_each_is_trained_once(
    spec: StudySpec, tmp_path: Path, other_run: OtherRun
) -> None:
    """The second run begins while the first is at its first pack; both see all cells ended at the end."""
    folder, others = tmp_path / "shared", list[subprocess.Popen[bytes]]()

    def begin_another() -> None:
        if not others:
            others.append(other_run(spec, folder))
            wait_until(lambda: len(list((folder / "leases").glob("*.json"))) == 2)

    mine = Seen(begin_another)
    done = run(spec, folder, mine)
    assert others[0].wait(120) == 0
    trained = [json.loads(content)["provenance"] for content in records(folder).values()]
    assert len(trained) == len(mine.ended) == 6  # what the other trained is told too
    assert_frame_equal(results(done), results(run(spec, tmp_path / "whole")), check_exact=True)


def test_what_another_run_has_claimed_is_waited_for_and_taken_over_when_it_dies(
    spec: StudySpec, tmp_path: Path, other_run: OtherRun
) -> None:
    folder = tmp_path / "shared"
    other = other_run(spec, folder)
    wait_until(lambda: records(folder))
    while True:
        os.kill(other.pid, signal.SIGSTOP)
        held = [key for lease in read_leases(folder) for key in lease.keys if not ended(folder, key)]
        if held and _can_lock(folder / "leases" / ".claiming"):
            break  # it lives, has a cell, and is not just claiming one
        os.kill(other.pid, signal.SIGCONT)
        time.sleep(0.02)
    before = records(folder)

    class Impatient(Seen):
        def update(self, state: Any) -> None:
            if state.n_elsewhere == 1 and not state.packs and state.n_ended == 5:
                assert not ended(folder, held[0])
                other.kill()
                other.wait()

    done = run(spec, folder, Impatient())
    assert all(path.read_bytes() == content for path, content in before.items())
    assert_frame_equal(results(done), results(run(spec, tmp_path / "whole")), check_exact=True)


def test_a_worker_that_dies_costs_its_pack_and_a_run_that_dies_takes_its_workers_along(
    spec: StudySpec, tmp_path: Path, other_run: OtherRun
) -> None:
    folder = tmp_path / "killed"
    first = other_run(spec, folder, "local")
    wait_until(lambda: records(folder))
    workers = [p for p in psutil.Process(first.pid).children(recursive=True) if "LokyProcess" in " ".join(p.cmdline())]
    workers[0].kill()
    n_before = len(records(folder))
    wait_until(lambda: len(records(folder)) > n_before or first.poll() is not None)  # another took its place
    assert first.poll() is None or first.returncode == 0
    left = psutil.Process(first.pid).children(recursive=True) if first.poll() is None else []
    before = records(folder)
    first.kill()
    first.wait()
    wait_until(lambda: not any(process.is_running() for process in left))
    done = run(spec, folder)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert_frame_equal(results(done), results(run(spec, tmp_path / "whole")), check_exact=True)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "key"', b"\x00" * 50, b"[]", b'{"format": 1, "cell": {}}'])
def test_a_damaged_record_is_set_aside_and_its_cell_trained_anew(
    spec: StudySpec, tmp_path: Path, content: bytes
) -> None:
    whole = results(run(spec, tmp_path))
    damaged = sorted(records(tmp_path))[0]
    damaged.write_bytes(content)
    seen = Seen()
    again = run(spec, tmp_path, seen)
    assert len(seen.ended) == 1
    assert "record was damaged" in seen.lines[0]
    assert damaged.with_name("record.json.damaged").read_bytes() == content
    assert_frame_equal(results(again), whole, check_exact=True)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but torn"])
def test_a_lost_or_torn_index_is_made_anew(spec: StudySpec, tmp_path: Path, content: bytes | None) -> None:
    table = run(spec, tmp_path).table()
    index = tmp_path / "index.parquet"
    index.unlink()
    if content is not None:
        index.write_bytes(content)
    assert_frame_equal(open_study(tmp_path).table(), table, check_exact=True)
    run(spec, tmp_path)
    assert pl.read_parquet(index).height == 6


def test_the_index_is_believed_only_while_a_record_is_as_it_was(spec: StudySpec, tmp_path: Path) -> None:
    study = run(spec, tmp_path)
    study.mend()
    key = study.planned_keys[0]
    record = json.loads(study.cell(key).record_path.read_text())
    record["metrics"]["cross_entropy"] = 123.0
    study.cell(key).record_path.write_text(json.dumps(record))
    assert study.table()["cross_entropy"][0] == 123.0
    study.cell(key).record_path.unlink()
    assert study.pending_keys() == [key]


@pytest.mark.parametrize("content", [b'{"step": 10}\n{"st', b"\x00\xff\x80\n123\n"])
def test_a_torn_log_stops_nothing(spec: StudySpec, tmp_path: Path, content: bytes) -> None:
    study = run(spec, tmp_path)
    key = study.planned_keys[0]
    (study.cell_folder(key) / "events.jsonl").write_bytes(content)
    study.cell(key).record_path.unlink()
    assert run(spec, tmp_path).pending_keys() == []


def test_a_clock_that_jumps_changes_nothing(spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years forward and back between any two looks at it."""
    jumps = iter([1e9, -1e9, 5e8] * 100_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    done = run(spec, tmp_path / "jumps")
    monkeypatch.undo()
    assert_frame_equal(results(done), results(run(spec, tmp_path / "whole")), check_exact=True)


def test_a_disk_that_is_full_stops_the_run_and_the_next_one_goes_on(spec: StudySpec, tmp_path: Path) -> None:
    """A real one: a file system in memory with room for half of the study, where this user may mount one."""
    whole = run(spec, tmp_path / "whole")
    n_pages = sum(-(-path.stat().st_size // 4096) for path in whole.path.rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={n_pages * 4096 // 2}", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=r"What was finished before is safe|Every finished cell is safe"):
            run(spec, disk / "study")
        before = records(disk / "study")
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        done = run(spec, disk / "study")
        assert 0 < len(before) < 6
        assert all(path.read_bytes() == content for path, content in before.items())
        assert_frame_equal(results(done), results(whole), check_exact=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_cannot_be_written_is_told_and_can_be_read(spec: StudySpec, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        table = run(spec, disk / "study").table()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StorageError, match="Read-only file system"):
            run(spec, disk / "study")
        assert_frame_equal(open_study(disk / "study").table(), table)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_too_little_memory_for_one_cell_is_told_before_anything_runs(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"needs about .* GB for one cell.* are free"):
        run(spec, tmp_path)
    assert records(tmp_path) == {}


@pytest.mark.parametrize(
    ("executor", "jobs", "message"),
    [("lokal", None, 'Did you mean "local"'), ("local", 0, "at least 1"), ("inline", 2, "all is done in one process")],
)
def test_executors_that_cannot_be(
    spec: StudySpec, tmp_path: Path, executor: str, jobs: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        loralaw.run(spec, tmp_path / "none", executor=executor, jobs=jobs)
    assert not (tmp_path / "none").exists()


def test_a_lease_of_a_live_run_is_no_obstacle_to_reading(spec: StudySpec, tmp_path: Path) -> None:
    study = write_study(tmp_path, spec.settings(), ["a"], {"command": ""})
    with RunLease(tmp_path) as lease:
        lease.claim(["a"])
        assert study.table().height == 0
        assert study.pending_keys() == ["a"]
