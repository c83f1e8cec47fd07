"""Files that are either wholly there or not at all, whatever dies in between."""

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from loralaw.errors import InputError, StorageError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, sync it, rename it, sync the folder.

    Raises:
        StorageError: the disk refused (full, read-only); an older version of the file is left as it was.
    """
    if not path.name or path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # the place itself may be what is wrong
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """A JSON file, written atomically; NaN and infinity are refused, absent values are null."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut (not every system can: then there is nothing to do)."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Make files that another library wrote survive a power cut. A folder that is not there has none."""
    try:
        for path in folder.glob("*"):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(folder, error) from error


_NOT_A_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def storage_error(path: Path, error: OSError) -> StorageError | InputError:
    """The refusal of the disk as one message that says what is safe and what to do."""
    if error.errno in _NOT_A_PLACE:
        return InputError(f"{path} is not a place to write to ({error.strerror}): name a file in a folder that exists")
    return StorageError(
        f"{path} cannot be written: {error.strerror or error}. What was finished before is safe; free some space or "
        "choose another place, then run the same command again"
    )
