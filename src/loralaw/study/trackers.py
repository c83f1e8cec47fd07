"""Trackers (TensorBoard, Trackio, Weights & Biases): told of every cell that has ended; no run depends on them."""

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loralaw.errors import Problem
from loralaw.store.table import method_label

Record = Mapping[str, Any]
Event = Mapping[str, Any]
Numbers = dict[str, float]
INSTALL = {
    "tensorboard": "install loralaw[trackers]",
    "trackio": "install loralaw[trackers]",
    "wandb": "pip install wandb",
}
"""The trackers that a study file may name, each with what brings it."""


def missing_trackers(names: Sequence[str]) -> list[Problem]:
    """Those that are not installed, as problems of the study file."""
    return [
        Problem(f"trackers[{index}]", f'"{name}" is not installed: {INSTALL[name]}, or leave it out')
        for index, name in enumerate(names)
        if importlib.util.find_spec(name) is None
    ]


@dataclass(frozen=True)
class TrackedCell:
    """A cell that has ended, as a run of a tracker."""

    name: str
    """What it is, and its key, in characters that every file system takes."""
    settings: dict[str, str | int | float | bool]
    """What it was told, with its status."""
    curve: list[tuple[int, Numbers]]
    """(step, what was logged at it), of its training."""
    results: Numbers
    """Metrics and costs."""

    @classmethod
    def of(cls, record: Record, events: Sequence[Event]) -> "TrackedCell":
        cell = record["cell"]
        rank = "" if cell["rank"] is None else f"-r{cell['rank']}"
        base, method = Path(cell["base_model"]).name, cell["method"]["name"]
        name = f"{base}-{method}{rank}-n{cell['n_train_examples']}-s{cell['seed']}-{record['key']}"
        settings = {
            "base_model": cell["base_model"],
            "method": method_label(cell["method"]),
            **{name: cell[name] for name in ("rank", "n_train_examples", "seed")},
            **cell["training"],
            **record["counts"],
            "status": record["status"],
            "key": record["key"],
        }
        return cls(
            name=re.sub(r"[^\w.-]", "_", name),
            settings={name: value for name, value in settings.items() if isinstance(value, str | int | float)},
            curve=[(int(event["step"]), _numbers(event)) for event in events],
            results=_numbers({**record["metrics"], **record["cost"]}),
        )


class Tracker(Protocol):
    """One of them; any exception of its own means that it is switched off."""

    def write(self, cell: TrackedCell) -> None:
        """Keep a cell that has ended."""


class Trackers:
    """The trackers of a study. One that fails is switched off for the rest of the run, with one warning.

    Args:
        names: out of `INSTALL`, installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._open: dict[str, Tracker] = {}
        self._warn: Callable[[str], None] = lambda line: None

    def begin(self, study_name: str, folder: Path, warn: Callable[[str], None]) -> None:
        """Open all of them.

        Args:
            study_name: what the project is called where a tracker has projects.
            folder: the study's.
            warn: is given one line for each tracker that fails.
        """
        self._warn = warn
        for name in self._names:
            make = _TensorBoard if name == "tensorboard" else _Project
            with self._switched_off_if_it_fails(name):
                self._open[name] = make(name, study_name, folder)

    def cell_ended(self, record: Record, events: Sequence[Event]) -> None:
        """Tell every tracker of a cell, with its record and the lines of its log."""
        for name in list(self._open):
            with self._switched_off_if_it_fails(name):
                self._open[name].write(TrackedCell.of(record, events))

    def close(self) -> None:
        """No more is written; every cell was complete when it was."""
        self._open.clear()

    @contextlib.contextmanager
    def _switched_off_if_it_fails(self, name: str) -> Any:
        try:
            yield
        except Exception as error:  # whatever a tracker raises, the study goes on
            self._open.pop(name, None)
            first = (str(error).strip().splitlines() or [""])[0]
            self._warn(f"{name} failed and is switched off for this run ({type(error).__name__}: {first[:200]})")


class _TensorBoard:
    """Writes a folder a cell below `tensorboard` in the study's; a cell that is trained again replaces its own."""

    def __init__(self, _: str, study_name: str, folder: Path) -> None:
        self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._folder = folder / "tensorboard"

    def write(self, cell: TrackedCell) -> None:
        folder = self._folder / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        with self._writer(str(folder)) as writer:
            for step, numbers in cell.curve:
                for name, value in numbers.items():
                    writer.add_scalar(name, value, step)
            final = {f"final/{name}": value for name, value in cell.results.items()}
            writer.add_hparams(cell.settings, final, run_name=".", global_step=cell.settings.get("n_steps"))


class _Project:
    """Trackio or Weights & Biases, whose calls are the same: a project a study, a run a cell."""

    def __init__(self, module: str, study_name: str, folder: Path) -> None:
        self._module, self._project = importlib.import_module(module), study_name
        if module == "trackio":  # the cell has ended: what the machine does now is not its doing
            self._more: dict[str, Any] = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
        else:
            offline = {} if "WANDB_MODE" in os.environ else {"mode": "offline"}
            self._more = {"dir": str(folder), "settings": {"silent": True}, **offline}

    def write(self, cell: TrackedCell) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # or it would greet at every cell
            self._module.init(project=self._project, name=cell.name, config=cell.settings, **self._more)
            for step, numbers in cell.curve:
                self._module.log(numbers, step=step)
            last = max((step for step, _ in cell.curve), default=0)
            self._module.log({f"final/{name}": value for name, value in cell.results.items()}, step=last + 1)
            self._module.finish()


def _numbers(values: Mapping[str, Any]) -> Numbers:
    """What can be drawn: numbers but `step`, which is where."""
    return {
        name: float(value)
        for name, value in values.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }
