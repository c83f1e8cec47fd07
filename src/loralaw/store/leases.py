"""Which cells each live run of a study trains, so that several runs of one study never train a cell twice.

leases/<run>.json   machine, process, a beat that counts up, and the keys of the cells that the run has claimed
leases/<run>.taken  what such a file becomes when another machine's run takes the cells
leases/<run>.lock   locked by the run's process; the system unlocks it when the process ends, however it ends
leases/.claiming    locked for the moment of a claim

No clock of the wall is asked, so a clock that jumps changes nothing. On one machine the lock says whether a run lives.
Of a run on another machine (a shared folder) the lock may say nothing; there its beat does, watched for a while.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from loralaw.errors import StorageError, StudyFolderError
from loralaw.store.atomic import storage_error, write_json

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A run on another machine whose beat stands still for so long is taken for dead."""
_CLAIMING_SECONDS = 60.0


@dataclass(frozen=True)
class Lease:
    """What a run has said of itself."""

    run: str
    machine: str
    host: str
    pid: int
    beat: int
    keys: frozenset[str]
    said: dict[str, Any]
    """How far the run is, for whoever watches."""

    @property
    def holder(self) -> str:
        """Whom to look for."""
        return f"process {self.pid} on {self.host}"


class RunLease:
    """The lease of this run, from entering to leaving it.

    Args:
        folder: the study folder.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "leases"
        self._run = uuid.uuid4().hex[:12]
        self._path = self._folder / f"{self._run}.json"
        self._keys: set[str] = set()
        self._beat, self._said = 0, dict[str, Any]()
        self._beats_seen: dict[str, tuple[int, float]] = {}
        self._writing, self._ended = threading.Lock(), threading.Event()
        self._lost = False

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self._path.with_suffix(".lock"), thread_local=False)
            self._lock.acquire(timeout=0)
        except OSError as error:
            raise storage_error(self._folder, error) from error
        self._write()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._lock.release()
        for ending in (".json", ".taken", ".lock"):
            self._path.with_suffix(ending).unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        """Where the lease is; nothing is there once another run has taken its cells."""
        return self._path

    def claim(self, keys: Collection[str]) -> list[str]:
        """Take those of the cells that no other live run has, and give back which.

        Raises:
            StudyFolderError: another run took this one for dead (it was suspended, say) and has its cells.
            StorageError: the disk refused.
        """
        self.check_held()
        with self._claiming():
            taken = {key for lease in self.others() for key in lease.keys}
            free = [key for key in keys if key not in taken]
            self._keys |= set(free)
            self._write()
        return free

    def release(self, keys: Iterable[str]) -> None:
        """Give up cells: they have ended, or will not be trained by this run."""
        self._keys -= set(keys)
        self._write()

    def say(self, said: dict[str, Any]) -> None:
        """What whoever watches shall know; told with the next beat."""
        self._said = said

    def others(self) -> list[Lease]:
        """The leases of the other live runs; those of dead ones are removed."""
        alive = []
        for lease in read_leases(self._folder.parent):
            if lease.run == self._run:
                continue
            if self._is_alive(lease):
                alive.append(lease)
            else:
                self._take(lease)
        return alive

    def check_held(self) -> None:
        """Raise `StudyFolderError` if another run has taken this lease away."""
        if self._lost:
            raise StudyFolderError(
                f"{self._folder.parent}: another run took this one for dead, as it gave no sign of life for "
                f"{STALE_SECONDS:.0f} s (suspended?), and trains its cells. What was finished is safe; run the same "
                "command again to join in"
            )

    def _take(self, lease: Lease) -> None:
        """Its run may wake up, so it must be able to see what happened."""
        path = self._folder / f"{lease.run}.json"
        with suppress(FileNotFoundError):
            path.replace(path.with_suffix(".taken"))
        if lease.machine == _machine():  # its process is gone for certain
            for ending in (".taken", ".lock"):
                path.with_suffix(ending).unlink(missing_ok=True)

    def _is_alive(self, lease: Lease) -> bool:
        if lease.machine == _machine():
            return not _can_lock(self._folder / f"{lease.run}.lock")
        beat, since = self._beats_seen.get(lease.run, (-1, 0.0))
        if beat != lease.beat:
            self._beats_seen[lease.run] = lease.beat, time.monotonic()
            return True
        return time.monotonic() - since < STALE_SECONDS

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._beat += 1
            if self._path.with_suffix(".taken").exists():
                self._lost = True
                return
            with suppress(StorageError):  # a disk that is full for a moment; the next beat may succeed
                self._write()

    def _write(self) -> None:
        with self._writing:
            about = {"run": self._run, "machine": _machine(), "host": socket.gethostname(), "pid": os.getpid()}
            write_json(self._path, {**about, "beat": self._beat, "keys": sorted(self._keys), "said": self._said})

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        try:
            with FileLock(self._folder / ".claiming", timeout=_CLAIMING_SECONDS):
                yield
        except Timeout:
            raise StudyFolderError(
                f"{self._folder / '.claiming'} has been locked for {_CLAIMING_SECONDS:.0f} s by another run of this "
                "study that does not go on: end that run, then run the same command again"
            ) from None


def read_leases(folder: Path) -> list[Lease]:
    """All leases of a study folder, of live runs and of dead ones. One that is just being removed is left out."""
    leases = []
    for path in sorted((folder / "leases").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            lease = Lease(**{**content, "keys": frozenset(content["keys"])})
            if lease.run == path.stem:  # which is a path of ours from here on
                leases.append(lease)
    return leases


def live_leases(folder: Path) -> list[Lease]:
    """The leases of the runs that seem to live, for whoever only looks: a single look, so another machine's is believed
    as long as its file is young."""
    return [lease for lease in read_leases(folder) if _seems_alive(folder / "leases", lease)]


def _seems_alive(leases: Path, lease: Lease) -> bool:
    lock = leases / f"{lease.run}.lock"
    if lease.machine == _machine() and os.access(lock, os.W_OK):
        return not _can_lock(lock)
    with suppress(OSError):
        return time.time() - (leases / f"{lease.run}.json").stat().st_mtime < STALE_SECONDS
    return False


def _can_lock(path: Path) -> bool:
    """Whether nobody holds a lock."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _machine() -> str:
    """This machine since it was started: on another one, and after a restart, other locks hold."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else ''}"
