"""How long the rest of a run will take, learned again and again from the cells that have ended."""

from collections import Counter
from collections.abc import Iterable

import polars as pl

from loralaw.laws import fit_costs
from loralaw.spec import Cell
from loralaw.study.cell_needs import CellNeeds, Needs
from loralaw.study.cell_times import CellTime, CellTimes, of_this_machine
from loralaw.study.check import CheckedStudy

Kind = tuple[str, CellNeeds, int]
"""Base model, needs, and cells of a pack: cells of one kind take as long."""


class TimeLeft:
    """The cells that are left, by kind.

    Args:
        checked: the study.
        needs: of its cells.
        packs: those that are to be trained.
        n_workers: packs at a time.
        n_threads: of one worker's products.
    """

    def __init__(
        self, checked: CheckedStudy, needs: Needs, packs: Iterable[tuple[Cell, ...]], n_workers: int, n_threads: int
    ) -> None:
        self._checked, self._n_workers, self._n_threads = checked, n_workers, n_threads
        self._kinds = {cell.key: (cell.base_model, needs.of(cell), len(pack)) for pack in packs for cell in pack}
        self._left = Counter(self._kinds.values())
        self._times: CellTimes | None = None

    def note_ended(self, key: str) -> None:
        """A cell is done."""
        self._left[self._kinds.pop(key)] -= 1

    def learn(self, table: pl.DataFrame) -> None:
        """Take the costs of what has ended so far."""
        if (table["status"] == "finished").any():
            self._times = CellTimes(self._checked, fit_costs(of_this_machine(table)), self._n_threads)

    def seconds(self, under_way: Iterable[tuple[tuple[Cell, ...], float]]) -> float | None:
        """Of all that is left; None before anything has ended.

        Args:
            under_way: packs in training, each with the share of its steps that is done.
        """
        if self._times is None:
            return None
        times = self._times
        total = sum(count * self._time(kind, times).seconds for kind, count in self._left.items() if count)
        longest = 0.0
        for cells, share in under_way:
            of_cells = [self._time(kind, times) for cell in cells if (kind := self._kinds.get(cell.key))]
            done = share * sum(time.train_seconds for time in of_cells)  # measured they are at the end
            total -= done
            longest = max(longest, sum(time.seconds for time in of_cells) - done)
        return max(total / self._n_workers, longest)  # with fewer packs than workers, some have nothing to do

    def _time(self, kind: Kind, times: CellTimes) -> CellTime:
        base_model, needs, n_cells_together = kind
        return times.of(base_model, needs, n_cells_together)
