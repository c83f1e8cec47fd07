"""Training one model outside any study: the same checks, the same training, the same record, in a folder of its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from loralaw.errors import InputError, Problem, SpecError, StorageError
from loralaw.models import load_base_model
from loralaw.store import ADAPTER, MODEL, RETRIED, append_event, study_lock, write_record, write_text
from loralaw.store.atomic import check_place
from loralaw.study.check import CheckedStudy, check_settings
from loralaw.study.failure import Failure
from loralaw.study.one_model import OneModel
from loralaw.study.plan import plan_cells
from loralaw.study.progress import RunProgress
from loralaw.study.work import step_work, title_of, with_dtype
from loralaw.training import EncodedTask, PackEvents, cell_record, machine, n_steps_of, train_cells

_SOURCE = "the model to train"
_LOG = "events.jsonl"


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
    with study_lock(folder):
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
    if not (folder / _LOG).exists():
        return False
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (ValueError, OSError):
        return False
    return isinstance(record, dict) and record.get("status") in RETRIED


class _Training:
    """The training of the only cell of a checked study."""

    def __init__(self, checked: CheckedStudy, folder: Path, progress: RunProgress) -> None:
        (self._cell,) = plan_cells(checked)
        self._checked, self._folder, self._progress = checked, folder, progress
        self._log = folder / _LOG

    def record(self) -> dict[str, Any]:
        """Train, measure, and write the record, whatever came of it."""
        cell, progress, step = self._cell, self._progress, step_work(self._cell, self._checked)
        title, work = title_of(cell), step * n_steps_of(cell)
        base = load_base_model(self._checked.models[cell.base_model].source, machine.device())
        task = EncodedTask(self._checked.data, base, cell, cell.n_train_examples)
        self._forget_a_killed_attempt()
        record: dict[str, Any]
        progress.begin(title, 1, 0, work)
        try:
            progress.begin_pack(cell.base_model, 1, work)
            events = PackEvents(step=lambda n_cells: progress.advance(n_cells * step), log=self._add_to_log)
            (record,) = train_cells(base, task, [cell], lambda key: self._folder, events)
        except StorageError:
            raise
        except Exception as error:
            record = self._failed(Failure.of(error))
        finally:
            progress.close()
        write_record(self._folder, record)
        progress.cell_ended(title, record["status"], record["reason"])
        return record

    def _add_to_log(self, key: str, event: dict[str, Any]) -> None:
        append_event(self._log, event)

    def _forget_a_killed_attempt(self) -> None:
        for name in ("error.txt", "record.json"):
            (self._folder / name).unlink(missing_ok=True)
        for name in (ADAPTER, MODEL):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        write_text(self._log, "")

    def _failed(self, failure: Failure) -> dict[str, Any]:
        write_text(self._folder / "error.txt", failure.traceback)
        return cell_record(self._cell, failure.status, pack=[self._cell.key], reason=failure.reason)
