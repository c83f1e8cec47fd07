"""What a run shows while it goes on: a live view in a terminal, plain lines elsewhere, nothing as a library."""

import time
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live

from loralaw.report import PackState, RunState, run_view

QUIET_SECONDS = 30
"""Without a terminal a line is printed at least this often."""


class RunProgress:
    """What a run tells whoever watches; this one shows nothing."""

    def begin(self, state: RunState) -> None:
        """The run begins."""

    def pack_began(self, pack: PackState) -> None:
        """Cells begin to train together."""

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        """A record is written."""

    def update(self, state: RunState) -> None:
        """About once a second."""

    def say(self, line: str) -> None:
        """Something happened that the user should know."""

    def close(self) -> None:
        """The run ends, for whatever reason."""


def watch(console: Console) -> RunProgress:
    """A live view where there is a terminal, plain lines where there is none."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class LiveProgress(RunProgress):
    """The live view, and above it a line for what went wrong."""

    def __init__(self, console: Console) -> None:
        self._console, self._live = console, Live(console=console, refresh_per_second=4)

    def begin(self, state: RunState) -> None:
        self._started = time.monotonic()
        self._live.start()
        self.update(state)

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        if status != "finished":
            self.say(f"{title}: {status}: {reason}")

    def update(self, state: RunState) -> None:
        self._live.update(run_view(state, time.monotonic() - self._started))

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, style="yellow")

    def close(self) -> None:
        self._live.stop()


@dataclass
class PlainProgress(RunProgress):
    """A line when a pack begins and when a cell ends; between them one with the time left."""

    console: Console
    _last_line: float = 0.0
    _law: str | None = None

    def begin(self, state: RunState) -> None:
        before = f", {state.n_ended:,} of them ended before" if state.n_ended else ""
        self.say(f"{state.name}: " + ("1 cell" if state.n_cells == 1 else f"{state.n_cells:,} cells{before}"))

    def pack_began(self, pack: PackState) -> None:
        self.say(f"training {pack.title}")

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self.say(f"{status} {title}" + (f": {reason}" if reason else ""))

    def update(self, state: RunState) -> None:
        if time.monotonic() - self._last_line > QUIET_SECONDS:
            steps = ", ".join(f"{pack.share_done:.0%}" for pack in state.packs)
            parts = (state.counts(), f"{steps} of the steps" if steps else None, state.time_left())
            self.say("; ".join(filter(None, parts)))
            if state.law and state.law != self._law:
                self.say(f"so far: {state.law}")
                self._law = state.law

    def say(self, line: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
