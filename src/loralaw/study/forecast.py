"""What a study will take, said before anything runs: cells, packs, memory, time, disk, tokens and operations."""

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loralaw.errors import InputError
from loralaw.laws import fit_costs
from loralaw.spec import Cell, StudySpec
from loralaw.store import COLUMNS, RESULTS
from loralaw.study.cell_needs import CellNeeds, Needs
from loralaw.study.cell_times import CellTimes, of_this_machine
from loralaw.study.check import check, check_file
from loralaw.study.executors import ExecutorChoice
from loralaw.study.plan import plan_cells, plan_jobs
from loralaw.study.study_folder import folder_of, in_dtype_of, stored_study
from loralaw.study.too_long import too_long
from loralaw.training import machine


@dataclass(frozen=True)
class GroupForecast:
    """The cells of one base model that train in one way and have no result yet."""

    base_model: str
    path: str
    """packed: together; trainer: one after the other."""
    n_cells: int
    n_packs: int
    n_cells_largest: int
    """Cells of the largest pack."""
    memory_bytes: int
    """Estimate of the process that trains the pack that needs most."""
    seconds: float
    """Of training and measuring, one pack after the other, each as fast as beside the other workers'."""
    relative_error: float | None
    """Typical, of `seconds`; None where it is not known."""
    basis: str
    """What the time rests on, in words."""
    n_tokens: int
    """That go through the model in training, padding included."""
    flops: float
    """Of training and measuring."""
    disk_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What is left of a study, and what there is for it."""

    name: str
    folder: Path
    dtype: str
    n_cells: int
    """Of the whole study."""
    n_ended: int
    """Of them have a result."""
    groups: list[GroupForecast]
    n_workers: int
    """Packs at a time."""
    memory_free_bytes: int
    disk_free_bytes: int
    too_long: list[str]
    """Sentences on texts that are cut."""

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups) / self.n_workers

    @property
    def memory_bytes(self) -> int:
        """Of as many packs as train at a time, each as large as the one that needs most."""
        return self.n_workers * max((group.memory_bytes for group in self.groups), default=0)

    @property
    def disk_bytes(self) -> int:
        return sum(group.disk_bytes for group in self.groups)


def forecast(
    study: StudySpec | str | Path,
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    flops_per_second: float | None = None,
) -> Forecast:
    """Say what a study will take; nothing is trained, loaded or written.

    Cells that have a result in the study folder are not counted again, and tell how long the others will take. Where
    none has, the time is rough: from the operations and a short measurement of this machine's matrix products.

    Args:
        study: a study file, or its settings.
        out: the study folder, `studies/<name>` if not given.
        jobs: packs at a time; what suits the machine if not given.
        flops_per_second: that a worker reaches, to plan for another machine; measured on this one if not given.

    Raises:
        SpecError: the study has problems; all of them at once.
        StudyFolderError: the folder is damaged or another version's.
        InputError: `jobs` is below 1, the speed is not above 0, or `out` is a file.

    Cost: planning, and a look at every record that is there; below 1 ms a cell.
    """
    if flops_per_second is not None and not 0 < flops_per_second < math.inf:
        raise InputError(f"the speed is {flops_per_second} FLOP/s: give what a worker reaches, such as 2e14")
    choice = ExecutorChoice("local", jobs)
    checked = check(study, dry=True) if isinstance(study, StudySpec) else check_file(study, dry=True)
    folder = folder_of(checked, out)
    done = stored_study(folder)
    checked = in_dtype_of(done, checked)
    cells = {cell.key: cell for cell in plan_cells(checked)}
    ended = {} if done is None else {k: s for k, s in done.statuses().items() if s in RESULTS}
    costs = fit_costs(pl.DataFrame(schema=COLUMNS) if done is None else of_this_machine(done.table()))
    left, needs = [cell for key, cell in cells.items() if key not in ended], Needs(checked)
    plan = plan_jobs(left, checked, needs, choice.n_workers)
    return Forecast(
        name=checked.spec.name,
        folder=folder,
        dtype=checked.spec.training.dtype,
        n_cells=len(cells),
        n_ended=len(cells.keys() & ended.keys()),
        groups=groups_of(
            [job.cells for job in plan.jobs], needs, CellTimes(checked, costs, plan.n_threads, flops_per_second)
        ),
        n_workers=max(1, min(plan.n_workers, len(plan.jobs))),
        memory_free_bytes=machine.available_bytes(),
        disk_free_bytes=shutil.disk_usage(_existing(folder)).free,
        too_long=too_long(checked),
    )


def groups_of(packs: Sequence[Sequence[Cell]], needs: Needs, times: CellTimes) -> list[GroupForecast]:
    """By base model and path, in the order of the packs."""
    by_group: dict[tuple[str, str], list[Counter[CellNeeds]]] = defaultdict(list)
    for pack in packs:
        counts = Counter(needs.of(cell) for cell in pack)
        by_group[pack[0].base_model, next(iter(counts)).path].append(counts)
    return [_group(name, path, group, needs, times) for (name, path), group in by_group.items()]


def _group(
    base_model: str, path: str, packs: Sequence[Counter[CellNeeds]], needs: Needs, times: CellTimes
) -> GroupForecast:
    """Packs are counts of equal cells, so that the work is for each kind and not for each cell."""
    seconds, cells = 0.0, Counter[CellNeeds]()
    for pack in packs:
        cells.update(pack)
        for each, count in pack.items():
            time = times.of(base_model, each, pack.total())
            seconds += count * time.seconds
    return GroupForecast(
        base_model=base_model,
        path=path,
        n_cells=cells.total(),
        n_packs=len(packs),
        n_cells_largest=max(pack.total() for pack in packs),
        memory_bytes=needs.process_bytes(base_model) + max(_total(pack, "memory_bytes") for pack in packs),
        seconds=seconds,
        relative_error=time.relative_error,
        basis=time.basis,
        n_tokens=_total(cells, "n_tokens"),
        flops=_total(cells, "train_flops") + _total(cells, "evaluate_flops"),
        disk_bytes=_total(cells, "disk_bytes"),
    )


def _total(cells: Counter[CellNeeds], what: str) -> int:
    return int(sum(count * getattr(each, what) for each, count in cells.items()))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
