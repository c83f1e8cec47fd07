"""What is kept of an error that ended a pack, and what is tried next."""

import traceback
from dataclasses import dataclass
from typing import Literal

import torch

from loralaw.errors import LoralawError, ModelError, StorageError

Kind = Literal["error", "out-of-memory", "killed", "model", "storage"]


@dataclass(frozen=True)
class Failure:
    """Text only: it can be sent from process to process, and nothing the error refers to stays in memory."""

    kind: Kind
    """`model`: no cell of this base can be trained. `storage`: the disk refused, so nothing can go on."""
    reason: str
    """In one line."""
    traceback: str

    @property
    def status(self) -> str:
        """Of a cell's record."""
        return "error" if self.kind in ("model", "storage") else self.kind

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        if isinstance(error, PackFailed):
            return error.failure
        reason = str(error) if isinstance(error, LoralawError) else f"{type(error).__name__}: {error}"
        text = "".join(traceback.format_exception(error))
        if isinstance(error, StorageError):
            return cls("storage", reason, text)
        return cls(_kind(error), (reason.splitlines() or [""])[0][:300], text)

    @classmethod
    def of_death(cls, reason: str, *, out_of_memory: bool) -> "Failure":
        """Of a worker that is gone without a word."""
        return cls("out-of-memory" if out_of_memory else "killed", reason, reason + "\n")


class PackFailed(Exception):
    """A failure in another process, raised where it is heard of."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def _kind(error: Exception) -> Kind:
    if isinstance(error, ModelError):
        return "model"
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return "out-of-memory" if out_of_memory else "error"
