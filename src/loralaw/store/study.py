"""A study folder: `study.json`, and one folder a cell with its record.

study.json                  settings with every default, planned keys, provenance
cells/<key>/cell.json       what the cell is
cells/<key>/events.jsonl    its training log
cells/<key>/adapter/        an ordinary PEFT adapter,
cells/<key>/model/          or, after full fine-tuning, an ordinary folder of transformers
cells/<key>/record.json     present = finished: its result for good
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from loralaw._version import __version__
from loralaw.errors import StudyFolderError
from loralaw.spec import Cell
from loralaw.store.atomic import sync_files, write_json
from loralaw.store.events import append_event, read_events
from loralaw.store.table import table_of

FORMAT = 1
ADAPTER, MODEL = "adapter", "model"
"""Folders of what a cell trained, inside the cell's own: PEFT's, or transformers' where all weights were trained."""
RETRIED = ("error", "out-of-memory")
"""Outcomes that another run may mend; a diverged cell would diverge again, so it is a result."""


class Study:
    """A study on disk. Reading it needs no deep-learning stack.

    Attributes:
        path: the folder.
        settings: the study file with every default written out.
        planned_keys: keys of the cells of the study, in the order of the plan.
        provenance: command, versions and time of the last run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read_json(path / "study.json")
        if content.get("format") != FORMAT:
            raise StudyFolderError(
                f"{path} was written in study format {content.get('format')!r} by loralaw {content.get('loralaw')!r}; "
                f"this is loralaw {__version__} with format {FORMAT}. Use that version, or another folder (--out)"
            )
        _require(path / "study.json", content, ("settings", "planned_keys", "provenance"))
        self.settings: dict[str, Any] = content["settings"]
        self.planned_keys: list[str] = content["planned_keys"]
        self.provenance: dict[str, Any] = content["provenance"]
        # A base model is known by its contents; the study may call it by another name or path than when a cell ran.
        hashes = self.provenance.get("base_model_hashes", {})
        self._name_of_base = {content_hash: name for name, content_hash in hashes.items()}

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    def cell_folder(self, key: str) -> Path:
        return self.path / "cells" / key

    def record(self, key: str) -> dict[str, Any] | None:
        """What the cell left, or None if it has not ended."""
        path = self.cell_folder(key) / "record.json"
        if not path.exists():
            return None
        record = _read_json(path)
        if record.get("format") != FORMAT:
            raise StudyFolderError(f"{path} has format {record.get('format')!r}, this loralaw reads {FORMAT}")
        _require(path, record, ("key", "status", "reason", "cell", "metrics", "counts", "cost"))
        cell = record["cell"]
        cell["base_model"] = self._name_of_base.get(cell["base_model_hash"], cell["base_model"])
        return record

    def records(self) -> list[dict[str, Any]]:
        """The records of all planned cells that have ended, in the order of the plan."""
        return [record for key in self.planned_keys if (record := self.record(key)) is not None]

    def table(self) -> pl.DataFrame:
        """One row a cell that has ended; columns and units as in `loralaw.store.table.COLUMNS`."""
        return table_of(self.records())

    def pending_keys(self) -> list[str]:
        """Planned cells without a result: not run yet, or failed in a way that another run may mend."""
        records = {key: self.record(key) for key in self.planned_keys}
        return [key for key, record in records.items() if record is None or record["status"] in RETRIED]

    def running_steps(self) -> dict[str, int]:
        """The last logged step of every cell that has begun and not ended."""
        steps = {}
        for key in self.planned_keys:
            log = self.cell_folder(key) / "events.jsonl"
            if log.exists() and self.record(key) is None and (events := read_events(log)):
                steps[key] = int(events[-1]["step"])
        return steps

    def begin_cell(self, cell: Cell) -> None:
        """Write what the cell is, and forget an attempt that was killed or failed."""
        folder = self.cell_folder(cell.key)
        write_json(folder / "cell.json", cell.settings())
        for name in ("events.jsonl", "record.json", "error.txt"):
            (folder / name).unlink(missing_ok=True)

    def adapter_folder(self, key: str) -> Path:
        """Where the adapter of a cell lies, in PEFT's format."""
        return self.cell_folder(key) / ADAPTER

    def log(self, key: str, event: dict[str, Any]) -> None:
        append_event(self.cell_folder(key) / "events.jsonl", event)

    def finish_cell(self, record: dict[str, Any]) -> None:
        """The last act of a cell; what it trained is in place before."""
        write_record(self.cell_folder(record["key"]), record)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Make what was trained safe on the disk, then write the record with time and version: the result for good.

    Raises:
        StorageError: the disk refused.
    """
    for name in (ADAPTER, MODEL):
        sync_files(folder / name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record["provenance"] = {**record["provenance"], "loralaw": __version__, "finished_at": now}
    write_json(folder / "record.json", {"format": FORMAT, **record})


def open_study(path: str | Path) -> Study:
    """Open a study folder for reading.

    Raises:
        StudyFolderError: there is no study, it is damaged, or another version wrote it.
    """
    path = Path(path)
    if not (path / "study.json").exists():
        raise StudyFolderError(
            f"{path} is not a study folder (it has no study.json); `loralaw run STUDY.yaml` makes one"
        )
    return Study(path)


def write_study(path: Path, settings: dict[str, Any], planned_keys: list[str], provenance: dict[str, Any]) -> Study:
    """Create a study folder, or bring one up to date when its study has grown.

    Raises:
        StudyFolderError: the folder holds another study, or another version's.
        StorageError: the disk refused.
    """
    if (path / "study.json").exists():
        old = open_study(path)
        if old.name != settings["name"]:
            raise StudyFolderError(
                f"{path} holds the study {old.name!r}, not {settings['name']!r}: give another folder with --out"
            )
        n_ended = len(old.records())
        if n_ended and not set(planned_keys) & set(old.planned_keys):
            changed = [key for key, value in settings.items() if old.settings.get(key) != value] or [
                "the data or a model"
            ]
            raise StudyFolderError(
                f"{path} holds {n_ended} cells of this study with other settings ({', '.join(changed)} changed), and "
                "none of them is part of it now: give another folder with --out, or delete this one"
            )
    content = {"format": FORMAT, "loralaw": __version__, "settings": settings, "planned_keys": planned_keys}
    write_json(path / "study.json", {**content, "provenance": provenance})
    return open_study(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyFolderError(f"{path} is damaged ({error}). {_CURE}") from None
    if not isinstance(value, dict):
        raise StudyFolderError(f"{path} does not hold an object: it was not written by loralaw")
    return value


_CURE = "Delete it and run the study again: cells that have a record are not trained again"


def _require(path: Path, content: dict[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in content]
    if missing:
        raise StudyFolderError(f"{path} is damaged: it has no {', '.join(missing)}. {_CURE}")
