"""Where a study is kept, and the arithmetic that its cells have from there."""

from dataclasses import replace
from pathlib import Path

from loralaw.errors import InputError
from loralaw.store import Study, open_study
from loralaw.study.cell_titles import with_dtype
from loralaw.study.check import CheckedStudy


def folder_of(checked: CheckedStudy, out: str | Path | None) -> Path:
    """The folder that was asked for, or `studies/<name>`.

    Raises:
        InputError: it is a file.
    """
    folder = Path(out) if out is not None else Path("studies") / checked.spec.name
    if folder.is_file():
        raise InputError(f"{folder} is a file: give the folder that the study is kept in (--out)")
    return folder


def stored_study(folder: Path) -> Study | None:
    """What earlier runs have left; None before the first."""
    return open_study(folder) if (folder / "study.json").exists() else None


def in_dtype_of(stored: Study | None, checked: CheckedStudy) -> CheckedStudy:
    """`dtype: auto` made definite: what the stored cells were trained in, or what suits this machine."""
    dtype = None if stored is None else stored.settings["training"]["dtype"]
    return replace(checked, spec=with_dtype(checked.spec, dtype))
