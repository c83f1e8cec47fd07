"""What a worker is given, wherever it runs: a study's common part once, and then pack after pack."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from loralaw.models import BaseModel, ModelSource, load_base_model
from loralaw.spec import Cell
from loralaw.store import CellFolder
from loralaw.study.device_processes import train_on_devices
from loralaw.study.failure import Failure
from loralaw.tasks import TaskData
from loralaw.training import PackEvents, TaskRows, baseline, encode_task, machine, n_devices_of, train_cells
from loralaw.training.device_group import rank


@dataclass(frozen=True)
class Workload:
    """What all packs of a study have in common; it can be sent to another process or machine."""

    cells_folder: Path
    """Where the folders of the cells are, by key."""
    sources: dict[str, ModelSource]
    """The base models by the names that cells use."""
    data: dict[str, TaskData]
    """The tasks by the hashes that cells know them by."""
    n_train_max: int
    """The largest training set of the study, of which smaller ones are parts."""
    lease_path: Path
    """Of the run: a file that is there as long as its cells are its own."""


@dataclass(frozen=True)
class PackJob:
    """Cells of one base model to train together, and how it went before."""

    cells: tuple[Cell, ...]
    n_micro_batches: int = 1
    """Parts of a step's batch that go through the model one after the other; more than 1 only for a cell alone."""
    n_deaths: int = 0
    """Workers that died of it."""
    n_bytes: int = 0
    """Estimated peak memory, the base's weights included."""


class PackTrainer:
    """Trains the packs of one study in this process; base and token rows stay between packs of one base and task."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._base: BaseModel | None = None
        self._task: TaskRows | None = None
        self._data_hash = ""
        self._baseline: dict[str, Any] = {}

    def train(self, job: PackJob, on_step: Callable[[], None] = lambda: None) -> Failure | None:
        """Train the cells, and write each one's record as soon as it is there.

        Returns:
            What ended the pack before its end, as text that can be sent; None if every cell has its record.
        """
        try:
            for record in self.records(job, on_step):
                self._folder(record["key"]).finish(record)
        except Exception as error:
            return Failure.of(error)
        return None

    def records(self, job: PackJob, on_step: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """The records, each given out when everything else of its cell is written."""
        for cell in job.cells:
            self._folder(cell.key).begin(cell)
        if (n_devices := n_devices_of(job.cells[0])) == 1:
            yield from self._train(job, on_step)
            return
        self._base = self._task = None  # each of the processes loads its part of the base
        for cell in job.cells:
            part = partial(_train_part, self._workload, replace(job, cells=(cell,)))
            yield train_on_devices(part, n_devices, on_step)

    def part(self, job: PackJob) -> dict[str, Any]:
        """The record of the job's only cell, which this process trains together with others; the first one logs."""
        (record,) = self._train(job, lambda: None)
        return record

    def _train(self, job: PackJob, on_step: Callable[[], None]) -> Iterator[dict[str, Any]]:
        base, task = self._load(job.cells[0])
        events = PackEvents(step=lambda _: on_step(), log=self._log)
        records = train_cells(base, task, job.cells, lambda key: self._folder(key).path, events, job.n_micro_batches)
        yield from ({**record, "baseline": self._baseline} for record in records)

    def _log(self, key: str, line: dict[str, Any]) -> None:
        if rank() == 0:
            self._folder(key).log(line)

    def _folder(self, key: str) -> CellFolder:
        return CellFolder(self._workload.cells_folder / key)

    def _load(self, cell: Cell) -> tuple[BaseModel, TaskRows]:
        source = self._workload.sources[cell.base_model]
        if self._base is None or self._base.source != source or self._base.n_labels != cell.n_labels:
            self._base = self._task = None  # first, so that two bases never lie in memory together
            self._base = load_base_model(source, machine.device(), n_devices_of(cell), n_labels=cell.n_labels)
        if self._task is None or self._data_hash != cell.data_hash:
            data = self._workload.data[cell.data_hash]
            task = encode_task(data, self._base, cell, self._workload.n_train_max)
            self._baseline = baseline(self._base, task, cell)
            self._task, self._data_hash = task, cell.data_hash  # last: what failed before is tried again
        return self._base, self._task


def _train_part(workload: Workload, job: PackJob) -> dict[str, Any]:
    return PackTrainer(workload).part(job)
