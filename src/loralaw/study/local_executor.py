"""Packs in worker processes on this machine."""

import os
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool

import torch
from loky import ProcessPoolExecutor

from loralaw.study.executor import Outcome
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob, PackTrainer, Workload
from loralaw.study.worker_process import DeathWatch, begin_worker

_trainer: PackTrainer | None = None
"""Of a worker process, from its first pack on: what it has loaded stays for the next."""


class LocalExecutor:
    """Worker processes, each with packs of its own, one after the other.

    A worker that dies is replaced, and so is one whose pack failed: what an error left behind (memory, a broken GPU
    context) ends with it. Workers end when this process does, however it ends.

    Args:
        workload: what all packs have in common.
        n_workers: packs at a time. With GPUs, each worker has its own, as far as there are enough.
        n_threads: of one worker's products.
        n_devices: GPUs that a worker has.
    """

    def __init__(self, workload: Workload, n_workers: int, n_threads: int, n_devices: int = 1) -> None:
        n_gpus = torch.cuda.device_count()
        gpus = [[(i * n_devices + j) % n_gpus for j in range(n_devices if n_gpus else 0)] for i in range(n_workers)]
        self._free = [_Worker(workload, n_threads, of_worker) for of_worker in gpus]
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

    def __init__(self, workload: Workload, n_threads: int, gpus: list[int]) -> None:
        self._workload, self._n_threads = workload, n_threads
        self._env = {"CUDA_VISIBLE_DEVICES": ",".join(map(_nth_visible, gpus))} if gpus else {}
        self._start()

    def submit(self, job: PackJob) -> Future[Failure | None]:
        self._watch = DeathWatch()
        # With each pack, not once at the start: a process is started only when it has read what it is started with, so
        # that the second one would wait for the first one's imports.
        try:
            future: Future[Failure | None] = self._pool.submit(_train, self._workload, job)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.replace()
            future = self._pool.submit(_train, self._workload, job)
        return future

    def failure_of(self, future: Future[Failure | None]) -> Failure | None:
        try:
            return future.result()
        except BrokenProcessPool as error:
            return self._watch.failure(error)

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
            initializer=begin_worker,
            initargs=(os.getpid(), self._n_threads),
            env=self._env,
        )


def _train(workload: Workload, job: PackJob) -> Failure | None:
    global _trainer
    _trainer = _trainer or PackTrainer(workload)
    return _trainer.train(job)


def _nth_visible(gpu: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[gpu] if visible else str(gpu)
