"""What study.json and a record must hold to be used, wherever they were read from."""

from pathlib import Path
from typing import Any

from loralaw._version import __version__
from loralaw.errors import StudyFolderError
from loralaw.store.cell_folder import FORMAT
from loralaw.store.table import wrong_columns

STUDY_CURE = "Delete it and run the study again: cells that have a record are not trained again"
RECORD_CURE = "Run the study again: this record is set aside and its cell trained anew; the others stay"


class DamageError(StudyFolderError):
    """A file that is not what was once written whole."""


def check_study(path: Path, content: dict[str, Any], cure: str = STUDY_CURE) -> dict[str, Any]:
    """Settings, plan and provenance of a study, as they were given.

    Raises:
        StudyFolderError: they are damaged, or another version's.
    """
    if content.get("format") != FORMAT:
        raise StudyFolderError(
            f"{path} was written in study format {content.get('format')!r} by loralaw {content.get('loralaw')!r}; "
            f"this is loralaw {__version__} with format {FORMAT}. Use that version, or another folder (--out)"
        )
    _require(path, content, {"settings": dict, "planned_keys": list, "provenance": dict}, cure)
    _require(path, content["settings"], {"name": str}, cure)
    if not all(isinstance(key, str) for key in content["planned_keys"]):
        raise DamageError(f"{path} is damaged: planned_keys holds what is no key. {cure}")
    _require(path, {"base_model_hashes": {}, **content["provenance"]}, {"base_model_hashes": dict}, cure)
    return content


def check_record(path: Path, record: dict[str, Any], cure: str) -> dict[str, Any]:
    """What a cell left, as it was given.

    Raises:
        StudyFolderError: it is damaged, or another version's.
    """
    if record.get("format") != FORMAT:
        raise StudyFolderError(f"{path} has format {record.get('format')!r}, this loralaw reads {FORMAT}")
    parts = {"key": str, "status": str, "reason": object, "cell": dict, "metrics": dict, "counts": dict, "cost": dict}
    _require(path, record, parts, cure)
    _require(path, record["cell"], {"base_model": str, "base_model_hash": str, "method": dict}, cure)
    if wrong := wrong_columns(record):
        raise DamageError(f"{path} is damaged: {', '.join(wrong)} cannot be what it says. {cure}")
    return record


def _require(path: Path, content: dict[str, Any], parts: dict[str, type], cure: str) -> None:
    missing = [name for name, kind in parts.items() if name not in content or not isinstance(content[name], kind)]
    if missing:
        raise DamageError(f"{path} is damaged: it has no {', '.join(missing)}, or not of the right kind. {cure}")
