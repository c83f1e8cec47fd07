"""What runs on a node of a Ray cluster: a pack, trained into the study folder or sent to the driver."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from loralaw._version import __version__
from loralaw.errors import InputError, ModelError, StudyFolderError
from loralaw.models import EMBEDDED, ENCODER, ModelSource, find_model
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob, PackTrainer, Workload

PART_BYTES = 4_000_000
"""Of a file, in one message."""
_LOOK_SECONDS = 1.0

_worker: tuple[str, "_Worker"] | None = None
"""Of the workload that this process works on; base model and token rows stay in it from pack to pack."""

Say = Callable[..., None]
"""Sends the driver a message: what kind, and what belongs to it."""


def train_on_node(
    version: str, workload: list[Any], job: PackJob, attempt: int, mail: Any, n_threads: int
) -> Failure | None:
    """A Ray task: train a pack.

    Args:
        version: the driver's loralaw.
        workload: the reference to the `Workload` in Ray's object store, in a list, or Ray would fetch it every time.
        job: the pack.
        attempt: what the driver calls it.
        mail: the `ray.util.queue.Queue` to the driver. Messages hold Python's own types only: the process of the queue
            need not load loralaw.
        n_threads: of its products.

    Returns:
        As `PackTrainer.train`; by then the driver has been sent everything.

    Raises:
        InputError: this node has another loralaw.
    """
    global _worker
    if version != __version__:
        raise InputError(f"{socket.gethostname()} has loralaw {__version__}, the driver {version}: install one version")
    torch.set_num_threads(n_threads)
    (reference,) = workload
    if _worker is None or _worker[0] != reference.hex():
        import ray

        _worker = None  # first, so that two bases never lie in memory together
        _worker = reference.hex(), _Worker(ray.get(reference))
    failure = _worker[1].train(job, lambda *message: mail.put((attempt, *message)))
    if failure is not None:
        _worker = None  # what an error left behind ends with it
    return failure


def gpu_bytes() -> int:
    """A Ray task: memory of this node's GPU, in bytes."""
    if not torch.cuda.is_available():
        raise InputError(f"torch on {socket.gethostname()} sees no GPU, but Ray counts one there")
    return int(torch.cuda.mem_get_info()[1])


class _Worker:
    """A process at work on one study.

    Whoever sees the lease of the run sees the study folder itself: its name is random, so that no other folder at the
    same path on this machine can have it. Such a process writes there, and stops when the lease is taken away: its
    driver is dead then, and another run may train the same cells. Others send what they write.
    """

    def __init__(self, workload: Workload) -> None:
        self._sources = dict(workload.sources)
        self._lease = workload.lease_path
        self._is_shared = self._lease.exists()
        self._scratch = None if self._is_shared else tempfile.TemporaryDirectory(prefix="loralaw-")
        self._cells_folder = workload.cells_folder if self._scratch is None else Path(self._scratch.name)
        self._trainer = PackTrainer(replace(workload, cells_folder=self._cells_folder, sources=self._sources))
        self._verified = set[str]()

    def train(self, job: PackJob, say: Say) -> Failure | None:
        say("began", socket.gethostname(), os.getpid(), self._is_shared)
        try:
            self._verify(job.cells[0].base_model)
        except ModelError as error:
            return Failure.of(error)
        if self._is_shared:
            return self._trainer.train(job, _now_and_then(self._check_lease))
        return self._train_and_send(job, say)

    def _verify(self, name: str) -> None:
        if name not in self._verified:
            self._sources[name] = _source_here(self._sources[name])
            self._verified.add(name)

    def _check_lease(self) -> None:
        if not self._lease.exists():
            raise StudyFolderError("the run that this pack belongs to is over")

    def _train_and_send(self, job: PackJob, say: Say) -> Failure | None:
        senders = {cell.key: _Sender(self._cells_folder / cell.key, say) for cell in job.cells}

        def send_logs() -> None:
            for sender in senders.values():
                sender.send_log()

        try:
            for record in self._trainer.records(job, _now_and_then(send_logs)):
                senders[record["key"]].send_all(record)
        except Exception as error:
            return Failure.of(error)
        finally:
            for cell in job.cells:
                shutil.rmtree(self._cells_folder / cell.key, ignore_errors=True)
        return None


class _Sender:
    """Sends what is new in the folder of a cell."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say
        self._n_sent: dict[Path, int] = {}

    def send_log(self) -> None:
        """The lines since the last time."""
        log = self._folder / "events.jsonl"
        if log.exists():
            self._send(log)

    def send_all(self, record: dict[str, Any]) -> None:
        """Everything that is left; the record last."""
        for path in sorted(self._folder.rglob("*")):
            if path.is_file() and path.name != "cell.json":  # the driver has it
                self._send(path)
        self._say("record", self._folder.name, record)

    def _send(self, path: Path) -> None:
        name = path.relative_to(self._folder).as_posix()
        with path.open("rb") as file:
            file.seek(self._n_sent.get(path, 0))
            while part := file.read(PART_BYTES):
                self._say("part", self._folder.name, name, file.tell() - len(part), part)
            self._n_sent[path] = file.tell()


def _source_here(source: ModelSource) -> ModelSource:
    """The same base model on this machine, by its contents; one of the hub is asked for by its commit."""
    if source.revision is not None:
        return source
    is_of_a_package = source.name in (*EMBEDDED, ENCODER)
    try:
        here = find_model(source.name if is_of_a_package else source.location, source.loading)
    except ModelError as error:
        cure = "install the same packages there" if is_of_a_package else "put it there, at the same path"
        raise ModelError(f"on {socket.gethostname()}: {error} ({cure})") from None
    if here.hash != source.hash:
        raise ModelError(
            f'"{source.name}" on {socket.gethostname()} is another model (contents {here.hash}) than the one of this '
            f"study (contents {source.hash}): copy it there again"
        )
    return replace(source, location=here.location)


def _now_and_then(do: Callable[[], None]) -> Callable[[], None]:
    """To be called after every step; does it at most once a second."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > _LOOK_SECONDS:
            do()
            last = time.monotonic()

    return tick
