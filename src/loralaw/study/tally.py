"""Which cells of a run have ended."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from loralaw.spec import Cell
from loralaw.store import Study


class Tally:
    """The cells of one run; what ended them is read from their records, whoever wrote them.

    Args:
        study: where the records are.
        cells: those that had no result when the run began. A record that one of them has now is that of an earlier
            failure, and does not end it.
        on_ended: is told of every cell that ends, with its record.
    """

    def __init__(self, study: Study, cells: Iterable[Cell], on_ended: Callable[[Cell, dict[str, Any]], None]) -> None:
        self._study, self._on_ended = study, on_ended
        self._left = {cell.key: cell for cell in cells}
        self._n_by_status = Counter(s for key, s in study.statuses().items() if key not in self._left)
        self._old_records = {key: stamp for key in self._left if (stamp := _stamp(self._record_path(key))) is not None}

    @property
    def n_by_status(self) -> dict[str, int]:
        """Of all cells of the study that have ended."""
        return dict(self._n_by_status)

    def left(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells that have not ended; the others are noted."""
        left = []
        for cell in cells:
            if cell.key in self._left and not self._has_ended(cell.key):
                left.append(cell)
            elif cell.key in self._left:
                self._note(cell)
        return left

    def _note(self, cell: Cell) -> None:
        record = self._study.record(cell.key)
        assert record is not None
        del self._left[cell.key]
        self._n_by_status[record["status"]] += 1
        self._on_ended(cell, record)

    def _has_ended(self, key: str) -> bool:
        stamp = _stamp(self._record_path(key))
        return stamp is not None and stamp != self._old_records.get(key)

    def _record_path(self, key: str) -> Path:
        return self._study.cell(key).record_path


def _stamp(path: Path) -> tuple[int, int] | None:
    """Which version of a file this is; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
