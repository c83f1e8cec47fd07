"""Packs on a Ray cluster."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from loralaw._version import __version__
from loralaw.errors import ClusterError
from loralaw.models import EMBEDDED, ENCODER
from loralaw.models.source import first_line
from loralaw.store import CellFolder
from loralaw.study.executor import Outcome
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob, Workload
from loralaw.study.plan import Plan
from loralaw.study.ray_cluster import RayCluster
from loralaw.study.ray_worker import train_on_node

_MAX_MESSAGES = 32
"""On their way to this process. Who has more to say waits: what a node sends is at most 4 MB a message."""
_CANCEL_SECONDS = 10.0


@dataclass
class _Attempt:
    """A pack that was given to Ray."""

    job: PackJob
    number: int
    place: str | None = None
    """The machine, once it has begun."""


class RayExecutor:
    """Ray tasks, one a pack, with the memory and the share of a GPU that it is estimated to need.

    Ray itself tries nothing again: what follows a death is this package's to decide. A node that sees the study folder
    writes into it. From another one, logs, adapters and records come through a queue on the head node, and are written
    here, each cell as soon as it has ended: what has arrived is safe from the node's death.

    Args:
        workload: what all packs have in common.
        plan: of the cluster.
        cluster: connected.
    """

    def __init__(self, workload: Workload, plan: Plan, cluster: RayCluster) -> None:
        import ray
        from ray.util.queue import Queue

        self._ray, self._cluster, self._n_threads, self._n_devices = ray, cluster, plan.n_threads, plan.n_devices
        self._largest_bytes = max(job.n_bytes for job in plan.jobs)
        self._cells_folder = workload.cells_folder
        self._workload = ray.put(_to_send(workload))
        self._mail = Queue(_MAX_MESSAGES, actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
        self._task = ray.remote(max_retries=0)(train_on_node)
        self._numbers = count()
        self._running: dict[Any, _Attempt] = {}

    @property
    def n_free(self) -> int:
        """What the cluster has room for, and one more, so that Ray has something to begin with at once."""
        n_to_begin = sum(attempt.place is None for attempt in self._running.values())
        n_idle = self._cluster.n_idle(self._largest_bytes, self._n_threads, self._n_devices)
        return max(0, n_idle + 1 - n_to_begin)

    def submit(self, job: PackJob) -> None:
        attempt = _Attempt(job, next(self._numbers))
        options = self._cluster.resources_of(job.n_bytes, self._n_threads, self._n_devices)
        arguments = (__version__, [self._workload], job, attempt.number, self._mail, self._n_threads)
        self._running[self._task.options(**options).remote(*arguments)] = attempt

    def wait(self, seconds: float) -> list[Outcome]:
        """As every executor.

        Raises:
            ClusterError: the cluster is gone, or a node cannot train.
            StorageError: the disk refused what came from a node.
        """
        if not self._running:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        self._read_mail()  # everything that a task had to say was in the queue before it ended
        outcomes = []
        for reference in done:
            attempt = self._running.pop(reference)
            outcomes.append(Outcome(attempt.job, self._failure_of(reference, attempt)))
        return outcomes

    def close(self) -> None:
        with suppress(self._ray.exceptions.RayError, ConnectionError):
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            if self._running:
                self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_CANCEL_SECONDS)
            self._mail.shutdown(force=True)

    def _failure_of(self, reference: Any, attempt: _Attempt) -> Failure | None:
        exceptions = self._ray.exceptions
        where = f"the worker process on {attempt.place or 'a node'} died"
        try:
            failure: Failure | None = self._ray.get(reference)
            return failure
        except exceptions.OutOfMemoryError:
            return Failure.of_death(f"{where}: Ray ended it for want of memory", out_of_memory=True)
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError) as error:
            return Failure.of_death(f"{where}: {first_line(error)}", out_of_memory=False)
        except exceptions.RayError as error:
            raise _cluster_error(error) from error

    def _read_mail(self) -> None:
        attempts = {attempt.number: attempt for attempt in self._running.values()}
        try:
            messages = self._mail.get_nowait_batch(self._mail.qsize())
        except self._ray.exceptions.RayError as error:
            raise _cluster_error(error) from error
        for number, kind, *content in messages:
            if number in attempts:  # a node that Ray gave up may still speak
                self._hear(attempts[number], kind, content)

    def _hear(self, attempt: _Attempt, kind: str, content: list[Any]) -> None:
        if kind == "began":
            host, pid, is_shared = content
            attempt.place = f"{host} (process {pid})"
            for cell in () if is_shared else attempt.job.cells:
                CellFolder(self._cells_folder / cell.key).begin(cell)
        elif kind == "part":
            key, name, offset, part = content
            CellFolder(self._cells_folder / key).write_part(name, offset, part)
        else:
            key, record = content
            CellFolder(self._cells_folder / key).finish(record)


def _to_send(workload: Workload) -> Workload:
    """With paths that mean the same in another process."""
    sources = {
        name: source
        if source.revision is not None or name in (*EMBEDDED, ENCODER)
        else replace(source, location=os.path.abspath(source.location))
        for name, source in workload.sources.items()
    }
    cells_folder, lease_path = workload.cells_folder.absolute(), workload.lease_path.absolute()
    return replace(workload, sources=sources, cells_folder=cells_folder, lease_path=lease_path)


def _cluster_error(error: Exception) -> ClusterError:
    cause = getattr(error, "cause", None) or error
    return ClusterError(
        f"Ray cannot go on: {first_line(cause)}. Every node needs loralaw {__version__} and what it depends on. What "
        "was finished is safe; run the same command again when the cluster is well"
    )
