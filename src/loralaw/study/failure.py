"""What is kept of an error that ended a cell."""

import traceback
from dataclasses import dataclass

import torch

from loralaw.errors import LoralawError


@dataclass(frozen=True)
class Failure:
    """Text only, so that nothing the error refers to stays in memory."""

    status: str
    reason: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        reason = str(error) if isinstance(error, LoralawError) else f"{type(error).__name__}: {error}"
        text = "".join(traceback.format_exception(error))
        return cls("out-of-memory" if out_of_memory else "error", (reason.splitlines() or [""])[0][:300], text)
