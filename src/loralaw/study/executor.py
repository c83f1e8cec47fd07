"""Where packs are trained: what every executor promises. The same tests run over all of them."""

from dataclasses import dataclass
from typing import Protocol

from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob


@dataclass(frozen=True)
class Outcome:
    """A pack that is over: every cell has its record, or what was in the way."""

    job: PackJob
    failure: Failure | None


class Executor(Protocol):
    """Trains packs somewhere. Records are in the study folder before the outcome is told.

    A worker that dies costs its own pack only, and is told as a failure of the kind "killed" or "out-of-memory".
    """

    @property
    def n_free(self) -> int:
        """How many more packs could begin now."""

    def submit(self, job: PackJob) -> None:
        """Begin a pack."""

    def wait(self, seconds: float) -> list[Outcome]:
        """The packs that are over since the last call; waits for the first, at most so long."""

    def close(self) -> None:
        """End everything at once. What has a record stays."""
