"""Standard output and error that stop no work: what they refuse is dropped, and why is known at the end."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loralaw.errors import LoralawError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class LastingOutput(io.RawIOBase):
    """Passes on what it is given until that fails once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._refused: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int | None:
        if self._refused is None:
            try:
                written: int | None = self._stream.write(data)
                return written
            except OSError as error:
                self._refused = error
        return memoryview(data).nbytes

    def refusal(self) -> LoralawError | None:
        """Why something is missing; a reader that has gone wants no more, and is no error."""
        from loralaw.store.atomic import storage_error

        if self._refused is None or self._refused.errno == errno.EPIPE:
            return None
        return storage_error(Path("standard output"), self._refused)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())


@contextmanager
def lasting(name: Literal["stdout", "stderr"]) -> Iterator[LastingOutput]:
    """Put a lasting stream in place of one of `sys`; one that is closed takes everything and keeps nothing."""
    given = getattr(sys, name)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        stream = nowhere if given is None else given
        below = getattr(stream, "buffer", None)
        output = LastingOutput(getattr(below, "raw", below))
        if isinstance(stream, io.TextIOWrapper):  # others, such as text in memory, have nothing below that could fail
            stream.flush()
            errors = "replace" if name == "stdout" else "backslashreplace"  # a terminal may know fewer characters
            lines, through = stream.line_buffering, stream.write_through
            wrapped = io.TextIOWrapper(
                io.BufferedWriter(output), stream.encoding, errors, line_buffering=lines, write_through=through
            )
            setattr(sys, name, wrapped)
        try:
            yield output
        finally:
            getattr(sys, name).flush()
            setattr(sys, name, given)
