"""Files that are either wholly there or not at all, whatever dies in between."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from loralaw.errors import InputError, StorageError


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8. What it has not (names of files may hold bytes that are no text) becomes "?"."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it, sync the folder.

    A link is written through. A device or a pipe is written into: it is no file that could be replaced.

    Raises:
        InputError: the path is a folder, or none that a file could have.
        StorageError: the disk refused (full, read-only); an older version of the file is left as it was.
    """
    try:
        _refuse_no_place(path)
        if _is_stream(path):
            with path.open("wb") as stream:
                stream.write(content)
        else:
            replace_file(Path(os.path.realpath(path)), lambda file: file.write(content))
    except OSError as error:
        raise storage_error(path, error) from error


def check_place(path: Path) -> None:
    """Refuse a path that cannot be written to, before the work whose result is to go there. Nothing is made.

    Raises:
        InputError: the path is a folder, or none that a file could have.
        StorageError: it may not be written to.
    """
    try:
        _refuse_no_place(path)
        parents = Path(os.path.realpath(path)).parents
        place = path if _is_stream(path) else next(folder for folder in parents if folder.exists())
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise storage_error(path, error) from error


def _refuse_no_place(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.stat()  # raises where the name is too long, or a parent is a file
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file()


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Put a file in place of an older one, or leave the older one as it was.

    Raises:
        OSError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):  # the place itself may be what is wrong
            temporary.unlink(missing_ok=True)


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


_NOT_A_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place that you may write to"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another place"),
}


def storage_error(path: Path, error: OSError) -> StorageError | InputError:
    """The refusal of the disk as one message that says what is safe and what to do."""
    if error.errno == errno.EISDIR:
        return InputError(f"{path} is a folder: name a file in it")
    if error.errno in _NOT_A_PLACE:
        return InputError(f"{path} is not a place to write to ({error.strerror}): name a file in a folder that exists")
    remedy = _REMEDIES.get(error.errno or 0, "choose another place")
    return StorageError(
        f"{path} cannot be written: {error.strerror or error}. What was finished before is safe; {remedy}, then run "
        "the same command again"
    )
