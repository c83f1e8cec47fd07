"""A cell on several devices: a process for each of them, on this machine."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from loky import ProcessPoolExecutor

from loralaw.study.failure import Failure, PackFailed
from loralaw.study.worker_process import DeathWatch, begin_worker
from loralaw.training.device_group import join_group

_LOOK_SECONDS = 1.0

Part = Callable[[], dict[str, Any]]
"""Trains the cell as one process of the group, and gives its record."""


def train_on_devices(part: Part, n_devices: int, on_look: Callable[[], None]) -> dict[str, Any]:
    """Do a part of the training in a process for each device: GPU i for process i, or a share of this one's threads.

    Args:
        part: called in each process once it has joined the others; it must be possible to send it there.
        n_devices: at least 2, and no more than this process sees, if it sees any GPU.
        on_look: called about once a second meanwhile.

    Returns:
        What the first process gave.

    Raises:
        PackFailed: a process failed or died. The others are ended then: they would wait for it for ever.
    """
    watch, n_threads = DeathWatch(), max(1, torch.get_num_threads() // n_devices)
    with tempfile.TemporaryDirectory(prefix="loralaw-") as folder:
        pool = ProcessPoolExecutor(n_devices, timeout=None, initializer=begin_worker, initargs=(os.getpid(), n_threads))
        try:
            # Each process takes one: none of them gets further than the meeting place before all are there.
            futures = [
                pool.submit(_train, part, rank, n_devices, Path(folder) / "meeting") for rank in range(n_devices)
            ]
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
                for future in done:
                    _raise_failure(future, watch)
                on_look()
            record: dict[str, Any] = futures[0].result()
            return record
        finally:
            pool.shutdown(wait=True, kill_workers=True)


def _train(part: Part, rank: int, n_devices: int, meeting_place: Path) -> dict[str, Any] | Failure:
    try:
        join_group(rank, n_devices, meeting_place)
        return part()
    except Exception as error:
        return Failure.of(error)


def _raise_failure(future: Future[dict[str, Any] | Failure], watch: DeathWatch) -> None:
    try:
        result = future.result()
    except BrokenProcessPool as error:
        raise PackFailed(watch.failure(error)) from error
    if isinstance(result, Failure):
        raise PackFailed(result)
