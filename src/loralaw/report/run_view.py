"""How far a running study is: what its run shows while it goes on, and what `loralaw status` finds in its folder."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loralaw.report.wording import duration
from loralaw.store import RESULTS, Study, live_leases


@dataclass(frozen=True)
class PackState:
    """Cells that train together right now."""

    title: str
    n_cells: int
    share_done: float
    """Of their steps."""


@dataclass(frozen=True)
class RunState:
    """How far a study is."""

    name: str
    n_cells: int
    n_by_status: Mapping[str, int]
    """Cells that have ended."""
    packs: tuple[PackState, ...] = ()
    n_elsewhere: int = 0
    """Cells that other runs of the study are training."""
    seconds_left: float | None = None
    law: str | None = None
    """What the finished cells say so far."""

    @property
    def n_ended(self) -> int:
        return sum(self.n_by_status.values())

    @property
    def n_running(self) -> int:
        return sum(pack.n_cells for pack in self.packs) + self.n_elsewhere

    def time_left(self) -> str | None:
        """`about 2 min 41 s left`; None where it is not known."""
        if self.seconds_left is None or self.n_ended >= self.n_cells:
            return None
        seconds = round(self.seconds_left)
        return f"about {duration(seconds)} left" if seconds else "nearly done"

    def counts(self) -> str:
        """`38 of 72 cells, 12 running (8 in another run), 1 failed, 21 left`."""
        n_done = sum(count for status, count in self.n_by_status.items() if status in RESULTS)
        n_left = max(self.n_cells - self.n_ended - self.n_running, 0)
        elsewhere = f" ({self.n_elsewhere:,} in another run)" if self.n_elsewhere else ""
        others = {f"running{elsewhere}": self.n_running, "failed": self.n_ended - n_done, "left": n_left}
        return ", ".join(
            [f"{n_done:,} of {self.n_cells:,} cells", *(f"{n:,} {what}" for what, n in others.items() if n)]
        )


def state_of(study: Study) -> RunState:
    """What a study's folder says from outside its runs."""
    statuses, leases = study.statuses(), live_leases(study.path)
    times = [seconds for lease in leases if (seconds := lease.said.get("seconds_left")) is not None]
    return RunState(
        name=study.name,
        n_cells=len(study.planned_keys),
        n_by_status=Counter(statuses.values()),
        packs=tuple(PackState(*pack) for lease in leases for pack in lease.said.get("packs", [])),
        seconds_left=max(times, default=None),
        law=next((lease.said["law"] for lease in leases if lease.said.get("law")), None),
    )


def run_view(state: RunState, seconds_so_far: float | None = None) -> RenderableType:
    """The live view: the study, what trains now, the law so far. Names are text, never markup."""
    times = [] if seconds_so_far is None else [duration(round(seconds_so_far))]
    if left := state.time_left():
        times.append(left)
    grid = Table.grid(padding=(0, 2, 0, 0))
    share = state.n_ended / max(state.n_cells, 1)
    grid.add_row(Text(state.name, style="bold"), ProgressBar(1.0, share, width=24), Text(state.counts()))
    for pack in state.packs:
        grid.add_row(Text(f"  {pack.title}"), ProgressBar(1.0, pack.share_done, width=24), Text(""))
    lines = [*([", ".join(times)] if times else []), *([f"so far: {state.law}"] if state.law else [])]
    return Group(grid, *(Text(line, style="dim") for line in lines))
