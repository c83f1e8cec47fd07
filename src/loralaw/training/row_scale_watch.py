"""How the row scale of one cell moves while it trains: for its log and its record."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from loralaw.tuners.row_scale_summary import drift_of, layers_of, rms_change

DRIFT_POINTS = 50
"""Of a training at most so many are noted of how α moves, besides its beginning and its end."""


class RowScaleWatch:
    """Notes how far α is from 1, by module type.

    Args:
        n_steps: of the adapter in the whole training.
        read: gives α as it is, (out,) by layer.
    """

    def __init__(self, n_steps: int, read: Callable[[], Mapping[str, Tensor]]) -> None:
        self._n_steps, self._every, self._read = n_steps, -(-n_steps // DRIFT_POINTS), read
        self._drift: list[dict[str, Any]] = []

    def note(self, step: int) -> None:
        """So many steps of the adapter are done, from 0 on; α is noted if it is time."""
        if step % self._every == 0 or step == self._n_steps:
            self._drift.append({"step": step, "rms_change": drift_of(self._read())})

    def log_line(self) -> dict[str, float]:
        """What the log says of α."""
        return {"row_scale_rms_change": rms_change(self._read().values())}

    def record(self) -> dict[str, Any]:
        """α at the end and on the way, for the cell's record.

        Raises:
            InputError: α is not finite.
        """
        return {"layers": layers_of(self._read()), "drift": self._drift}
