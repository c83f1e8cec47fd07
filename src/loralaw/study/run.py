"""Running a study: plan it, train what is missing, and never lose what is finished."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from loralaw._version import __version__
from loralaw.errors import ModelError, StorageError, StudyFolderError
from loralaw.models import BaseModel, load_base_model
from loralaw.spec import Cell, StudySpec
from loralaw.store import Study, open_study, study_lock, write_study, write_text
from loralaw.study.check import CheckedStudy, check, check_file
from loralaw.study.failure import Failure
from loralaw.study.plan import plan_cells, plan_packs
from loralaw.study.progress import RunProgress
from loralaw.study.work import step_work, title_of, with_dtype
from loralaw.training import EncodedTask, PackEvents, cell_record, machine, n_steps_of, train_cells


def run(study: StudySpec | str | Path, out: str | Path | None = None, progress: RunProgress | None = None) -> Study:
    """Train every cell of a study that has no result yet.

    Can be interrupted or killed at any moment: finished cells are on disk, and the next call trains only the others.

    Args:
        study: a study file, or its settings.
        out: the study folder, `studies/<name>` if not given.
        progress: whom to tell; nobody if not given.

    Returns:
        The study, with all its cells ended. Cells that failed have a record that says why, and are tried again by the
        next run; cells whose loss diverged are results.

    Raises:
        SpecError: the study has problems; all of them at once.
        StudyFolderError: the folder is another study's, another version's, or in use.
        StorageError: the disk refused; finished cells are safe.
    """
    checked = check(study) if isinstance(study, StudySpec) else check_file(study)
    source = "STUDY.yaml" if isinstance(study, StudySpec) else str(study)
    folder = Path(out) if out is not None else Path("studies") / checked.spec.name
    checked = replace(checked, spec=with_dtype(checked.spec, _stored_dtype(folder)))
    with study_lock(folder):
        cells = {cell.key: cell for cell in plan_cells(checked)}
        opened = write_study(folder, checked.spec.settings(), list(cells), _provenance(checked, source, folder))
        pending = [cells[key] for key in opened.pending_keys()]
        if pending:
            _Run(opened, checked, progress or RunProgress()).train(pending, len(cells))
        return opened


def _stored_dtype(folder: Path) -> str | None:
    """What the folder's cells were trained in, if it has any."""
    return open_study(folder).settings["training"]["dtype"] if (folder / "study.json").exists() else None


def _provenance(checked: CheckedStudy, source: str, folder: Path) -> dict[str, Any]:
    return {
        "command": shlex.join(["loralaw", "run", source, "--out", str(folder)]),
        "loralaw": __version__,
        "python": sys.version.split()[0],
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hash": checked.data.hash,
        "base_model_hashes": {name: model.source.hash for name, model in checked.models.items()},
        "n_examples": {s: len(getattr(checked.data, s)) for s in ("train", "validation", "test", "choices")},
    }


class _Run:
    """The training of the pending cells of one study, in this process."""

    def __init__(self, study: Study, checked: CheckedStudy, progress: RunProgress) -> None:
        self._study, self._checked, self._progress = study, checked, progress

    def train(self, pending: Sequence[Cell], n_cells: int) -> None:
        packs = plan_packs(pending, self._checked)
        self._progress.begin(self._study.name, n_cells, n_cells - len(pending), self._work(pending))
        try:
            for _, packs_of_base in groupby(packs, key=lambda pack: pack[0].base_model):
                self._train_base(list(packs_of_base))
        finally:
            self._progress.close()

    def _train_base(self, packs: list[list[Cell]]) -> None:
        """All packs of one base model; a base that cannot be trained costs its own cells only."""
        try:
            base, task = self._load(packs[0][0])
            for pack in packs:
                self._train_or_split(pack, base, task)
        except ModelError as error:
            for cell in (cell for pack in packs for cell in pack):
                if self._study.record(cell.key) is None:
                    self._fail(cell, Failure.of(error))

    def _load(self, cell: Cell) -> tuple[BaseModel, EncodedTask]:
        base = load_base_model(self._checked.models[cell.base_model].source, machine.device())
        return base, EncodedTask(self._checked.data, base, cell, max(self._checked.spec.sizes))

    def _work(self, cells: Sequence[Cell]) -> float:
        return sum(step_work(cell, self._checked) * n_steps_of(cell) for cell in cells)

    def _train_or_split(self, pack: list[Cell], base: BaseModel, task: EncodedTask) -> None:
        """A pack that fails is tried again in halves, so that a failure costs only the cells that cause it."""
        try:
            self._train_pack(pack, base, task)
            return
        except (StorageError, StudyFolderError, ModelError):
            raise  # not the fault of a cell
        except Exception as error:
            failure = Failure.of(error)
        # Out of the except block: the error no longer holds the tensors of the pack that failed.
        if len(pack) == 1:
            self._fail(pack[0], failure)
            return
        left = [cell for cell in pack if self._study.record(cell.key) is None]
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            if half:
                self._train_or_split(half, base, task)

    def _train_pack(self, pack: list[Cell], base: BaseModel, task: EncodedTask) -> None:
        study, progress, step = self._study, self._progress, step_work(pack[0], self._checked)
        for cell in pack:
            study.begin_cell(cell)
        title = pack[0].base_model if len(pack) > 1 else title_of(pack[0])
        progress.begin_pack(title, len(pack), self._work(pack))
        events = PackEvents(step=lambda n_cells: progress.advance(n_cells * step), log=study.log)
        titles = {cell.key: title_of(cell) for cell in pack}
        for record in train_cells(base, task, pack, study.cell_folder, events):
            study.finish_cell(record)
            progress.cell_ended(titles[record["key"]], record["status"], record["reason"])

    def _fail(self, cell: Cell, failure: Failure) -> None:
        """The failure of a cell is a record too; the next run tries it again."""
        self._study.begin_cell(cell)
        write_text(self._study.cell_folder(cell.key) / "error.txt", failure.traceback)
        self._study.finish_cell(cell_record(cell, failure.status, pack=[cell.key], reason=failure.reason))
        self._progress.cell_ended(title_of(cell), failure.status, failure.reason)
