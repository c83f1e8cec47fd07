"""Packs one after the other in this process."""

import time
from collections.abc import Callable

from loralaw.study.executor import Outcome
from loralaw.study.pack_job import PackJob, PackTrainer, Workload


class InlineExecutor:
    """For debuggers and notebooks: what fails, fails here. A process that is killed takes the whole run with it.

    Args:
        workload: what all packs have in common.
        on_tick: called about once a second while a pack trains, in place of the waiting that there is elsewhere.
    """

    def __init__(self, workload: Workload, on_tick: Callable[[], None]) -> None:
        self._trainer, self._on_tick = PackTrainer(workload), on_tick
        self._job: PackJob | None = None
        self._last_tick = time.monotonic()

    @property
    def n_free(self) -> int:
        return 1 if self._job is None else 0

    def submit(self, job: PackJob) -> None:
        self._job = job

    def wait(self, seconds: float) -> list[Outcome]:
        if self._job is None:
            time.sleep(seconds)
            return []
        failure = self._trainer.train(self._job, self._tick)
        outcome, self._job = Outcome(self._job, failure), None
        return [outcome]

    def close(self) -> None:
        """Nothing runs between calls of `wait`."""

    def _tick(self) -> None:
        if time.monotonic() - self._last_tick > 1.0:
            self._on_tick()
            self._last_tick = time.monotonic()
