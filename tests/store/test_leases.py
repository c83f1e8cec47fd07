"""Leases: no cell is claimed twice, a dead run's cells are free at once, and no clock of the wall decides anything."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from loralaw.errors import StorageError, StudyFolderError
from loralaw.store import RunLease, leases, live_leases

SPAWN = multiprocessing.get_context("spawn")


def _hold(folder: Path, keys: list[str], held: Any) -> None:
    with RunLease(folder) as lease:
        lease.claim(keys)
        held.set()
        signal.pause()


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A run in another process that has claimed a and b."""
    held = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(tmp_path, ["a", "b"], held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_what_a_live_run_has_nobody_else_gets_and_of_a_killed_one_everything(tmp_path: Path, other: Any) -> None:
    with RunLease(tmp_path) as mine:
        assert mine.claim(["a", "c", "b", "d"]) == ["c", "d"]
        (lease,) = mine.others()
        assert (lease.keys, lease.pid) == ({"a", "b"}, other.pid)
        os.kill(other.pid, signal.SIGSTOP)  # as a laptop that sleeps: it may go on at any time
        assert mine.claim(["a"]) == []
        other.kill()
        other.join()
        assert mine.claim(["a", "b"]) == ["a", "b"]
        assert mine.others() == []
    assert [path.name for path in (tmp_path / "leases").iterdir() if path.name != ".claiming"] == []


def test_who_only_looks_sees_the_live_runs_and_changes_nothing(tmp_path: Path, other: Any) -> None:
    before = sorted(path.name for path in (tmp_path / "leases").iterdir())
    assert [lease.keys for lease in live_leases(tmp_path)] == [{"a", "b"}]
    other.kill()
    other.join()
    assert live_leases(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "leases").iterdir()) == before


def test_what_is_released_can_be_claimed(tmp_path: Path) -> None:
    with RunLease(tmp_path) as one, RunLease(tmp_path) as two:
        one.claim(["a", "b"])
        one.release(["a"])
        assert two.claim(["a", "b"]) == ["a"]


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(leases.time, "monotonic", lambda: self.now)


def _lease_of_another_machine(folder: Path, beat: int) -> None:
    content = {"run": "far", "machine": "other/1", "host": "other", "pid": 7, "beat": beat, "keys": ["a"], "said": {}}
    (folder / "leases" / "far.json").write_text(json.dumps(content))


def test_a_run_on_another_machine_lives_as_long_as_its_beat_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the clocks of the wall jump: they are never asked."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(leases.time, "time", lambda: pytest.fail("the clock of the wall was asked"))
    with RunLease(tmp_path) as mine:
        for beat in range(5):
            _lease_of_another_machine(tmp_path, beat)
            assert mine.claim(["a"]) == []
            clock.now += leases.STALE_SECONDS - 1
        assert mine.claim(["a"]) == []  # 59 s without a beat
        clock.now += 2
        assert mine.claim(["a"]) == ["a"]


def _hold_until_lost(folder: Path, held: Any, said: Any) -> None:
    leases._machine = lambda: "far/1"
    leases.BEAT_SECONDS = 0.02
    with RunLease(folder) as lease:
        lease.claim(["a"])
        held.set()
        lease._thread.join()
        try:
            lease.claim(["b"])
        except StudyFolderError as error:
            said.put(str(error))


def test_a_run_that_was_suspended_and_taken_for_dead_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held, said = Clock(monkeypatch), SPAWN.Event(), SPAWN.Queue()
    process = SPAWN.Process(target=_hold_until_lost, args=(tmp_path, held, said))
    process.start()
    assert held.wait(60)
    os.kill(process.pid, signal.SIGSTOP)
    with RunLease(tmp_path) as mine:
        assert mine.claim(["a"]) == []
        clock.now += leases.STALE_SECONDS + 1
        assert mine.claim(["a"]) == ["a"]
        os.kill(process.pid, signal.SIGCONT)
        message = said.get(timeout=60)
    process.join()
    assert "took this one for dead" in message
    assert "run the same command again" in message


def test_a_torn_lease_is_left_out(tmp_path: Path) -> None:
    with RunLease(tmp_path) as mine:
        (tmp_path / "leases" / "torn.json").write_text('{"run": "to')
        assert mine.claim(["a"]) == ["a"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("a file in the way")
    with pytest.raises((StorageError, ValueError), match="not a place to write to"), RunLease(tmp_path):
        pass


def test_a_lease_that_names_another_file_is_none(tmp_path: Path) -> None:
    """Forged or copied: what it names would be moved away as a dead run's."""
    (tmp_path / "study.json").write_text("{}")
    with RunLease(tmp_path) as mine:
        forged = {**json.loads(mine.path.read_text()), "run": "../study", "keys": ["a"]}
        (tmp_path / "leases" / "forged.json").write_text(json.dumps(forged))
        assert mine.claim(["a"]) == ["a"]
        assert (tmp_path / "study.json").exists()
