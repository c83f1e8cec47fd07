"""Training one model outside any study: the same checks, the same training, the same record, in a folder of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from loralaw.errors import InputError, Problem, SpecError, StorageError
from loralaw.models import load_base_model
from loralaw.report import PackState, RunState
from loralaw.store import ADAPTER, MODEL, RESULTS, CellFolder, folder_lock
from loralaw.store.atomic import check_place
from loralaw.study.cell_titles import title_of, with_dtype
from loralaw.study.check import CheckedStudy, check_settings
from loralaw.study.failure import Failure
from loralaw.study.one_model import OneModel
from loralaw.study.plan import plan_cells
from loralaw.study.progress import RunProgress
from loralaw.training import PackEvents, baseline, cell_record, encode_task, machine, n_steps_of, train_cells

_SOURCE = "the model to train"


def train_one(one: OneModel, out: str | Path | None = None, progress: RunProgress | None = None) -> dict[str, Any]:
    """Train one model, measure it, and keep both.

    Args:
        one: what to train.
        out: folder to write, `one.default_folder()` if not given. It gets `adapter/` (`model/` after full fine-tuning),
            `record.json`, `events.jsonl`, and `error.txt` where the training failed.
        progress: whom to tell; nobody if not given.

    Returns:
        The record, as a cell of a study leaves it. Its `status` is finished, diverged, error or out-of-memory; all but
        the first have a `reason`.

    Raises:
        SpecError: the settings have problems, by the names of the fields of `one`; all of them at once.
        ModelError: the weights of the base model cannot be used.
        StorageError: the disk refused.
    """
    folder = one.default_folder() if out is None else Path(out)
    checked = _checked(one, folder)
    with folder_lock(folder):
        return _Training(checked, folder, progress or RunProgress()).record()


def _checked(one: OneModel, folder: Path) -> CheckedStudy:
    problems = _in_the_way(folder)
    try:
        checked = check_settings(one.settings(), _SOURCE)
    except SpecError as error:
        problems = [*(one.renamed(problem) for problem in error.problems), *problems]
        raise SpecError(_SOURCE, list(dict.fromkeys(problems))) from None
    if problems:
        raise SpecError(_SOURCE, problems)
    return replace(checked, spec=with_dtype(checked.spec))


def _in_the_way(folder: Path) -> list[Problem]:
    """Why the folder cannot be written: nothing that was finished before, or is of other origin, is ever replaced."""
    there = [name for name in ("record.json", ADAPTER, MODEL) if (folder / name).exists()]
    if there and not _is_unfinished(folder):
        return [Problem("out", f"{folder} exists and holds {there[0]} of an earlier training: give another folder")]
    try:
        check_place(folder / "record.json")
    except InputError as error:
        return [Problem("out", str(error))]
    return []


def _is_unfinished(folder: Path) -> bool:
    """Whether an earlier attempt of ours ended here without a result: killed, out of memory, on a full disk."""
    if not (folder / "cell.json").exists():
        return False
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (ValueError, OSError):
        return False
    return isinstance(record, dict) and record.get("status") not in RESULTS


class _Training:
    """The training of the only cell of a checked study."""

    def __init__(self, checked: CheckedStudy, folder: Path, progress: RunProgress) -> None:
        (self._cell,) = plan_cells(checked)
        self._checked, self._folder, self._progress = checked, CellFolder(folder), progress
        self._title, self._n_steps_done = title_of(self._cell), 0

    def record(self) -> dict[str, Any]:
        """Train, measure, and write the record, whatever came of it."""
        cell, folder, progress = self._cell, self._folder, self._progress
        source = self._checked.models[cell.base_model].source
        base = load_base_model(source, machine.device(), n_labels=cell.n_labels)
        task = encode_task(self._checked.data_of(cell), base, cell, cell.n_train_examples)
        folder.begin(cell)
        traceback = None
        progress.begin(self._state())
        try:
            events = PackEvents(step=self._note_step, log=lambda _, line: folder.log(line))
            beside = baseline(base, task, cell)
            (record,) = train_cells(base, task, [cell], lambda _: folder.path, events)
            record = {**record, "baseline": beside}
        except StorageError:
            raise
        except Exception as error:
            failure = Failure.of(error)
            record = cell_record(cell, failure.status, pack=[cell.key], reason=failure.reason)
            traceback = failure.traceback
        finally:
            progress.close()
        folder.finish(record, traceback)
        progress.cell_ended(self._title, record["status"], record["reason"])
        return record

    def _note_step(self, _: int) -> None:
        self._n_steps_done += 1
        self._progress.update(self._state())

    def _state(self) -> RunState:
        share = self._n_steps_done / n_steps_of(self._cell)
        return RunState(self._title, 1, {}, packs=(PackState(self._cell.base_model, 1, share),))
