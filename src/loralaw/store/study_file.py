"""A study in one Parquet file: its table, and with it every cell's whole record and the study's settings.

It is for handing on: a table like any other to those who want only that, and a study to `loralaw report`. The adapters
are not in it, and nothing can be trained into it.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from loralaw._version import __version__
from loralaw.errors import StudyFolderError
from loralaw.store.atomic import write_bytes
from loralaw.store.cell_folder import FORMAT
from loralaw.store.contents import DamageError, check_record, check_study
from loralaw.store.study import Study, open_study
from loralaw.store.table import table_of

_RECORD = "record"
"""The column with a cell's record as JSON."""
_STUDY = "loralaw_study"
"""The entry of the file's metadata with everything else of the study as JSON."""
_ENDING = ".parquet"
_CURE = "Get it again from where it was made: loralaw table DIR --records -o FILE.parquet"


class StudyFile:
    """A study that was written to one file, to read.

    Attributes: as of `Study`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = path.read_bytes()  # a name is no pattern, as it is to polars
            content = pl.read_parquet_metadata(BytesIO(raw)).get(_STUDY)
            texts = pl.read_parquet(BytesIO(raw), columns=[_RECORD])[_RECORD].to_list() if content else []
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            said = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise StudyFolderError(f"{path} cannot be read as a study in Parquet: {said}. {_CURE}") from None
        if content is None:
            raise StudyFolderError(
                f"{path} is a table without records: `loralaw table DIR --records -o FILE.parquet` writes one with them"
            )
        study = check_study(path, self._object(content), _CURE)
        self.settings: dict[str, Any] = study["settings"]
        self.planned_keys: list[str] = study["planned_keys"]
        self.provenance: dict[str, Any] = study["provenance"]
        self._records = [check_record(path, self._object(text), _CURE) for text in texts]

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    def records(self) -> list[dict[str, Any]]:
        """As `Study.records`."""
        return self._records

    def table(self) -> pl.DataFrame:
        """As `Study.table`."""
        return table_of(self._records)

    def damage(self, what: str) -> DamageError:
        """The error for a file that holds what no study has."""
        return DamageError(f"{self.path} is damaged: {what}. {_CURE}")

    def _object(self, text: Any) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self.damage(f"a record or the study is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise self.damage("it does not hold an object")
        return value


def write_study_file(study: Study | StudyFile, path: Path) -> None:
    """Write a study, as far as it is, to one Parquet file.

    Raises:
        InputError: the path is a folder, or none that a file could have.
        StorageError: the disk refused; an older file is left as it was.
    """
    records = study.records()
    texts = pl.Series(_RECORD, [json.dumps(record, separators=(",", ":")) for record in records], dtype=pl.String())
    content = {
        "format": FORMAT,
        "loralaw": __version__,
        "settings": study.settings,
        "planned_keys": study.planned_keys,
        "provenance": study.provenance,
    }
    written = BytesIO()
    table_of(records).with_columns(texts).write_parquet(
        written, compression="zstd", compression_level=19, metadata={_STUDY: json.dumps(content)}
    )
    write_bytes(path, written.getvalue())


def read_study(path: str | Path) -> Study | StudyFile:
    """Open a study for reading: its folder, or the file that `write_study_file` wrote.

    Raises:
        StudyFolderError: there is no study, it is damaged, or another version wrote it.
    """
    path = Path(path)
    if path.suffix.lower() == _ENDING:
        return StudyFile(path)
    if path.is_file():
        raise StudyFolderError(
            f"{path} is not a {_ENDING} file; `loralaw table DIR --records -o FILE{_ENDING}` writes one"
        )
    return open_study(path)
