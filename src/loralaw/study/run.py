"""Running a study: plan it, train what is missing, and never lose what is finished."""

import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from loralaw._version import __version__
from loralaw.errors import LoralawError, ModelError, StorageError, StudyFolderError
from loralaw.models import BaseModel, load_base_model
from loralaw.spec import Cell, StudySpec
from loralaw.store import Study, open_study, study_lock, write_study, write_text
from loralaw.study.check import CheckedStudy, check, check_file
from loralaw.study.plan import plan_cells, plan_packs
from loralaw.study.progress import RunProgress
from loralaw.training import EncodedTask, PackEvents, cell_record, machine, n_steps_of, train_pack


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
    checked = replace(checked, spec=_with_dtype(checked.spec, folder))
    with study_lock(folder):
        cells = {cell.key: cell for cell in plan_cells(checked)}
        opened = write_study(folder, checked.spec.settings(), list(cells), _provenance(checked, source, folder))
        pending = [cells[key] for key in opened.pending_keys()]
        if pending:
            _Run(opened, checked, progress or RunProgress()).train(pending, len(cells))
        return opened


def _with_dtype(spec: StudySpec, folder: Path) -> StudySpec:
    """`dtype: auto` made definite: what the folder's cells were trained in, or what suits this machine."""
    if spec.training.dtype != "auto":
        return spec
    stored = open_study(folder).settings["training"]["dtype"] if (folder / "study.json").exists() else None
    training = spec.training.model_copy(update={"dtype": stored or machine.native_dtype()})
    return spec.model_copy(update={"training": training})


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
                    self._fail(cell, _Failure.of(error))

    def _load(self, cell: Cell) -> tuple[BaseModel, EncodedTask]:
        base = load_base_model(self._checked.models[cell.base_model].source, machine.device())
        return base, EncodedTask(self._checked.data, base, cell, max(self._checked.spec.sizes))

    def _work(self, cells: Sequence[Cell]) -> float:
        return sum(self._step_work(cell) * n_steps_of(cell) for cell in cells)

    def _step_work(self, cell: Cell) -> float:
        n_params = self._checked.models[cell.base_model].n_params
        return float(n_params * cell.training["batch_size"] * cell.training["max_length"])

    def _train_or_split(self, pack: list[Cell], base: BaseModel, task: EncodedTask) -> None:
        """A pack that fails is tried again in halves, so that a failure costs only the cells that cause it."""
        try:
            self._train_pack(pack, base, task)
            return
        except (StorageError, StudyFolderError, ModelError):
            raise  # not the fault of a cell
        except Exception as error:
            failure = _Failure.of(error)
        # Out of the except block: the error no longer holds the tensors of the pack that failed.
        if len(pack) == 1:
            self._fail(pack[0], failure)
            return
        left = [cell for cell in pack if self._study.record(cell.key) is None]
        for half in (left[: len(left) // 2], left[len(left) // 2 :]):
            if half:
                self._train_or_split(half, base, task)

    def _train_pack(self, pack: list[Cell], base: BaseModel, task: EncodedTask) -> None:
        study, progress, step_work = self._study, self._progress, self._step_work(pack[0])
        for cell in pack:
            study.begin_cell(cell)
        progress.begin_pack(pack[0].base_model, len(pack), self._work(pack))
        events = PackEvents(step=lambda n_cells: progress.advance(n_cells * step_work), log=study.log)
        titles = {cell.key: _title(cell) for cell in pack}
        for record in train_pack(base, task, pack, study.adapter_folder, events):
            study.finish_cell(record)
            progress.cell_ended(titles[record["key"]], record["status"], record["reason"])

    def _fail(self, cell: Cell, failure: "_Failure") -> None:
        """The failure of a cell is a record too; the next run tries it again."""
        self._study.begin_cell(cell)
        write_text(self._study.cell_folder(cell.key) / "error.txt", failure.traceback)
        self._study.finish_cell(cell_record(cell, failure.status, pack=[cell.key], reason=failure.reason))
        self._progress.cell_ended(_title(cell), failure.status, failure.reason)


@dataclass(frozen=True)
class _Failure:
    """What is kept of an error: text only, so that nothing it refers to stays in memory."""

    status: str
    reason: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        reason = str(error) if isinstance(error, LoralawError) else f"{type(error).__name__}: {error}"
        text = "".join(traceback.format_exception(error))
        return cls("out-of-memory" if out_of_memory else "error", (reason.splitlines() or [""])[0][:300], text)


def _title(cell: Cell) -> str:
    """What a person calls a cell."""
    return (
        f"{cell.base_model}, {cell.method['name']}, rank {cell.rank}, {cell.n_train_examples:,} examples, "
        f"seed {cell.seed}"
    )
