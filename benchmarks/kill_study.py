"""kill -9 of a run or of one of its workers at random moments, until a study is done, again and again.

    python benchmarks/kill_study.py --work FOLDER

After every kill: no record is gone or changed, no cell that has one was trained again. When a study is done, its table
is that of an undisturbed run, bit for bit in everything but times and memory.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from polars.testing import assert_frame_equal
from provenance import provenance, table

from loralaw.store import COSTS_OF_A_RUN, open_study

RESULTS = Path(__file__).parent / "results" / "kill_study.md"
STUDY = """
name: killed
base_models: [micro-0.4m]
task: stdlib-code
methods: [lora, alpha-lora]
ranks: [1, 4, 16]
sizes: [40, 80]
seeds: [0, 1]
training: {steps: 60, batch_size: 4, max_length: 32, dtype: float32}
evaluation: {test_examples: 32, choice_questions: 8, probe_examples: 8}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the studies; it is emptied")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    (arguments.work / "killed.yaml").write_text(STUDY)
    harness = Harness(arguments.work, random.Random(arguments.seed))
    seconds = harness.whole()
    while sum(harness.n_kills.values()) < arguments.kills:
        harness.one_study(arguments.kills, seconds)
        text = harness.page(f"The moments are drawn with seed {arguments.seed}.")
        RESULTS.write_text(text)  # after every study, so that it can be stopped at any time
    print(text)


class Harness:
    """Runs of one study that are killed, and what was seen."""

    def __init__(self, work: Path, rng: random.Random) -> None:
        self._work, self._rng = work, rng
        self.n_kills = {"run": 0, "worker": 0}
        self._n_studies = self._n_runs = 0
        self._records_at_kill: list[int] = []

    def whole(self) -> float:
        """The undisturbed run; how long it takes."""
        started = time.monotonic()
        assert self._start(self._work / "whole").wait() == 0
        return time.monotonic() - started

    def one_study(self, n_kills: int, seconds: float) -> None:
        """Kill until the study is done or there were enough kills; then let it end, and compare."""
        folder = self._work / f"study-{self._n_studies}"
        seen: dict[Path, tuple[bytes, int]] = {}
        process = self._start(folder)
        while process.poll() is None:
            if sum(self.n_kills.values()) >= n_kills:
                process.wait()
                break
            try:
                process.wait(self._rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                self._kill(process)
                self._check(folder, seen)
            if process.poll() is not None and process.returncode != 0:
                process = self._start(folder)
        self._check(folder, seen)
        whole, killed = (open_study(path).table().drop(COSTS_OF_A_RUN) for path in (self._work / "whole", folder))
        assert_frame_equal(whole, killed, check_exact=True)
        self._n_studies += 1

    def page(self, seeds: str) -> str:
        n_cells = open_study(self._work / "whole").table().height
        rows = [
            ["kill -9 of a run", str(self.n_kills["run"])],
            ["kill -9 of a worker", str(self.n_kills["worker"])],
            [f"studies of {n_cells} cells that were finished in spite of it", str(self._n_studies)],
            ["runs that were started", str(self._n_runs)],
            [
                "records there at a kill, from least to most",
                f"{min(self._records_at_kill)} to {max(self._records_at_kill)}",
            ],
            ["records lost or changed", "0"],
            ["cells with a record that were trained again", "0"],
            ["tables that differ from the undisturbed run's, times and memory aside", "0"],
        ]
        note = "The zeros are assertions: the script would have stopped at the first that is none.\n"
        return "\n".join(["# Studies that are killed", "", provenance(seeds), table(["", "number"], rows), note])

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        self._n_runs += 1
        loralaw = Path(sys.executable).with_name("loralaw")
        command = [str(loralaw), "run", "killed.yaml", "--out", str(folder.absolute()), "--jobs", "2"]
        return subprocess.Popen(command, cwd=self._work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        workers = [child for child in psutil.Process(process.pid).children() if _trains(child)]
        if workers and self._rng.random() < 0.5:
            self.n_kills["worker"] += 1
            self._rng.choice(workers).kill()
        else:
            self.n_kills["run"] += 1
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def _check(self, folder: Path, seen: dict[Path, tuple[bytes, int]]) -> None:
        """Every record that was there is there, and its cell's log has not been written since."""
        records = folder.glob("cells/*/record.json")
        now = {path: _state(path) for path in records if json.loads(path.read_text())["status"] == "finished"}
        self._records_at_kill.append(len(now))
        for path, state in seen.items():
            assert now.get(path) == state, f"{path} was lost or trained again"
        seen |= now


def _trains(process: psutil.Process) -> bool:
    """Whether a child of a run is one of its workers."""
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False
    return "popen_loky" in command


def _state(record: Path) -> tuple[bytes, int]:
    return record.read_bytes(), record.with_name("events.jsonl").stat().st_mtime_ns


if __name__ == "__main__":
    main()
