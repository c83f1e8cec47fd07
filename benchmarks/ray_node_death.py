"""A study on a Ray cluster of two nodes on this machine, one of which is killed (kill -9 of all its processes).

    python benchmarks/ray_node_death.py --work FOLDER

Twice: from inside the cluster with a study folder that all see, and through Ray Client with nodes that do not see it.
The study must finish, no record that was there may be lost or changed, and its table must be the undisturbed run's, bit
for bit in everything but times and memory.
"""

import argparse
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import psutil
from polars.testing import assert_frame_equal
from provenance import provenance, table

import loralaw
from loralaw.report import RunState
from loralaw.spec import StudySpec, parse_study
from loralaw.store import RunLease, Study
from loralaw.study import RunProgress

RESULTS = Path(__file__).parent / "results" / "ray_node_death.md"
SETTINGS = {
    "name": "two-nodes",
    "base_models": ["micro-0.4m"],
    "task": "stdlib-code",
    "ranks": [1, 4, 16],
    "sizes": [40, 80],
    "seeds": [0, 1],
    "training": {"steps": 100, "batch_size": 4, "max_length": 32, "dtype": "float32"},
    "evaluation": {"test_examples": 32, "choice_questions": 8, "probe_examples": 8},
    "packing": False,
}
COSTS = ["train_seconds", "evaluate_seconds", "peak_memory_bytes"]
RECORDS_BEFORE = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the studies; it is emptied")
    work: Path = parser.parse_args().work
    shutil.rmtree(work, ignore_errors=True)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # nodes and run must agree
    spec = parse_study(SETTINGS, "two-nodes")
    whole = loralaw.run(spec, work / "whole", executor="inline")
    rows = [
        row("inside the cluster, folder seen by all", "{gcs}", spec, work / "seen", whole),
        row("Ray Client, folder not seen by the nodes", "ray://{client}", spec, work / "sent", whole),
    ]
    note = (
        f"The study has {whole.table().height} cells, each a pack of its own. The zeros are assertions: the script "
        "would have stopped at the first that is none.\n"
    )
    columns = [
        "",
        "records at the kill",
        "s until the death was told",
        "lost or changed",
        "cells that differ in the end",
    ]
    text = "\n".join(["# A node that dies", "", provenance("No random numbers."), table(columns, rows), note])
    RESULTS.write_text(text)
    print(text)


def row(title: str, address: str, spec: StudySpec, folder: Path, whole: Study) -> list[str]:
    """Run the study on a cluster of which a node dies."""
    with two_nodes() as (ports, second):
        killer = KillNode(second, folder)
        lease = RunLease.path if address.startswith("{") else folder / "not seen from there"
        with patch.object(RunLease, "path", lease):
            done = loralaw.run(spec, folder, killer, executor="ray", ray_address=address.format(**ports))
    assert all(path.read_bytes() == content for path, content in killer.records.items())
    assert_frame_equal(done.table().drop(COSTS), whole.table().drop(COSTS), check_exact=True)
    assert set(done.table()["status"]) == {"finished"}
    assert killer.seconds is not None, "no pack died"
    return [title, str(len(killer.records)), f"{killer.seconds:.0f}", "0", "0"]


class KillNode(RunProgress):
    """Kills a node once, when some cells have ended and every node has one in training."""

    def __init__(self, node: psutil.Process, folder: Path) -> None:
        self._node, self._folder = node, folder
        self._killed_at: float | None = None
        self.records: dict[Path, bytes] = {}
        self.seconds: float | None = None
        """From the kill to the news of it."""

    def update(self, state: RunState) -> None:
        if self._killed_at is not None or sum(pack.share_done > 0 for pack in state.packs) < 2:
            return
        records = list(self._folder.glob("cells/*/record.json"))
        if len(records) >= RECORDS_BEFORE:
            self.records = {path: path.read_bytes() for path in records}
            kill(self._node)
            self._killed_at = time.monotonic()

    def say(self, line: str) -> None:
        print(line, flush=True)
        if self._killed_at is not None and self.seconds is None and "died" in line:
            self.seconds = time.monotonic() - self._killed_at


@contextmanager
def two_nodes() -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """A cluster of two nodes with a core each: its addresses, and the second node."""
    gcs, client = free_port(), free_port()
    head = start("--head", "--include-dashboard=false", f"--port={gcs}", f"--ray-client-server-port={client}")
    nodes = [head]
    try:
        wait_for(head)
        nodes.append(start(f"--address=127.0.0.1:{gcs}"))
        wait_for(nodes[1])
        yield {"gcs": f"127.0.0.1:{gcs}", "client": f"127.0.0.1:{client}"}, psutil.Process(nodes[1].pid)
    finally:
        for node in reversed(nodes):
            if node.poll() is None:
                kill(psutil.Process(node.pid))
            node.wait()


def start(*options: str) -> subprocess.Popen[str]:
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", "--block", "--num-cpus=1", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(node: subprocess.Popen[str]) -> None:
    assert node.stdout is not None
    said = []
    for line in node.stdout:
        said.append(line)
        if "Ray runtime started" in line:
            return
    raise RuntimeError("".join(said))


def kill(node: psutil.Process) -> None:
    """All at once: what a node's owner would see of a machine that loses its power."""
    for process in [node, *node.children(recursive=True)]:
        process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
