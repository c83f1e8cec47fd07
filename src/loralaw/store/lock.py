"""One run a study folder. The operating system frees the lock when a run is killed, so none is ever left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from loralaw.errors import StudyFolderError
from loralaw.store.atomic import storage_error


@contextmanager
def study_lock(path: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        StudyFolderError: another process is running this study.
        StorageError: the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyFolderError(
            f"{path} is being run by another process: wait for it (`loralaw status {path}`) or give another --out"
        ) from None
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def is_running(path: Path) -> bool:
    """Whether a live process holds the folder."""
    if not (path / ".lock").exists():
        return False
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False  # a folder that cannot be written to is not being run from here
    lock.release()
    return False
