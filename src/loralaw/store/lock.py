"""One run a folder. The operating system frees the lock when a run is killed, so none is ever left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from loralaw.errors import StudyFolderError
from loralaw.store.atomic import storage_error


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        StudyFolderError: another process holds it.
        StorageError: the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyFolderError(
            f"{path} is being written by another process: wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield
    finally:
        lock.release()
