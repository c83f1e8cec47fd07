"""A study folder: `study.json`, and one folder a cell with its record.

study.json      settings with every default, planned keys, provenance
cells/<key>/    see `CellFolder`
index.parquet   the table, derived from the records and made anew where it is missing or old
leases/         which cells the live runs are training
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from loralaw._version import __version__
from loralaw.errors import StudyFolderError
from loralaw.store.atomic import write_json
from loralaw.store.cell_folder import FORMAT, CellFolder
from loralaw.store.contents import RECORD_CURE, STUDY_CURE, DamageError, check_record, check_study
from loralaw.store.index import ended_cells, write_index
from loralaw.store.table import COLUMNS

RESULTS = ("finished", "diverged")
"""How a cell can end for good; a diverged one would diverge again. Any other outcome may be mended by another run."""


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
        content = check_study(path / "study.json", _read_json(path / "study.json", STUDY_CURE))
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

    def cell(self, key: str) -> CellFolder:
        """The folder of a cell, to read and to write."""
        return CellFolder(self.cell_folder(key))

    def record(self, key: str) -> dict[str, Any] | None:
        """What the cell left, or None if it has not ended.

        Raises:
            StudyFolderError: the record is damaged, or another version's.
        """
        path = self.cell(key).record_path
        if not path.exists():
            return None
        record = check_record(path, _read_json(path, RECORD_CURE), RECORD_CURE)
        cell = record["cell"]
        cell["base_model"] = self._name_of_base.get(cell["base_model_hash"], cell["base_model"])
        return record

    def records(self) -> list[dict[str, Any]]:
        """The records of all planned cells that have ended, in the order of the plan."""
        return [record for key in self.planned_keys if (record := self.record(key)) is not None]

    def table(self) -> pl.DataFrame:
        """One row a planned cell that has ended; columns and units as in `loralaw.store.table.COLUMNS`."""
        name = pl.col("base_model_hash").replace_strict(self._name_of_base, default=None)
        rows = self._ended().with_columns(base_model=pl.coalesce(name, "base_model"))
        return rows.select(list(COLUMNS))

    def statuses(self) -> dict[str, str]:
        """Of every planned cell that has ended, by key, in the order of the plan."""
        return dict(self._ended().select("key", "status").iter_rows())

    def pending_keys(self) -> list[str]:
        """Planned cells without a result: not run yet, or failed in a way that another run may mend."""
        statuses = self.statuses()
        return [key for key in self.planned_keys if statuses.get(key) not in RESULTS]

    def mend(self) -> list[str]:
        """Set damaged records aside, so that their cells are trained again, and keep the index for the next reading.

        Returns:
            Their keys.
        """
        damaged = []

        def read(key: str) -> dict[str, Any] | None:
            try:
                return self.record(key)
            except DamageError:
                damaged.append(key)
                path = self.cell(key).record_path
                path.replace(path.with_name("record.json.damaged"))
                return None

        write_index(self.path, ended_cells(self.path, read))
        return damaged

    def keep_index(self) -> None:
        """Write down what the records say, so that the next reading opens only newer ones."""
        write_index(self.path, ended_cells(self.path, self.record))

    def _ended(self) -> pl.DataFrame:
        planned = pl.DataFrame({"key": self.planned_keys}, schema={"key": pl.String()})
        return planned.join(ended_cells(self.path, self.record), on="key", how="inner", maintain_order="left")


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
        shares_cells = not set(planned_keys).isdisjoint(old.planned_keys)
        if not shares_cells and (n_ended := len(old.statuses())):
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


def _read_json(path: Path, cure: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise DamageError(f"{path} is damaged ({error}). {cure}") from None
    if not isinstance(value, dict):
        raise DamageError(f"{path} is damaged: it does not hold an object. {cure}")
    return value
