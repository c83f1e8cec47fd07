"""Giving packs to an executor until every cell of the plan has ended, here or in another run of the study."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from typing import Any

from loralaw.errors import StorageError, StudyFolderError
from loralaw.report import PackState, RunState
from loralaw.spec import Cell
from loralaw.store import RunLease, Study
from loralaw.study.cell_titles import pack_title, title_of
from loralaw.study.executor import Executor, Outcome
from loralaw.study.failure import Failure
from loralaw.study.law_so_far import law_so_far
from loralaw.study.pack_job import PackJob
from loralaw.study.progress import RunProgress
from loralaw.study.retry import next_jobs
from loralaw.study.tally import Tally
from loralaw.study.time_left import TimeLeft
from loralaw.study.trackers import Trackers
from loralaw.training import cell_record, n_steps_of

POLL_SECONDS = 1.0
_LEARN_SECONDS = 15.0


class Driver:
    """One run of a study: claims cells, so that no two runs train the same one, gives them to the executor, and tells
    progress. Records are written by whoever trains.

    Args:
        study: where the records are.
        jobs: the packs of all cells without a result.
        time_left: is told which cells have ended, and says how long the others will take.
        lease: says to other runs which cells are ours.
        progress: is told.
        trackers: are told of every cell that ends.
    """

    def __init__(
        self,
        study: Study,
        jobs: Sequence[PackJob],
        time_left: TimeLeft,
        lease: RunLease,
        progress: RunProgress,
        trackers: Trackers,
    ) -> None:
        self._study, self._lease, self._progress, self._trackers = study, lease, progress, trackers
        self._waiting, self._running, self._begun = deque(jobs), list[PackJob](), set[str]()
        self._elsewhere: list[PackJob] = []
        self._tally = Tally(study, (cell for job in jobs for cell in job.cells), self._tell)
        self._time_left = time_left
        self._learn()

    def train(self, executor: Executor) -> None:
        """Train until no cell is left.

        Raises:
            StorageError: the disk refused; finished cells are safe.
            StudyFolderError: another run took this one for dead.
        """
        self._progress.begin(self._state())
        self._trackers.begin(self._study.name, self._study.path, self._progress.say)
        while self._waiting or self._running or self._elsewhere:
            self._lease.check_held()
            self._begin_packs(executor)
            for outcome in executor.wait(POLL_SECONDS):
                self._settle(outcome)
            self._take_over()
            self.look()

    def look(self) -> None:
        """Note which cells have ended, and tell how far the run is."""
        for job in self._running:
            self._tally.left(job.cells)
        if time.monotonic() - self._learned_at > _LEARN_SECONDS:
            self._learn()
        state = self._state()
        packs = [astuple(pack) for pack in state.packs]
        self._lease.say({"packs": packs, "seconds_left": state.seconds_left, "law": state.law})
        self._progress.update(state)

    def _begin_packs(self, executor: Executor) -> None:
        while self._waiting and executor.n_free:
            job = self._claimed(self._waiting.popleft())
            if job.cells:
                self._begun |= {cell.key for cell in job.cells}
                executor.submit(job)
                self._running.append(job)
                self._progress.pack_began(self._pack_state(job))

    def _claimed(self, job: PackJob) -> PackJob:
        """The part of a pack that is ours to train; what another run has claimed is watched."""
        mine = set(self._lease.claim([cell.key for cell in job.cells]))
        theirs = tuple(cell for cell in job.cells if cell.key not in mine)
        if theirs:
            self._elsewhere.append(replace(job, cells=theirs))
        # Only now: another run may have ended a cell since the plan was made, and has then given it up.
        left = self._tally.left(cell for cell in job.cells if cell.key in mine)
        self._lease.release(mine - {cell.key for cell in left})
        return replace(job, cells=tuple(left))

    def _settle(self, outcome: Outcome) -> None:
        job, failure = outcome.job, outcome.failure
        self._running.remove(job)
        left = self._tally.left(job.cells)
        again = [] if failure is None else self._after(failure, job, left)
        self._waiting.extendleft(reversed(again))
        self._lease.release({cell.key for cell in job.cells} - {cell.key for retry in again for cell in retry.cells})

    def _after(self, failure: Failure, job: PackJob, left: list[Cell]) -> list[PackJob]:
        """What to try again; where there is nothing, the failure becomes the record of the cells that are left."""
        if failure.kind == "storage":
            raise StorageError(failure.reason)
        again = next_jobs(job, failure, left)
        if again and failure.kind != "error":
            self._progress.say(f"{pack_title(left)}: {failure.reason}; trying again")
        if not again:
            for cell in left:
                self._fail(cell, failure)
            self._tally.left(left)
        return again

    def _fail(self, cell: Cell, failure: Failure) -> None:
        """The failure of a cell is a record too; the next run tries it again."""
        folder = self._study.cell(cell.key)
        folder.begin(cell)
        folder.finish(cell_record(cell, failure.status, pack=[cell.key], reason=failure.reason), failure.traceback)

    def _take_over(self) -> None:
        """Of the cells that another run had claimed, those that it gave up: it has died, or was interrupted."""
        if not self._elsewhere:
            return
        taken = {key for lease in self._lease.others() for key in lease.keys}
        watched, self._elsewhere = self._elsewhere, []
        for job in watched:
            left = self._tally.left(job.cells)
            for cells, queue in (
                ([cell for cell in left if cell.key not in taken], self._waiting),
                ([cell for cell in left if cell.key in taken], self._elsewhere),
            ):
                if cells:
                    queue.append(replace(job, cells=tuple(cells)))

    # --- progress ---

    def _tell(self, cell: Cell, record: dict[str, Any]) -> None:
        """A cell has ended."""
        self._time_left.note_ended(cell.key)
        self._progress.cell_ended(title_of(cell), record["status"], record["reason"])
        if cell.key in self._begun:  # another run of the study tells its own
            self._trackers.cell_ended(record, self._study.cell(cell.key).events())

    def _learn(self) -> None:
        """What the cells that have ended say of the law, and of the time that the others need."""
        self._study.keep_index()  # or every look would open all records again that have come since the run began
        table, self._learned_at = self._study.table(), time.monotonic()
        self._time_left.learn(table)
        self._law: str | None = law_so_far(table)

    def _state(self) -> RunState:
        packs = [self._pack_state(job) for job in self._running]
        under_way = [(job.cells, pack.share_done) for job, pack in zip(self._running, packs, strict=True)]
        return RunState(
            name=self._study.name,
            n_cells=len(self._study.planned_keys),
            n_by_status=self._tally.n_by_status,
            packs=tuple(packs),
            n_elsewhere=sum(len(job.cells) for job in self._elsewhere),
            seconds_left=self._time_left.seconds(under_way),
            law=self._law,
        )

    def _pack_state(self, job: PackJob) -> PackState:
        """How far a pack is, from the log of the cell that trains longest."""
        longest, step = max(job.cells, key=n_steps_of), 0
        with suppress(StudyFolderError):  # the log of an attempt that was damaged; whoever trains removes it first
            events = self._study.cell(longest.key).events()
            step = int(events[-1]["step"]) if events else 0
        return PackState(pack_title(job.cells), len(job.cells), step / n_steps_of(longest))
