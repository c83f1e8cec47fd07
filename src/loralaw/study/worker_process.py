"""What the processes that train have in common: how they begin, how they end, and what is said of one that died."""

import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from loralaw.study.failure import Failure


def begin_worker(parent: int, n_threads: int) -> None:
    """To be called first in the process: it leaves Ctrl-C to its parent, and ends with it.

    Args:
        parent: the process id.
        n_threads: of its products.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(n_threads)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would train on beside those of the next run."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


class DeathWatch:
    """Tells a death for want of memory from others; begins to look when it is made."""

    def __init__(self) -> None:
        self._n_out_of_memory = _n_killed_for_memory()

    def failure(self, error: BrokenProcessPool) -> Failure:
        """Of a process that has died since."""
        out_of_memory = _n_killed_for_memory() > self._n_out_of_memory
        lines = str(error).splitlines()
        how = next((line for line in lines if "exit code" in line), lines[0])  # loky's other lines fit any death
        why = "the system ended it for want of memory" if out_of_memory else how
        return Failure.of_death(f"the worker process died: {why}", out_of_memory=out_of_memory)


def _n_killed_for_memory() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not say."""
    counters = Path("/proc/vmstat")
    if not counters.exists():
        return 0
    lines = (line.split() for line in counters.read_text().splitlines())
    return next((int(count) for name, count in lines if name == "oom_kill"), 0)
