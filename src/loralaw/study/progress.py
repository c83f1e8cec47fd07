"""What a run shows while it goes on: live bars in a terminal, plain lines elsewhere, nothing as a library."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 30
"""Without a terminal a line is printed at least this often."""


class RunProgress:
    """What a run tells whoever watches; this one shows nothing.

    Work is counted in parameters times tokens, which is nearly proportional to time.
    """

    def begin(self, name: str, n_cells: int, n_ended: int, work: float) -> None:
        """The study begins with `n_cells - n_ended` cells to train, together `work`."""

    def begin_pack(self, title: str, n_cells: int, work: float) -> None:
        """A pack begins."""

    def advance(self, work: float) -> None:
        """A step is done."""

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        """A record is written."""

    def close(self) -> None:
        """The run ends, for whatever reason."""


def watch(console: Console) -> RunProgress:
    """Live bars where there is a terminal, plain lines where there is none."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class LiveProgress(RunProgress):
    """A bar for the study and one for the pack."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._n_cells = self._n_ended = 0

    def begin(self, name: str, n_cells: int, n_ended: int, work: float) -> None:
        self._n_cells, self._n_ended = n_cells, n_ended
        self._study = self._bars.add_task(escape(name), total=work, note=self._count())
        self._pack = self._bars.add_task("", total=None, note="")
        self._bars.start()

    def begin_pack(self, title: str, n_cells: int, work: float) -> None:
        self._bars.reset(
            self._pack,
            total=work,
            description=escape(title),
            note="1 cell" if n_cells == 1 else f"{n_cells} cells at once",
        )

    def advance(self, work: float) -> None:
        self._bars.advance(self._study, work)
        self._bars.advance(self._pack, work)

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self._n_ended += 1
        self._bars.update(self._study, note=self._count())
        if status != "finished":
            self._bars.console.print(f"{title}: {status}: {reason}", markup=False, style="yellow")

    def close(self) -> None:
        self._bars.stop()

    def _count(self) -> str:
        return f"{self._n_ended} of {self._n_cells} cells"


class PlainProgress(RunProgress):
    """A line when a pack begins and when a cell ends, with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._n_cells = self._n_ended = 0
        self._work = self._done = self._last_line = 0.0

    def begin(self, name: str, n_cells: int, n_ended: int, work: float) -> None:
        self._n_cells, self._n_ended, self._work = n_cells, n_ended, work
        self._started = time.monotonic()
        self._print(f"{name}: 1 cell" if n_cells == 1 else f"{name}: {n_cells} cells, {n_ended} of them ended before")

    def begin_pack(self, title: str, n_cells: int, work: float) -> None:
        self._print(f"training {title}" if n_cells == 1 else f"training {n_cells} cells of {title} at once")

    def advance(self, work: float) -> None:
        self._done += work
        if time.monotonic() - self._last_line > QUIET_SECONDS:
            self._print(f"{self._done / self._work:.0%} of the work{self._left()}")

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self._n_ended += 1
        because = f": {reason}" if reason else ""
        self._print(f"{self._n_ended}/{self._n_cells} {status} {title}{because}{self._left()}")

    def _left(self) -> str:
        seconds = (time.monotonic() - self._started) * (self._work - self._done) / max(self._done, 1e-9)
        return f" ({seconds:.0f} s left)" if self._work > self._done > 0 else ""

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
