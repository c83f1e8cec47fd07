"""Packs in worker processes on this machine."""

import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from loky import ProcessPoolExecutor

from loralaw.study.executor import Outcome
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob, PackTrainer, Workload

_trainer: PackTrainer | None = None
"""Of a worker process."""


class LocalExecutor:
    """Worker processes, each with packs of its own, one after the other.

    A worker that dies is replaced, and so is one whose pack failed: what an error left behind (memory, a broken GPU
    context) ends with it. Workers end when this process does, however it ends.

    Args:
        workload: what all packs have in common.
        n_workers: packs at a time. With GPUs, worker i has GPU i modulo their number for itself.
        n_threads: of one worker's products.
    """

    def __init__(self, workload: Workload, n_workers: int, n_threads: int) -> None:
        n_gpus = torch.cuda.device_count()
        gpus = [i % n_gpus if n_gpus else None for i in range(n_workers)]
        self._free = [_Worker(workload, n_threads, gpu) for gpu in gpus]
        self._busy: dict[Future[Failure | None], tuple[_Worker, PackJob]] = {}

    @property
    def n_free(self) -> int:
        return len(self._free)

    def submit(self, job: PackJob) -> None:
        worker = self._free.pop(0)
        self._busy[worker.submit(job)] = worker, job

    def wait(self, seconds: float) -> list[Outcome]:
        done, _ = wait(self._busy, seconds, FIRST_COMPLETED)
        outcomes = []
        for future in done:
            worker, job = self._busy.pop(future)
            failure = worker.failure_of(future)
            if failure is not None:
                worker.replace()
            self._free.append(worker)
            outcomes.append(Outcome(job, failure))
        return outcomes

    def close(self) -> None:
        for worker, _ in self._busy.values():
            worker.end(now=True)
        for worker in self._free:
            worker.end(now=False)


class _Worker:
    """One process, and another one in its place when it dies."""

    def __init__(self, workload: Workload, n_threads: int, gpu: int | None) -> None:
        self._workload, self._n_threads = workload, n_threads
        self._env = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": _nth_visible(gpu)}
        self._start()

    def submit(self, job: PackJob) -> Future[Failure | None]:
        self._n_out_of_memory = _n_killed_for_memory()
        future: Future[Failure | None] = self._pool.submit(_train, job)
        return future

    def failure_of(self, future: Future[Failure | None]) -> Failure | None:
        try:
            return future.result()
        except BrokenProcessPool as error:
            out_of_memory = _n_killed_for_memory() > self._n_out_of_memory
            why = "the system ended it for want of memory" if out_of_memory else str(error).splitlines()[-1]
            return Failure.of_death(f"the worker process died: {why}", out_of_memory=out_of_memory)

    def replace(self) -> None:
        self.end(now=True)
        self._start()

    def end(self, *, now: bool) -> None:
        """At once, or in good order where it has nothing to do."""
        self._pool.shutdown(wait=True, kill_workers=now)

    def _start(self) -> None:
        # One process a pool: loky calls a whole pool broken when one of its processes dies.
        self._pool = ProcessPoolExecutor(
            1,
            timeout=None,
            initializer=_begin_worker,
            initargs=(os.getpid(), self._workload, self._n_threads),
            env=self._env,
        )


def _begin_worker(parent: int, workload: Workload, n_threads: int) -> None:
    global _trainer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(n_threads)
    _trainer = PackTrainer(workload)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would train on beside those of the next run."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _train(job: PackJob) -> Failure | None:
    assert _trainer is not None
    return _trainer.train(job)


def _nth_visible(gpu: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[gpu] if visible else str(gpu)


def _n_killed_for_memory() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not say."""
    counters = Path("/proc/vmstat")
    if not counters.exists():
        return 0
    lines = (line.split() for line in counters.read_text().splitlines())
    return next((int(count) for name, count in lines if name == "oom_kill"), 0)
