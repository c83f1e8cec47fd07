"""Running a study: plan it, train what is missing, and never lose what is finished."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loralaw._version import __version__
from loralaw.spec import Cell, StudySpec
from loralaw.store import RunLease, Study, write_study
from loralaw.study.cell_needs import Needs
from loralaw.study.cell_titles import title_of
from loralaw.study.check import CheckedStudy, check, check_file
from loralaw.study.check_data import Text
from loralaw.study.driver import Driver
from loralaw.study.executors import ExecutorChoice
from loralaw.study.pack_job import Workload
from loralaw.study.plan import check_hardware, plan_cells, plan_jobs
from loralaw.study.progress import RunProgress
from loralaw.study.study_folder import folder_of, in_dtype_of, stored_study
from loralaw.study.time_left import TimeLeft
from loralaw.study.trackers import Trackers


def run(
    study: StudySpec | str | Path,
    out: str | Path | None = None,
    progress: RunProgress | None = None,
    *,
    executor: str = "local",
    jobs: int | None = None,
    ray_address: str | None = None,
) -> Study:
    """Train every cell of a study that has no result yet.

    Can be interrupted or killed at any moment: finished cells are on disk, and the next call trains only the others.
    Several runs of one study at a time share its cells.

    Args:
        study: a study file, or its settings.
        out: the study folder, `studies/<name>` if not given.
        progress: whom to tell; nobody if not given.
        executor: where packs are trained: `local` in worker processes, `inline` in this one, `ray` on a Ray cluster.
        jobs: packs at a time; what suits the machine or the cluster if not given.
        ray_address: of the cluster, as in `RayCluster`.

    Returns:
        The study, with all its cells ended. Cells that failed have a record that says why, and are tried again by the
        next run; cells whose loss diverged are results.

    Raises:
        SpecError: the study has problems; all of them at once.
        InputError: an executor that does not exist or does not answer, too little memory for a single cell, or `out` is
            a file.
        StudyFolderError: the folder is another study's or another version's.
        StorageError: the disk refused; finished cells are safe.
    """
    choice = ExecutorChoice(executor, jobs, ray_address)
    checked = check(study) if isinstance(study, StudySpec) else check_file(study)
    source = "STUDY.yaml" if isinstance(study, StudySpec) else str(study)
    folder = folder_of(checked, out)
    checked = in_dtype_of(stored_study(folder), checked)
    progress = progress or RunProgress()
    cells = {cell.key: cell for cell in plan_cells(checked)}
    with RunLease(folder) as lease:
        opened = write_study(folder, checked.spec.settings(), list(cells), _provenance(checked, source, folder))
        for key in cells.keys() & opened.mend():
            progress.say(f"{title_of(cells[key])}: its record was damaged; it is trained anew")
        if pending := [cells[key] for key in opened.pending_keys()]:
            _train(opened, checked, pending, lease, progress, choice)
        return opened


def _train(
    study: Study,
    checked: CheckedStudy,
    pending: Sequence[Cell],
    lease: RunLease,
    progress: RunProgress,
    choice: ExecutorChoice,
) -> None:
    needs, trackers = Needs(checked), Trackers(checked.spec.trackers)
    with choice.hardware() as hardware:
        check_hardware(pending, needs, hardware)
        plan = plan_jobs(pending, checked, needs, choice.n_workers, hardware)
        time_left = TimeLeft(checked, needs, (job.cells for job in plan.jobs), plan.n_workers, plan.n_threads)
        driver = Driver(study, plan.jobs, time_left, lease, progress, trackers)
        executor = choice.executor(_workload(study, checked, lease), plan, hardware, driver.look)
        try:
            driver.train(executor)
        finally:
            executor.close()
            progress.close()
            trackers.close()


def _workload(study: Study, checked: CheckedStudy, lease: RunLease) -> Workload:
    return Workload(
        cells_folder=study.path.absolute() / "cells",
        sources={name: model.source for name, model in checked.models.items()},
        data=checked.data_by_hash,
        n_train_max=max(checked.n_examples(size, text) for size in checked.spec.sizes for text in checked.data),
        lease_path=lease.path.absolute(),
    )


def _provenance(checked: CheckedStudy, source: str, folder: Path) -> dict[str, Any]:
    return {
        "command": shlex.join(["loralaw", "run", source, "--out", str(folder)]),
        "study_file": source,
        "loralaw": __version__,
        "python": sys.version.split()[0],
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": dict(_provenance_of(checked, text) for text in checked.data),
        "base_model_hashes": {name: model.source.hash for name, model in checked.models.items()},
    }


def _provenance_of(checked: CheckedStudy, text: Text) -> tuple[str, dict[str, int | str]]:
    (task, template), data = text, checked.data[text]
    title = task.label if template is None else f"{task.label}, template {template.name}"
    counts = {f"n_{split}": len(getattr(data, split)) for split in ("train", "validation", "test", "choices")}
    return title, {"hash": checked.hashes[text], **counts}
