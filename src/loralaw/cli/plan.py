"""`loralaw plan`: what a study will take, before anything runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loralaw.study import Forecast, GroupForecast

_PATHS = {"packed": "packed together", "trainer": "alone, by the Trainer"}
_SHORT = {"packed": "packed", "trainer": "alone"}


def plan(
    study: Annotated[Path, typer.Argument(help="The study file (YAML).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The study folder; studies/<name> if not given.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Packs at a time; what suits the machine if not given.", show_default=False)
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="FLOPS",
            help="FLOP/s that a worker reaches, such as 2e14, to plan for another machine; measured here if not given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say what a study will take: cells, packs, memory, time and disk. Nothing is trained or written.

    Base models need no weights for this, and published ones no network.
    """
    from rich.text import Text

    from loralaw.cli.console import console
    from loralaw.study import forecast

    told, screen = forecast(study, out, jobs=jobs, flops_per_second=speed), console()
    screen.print(_head(told))
    if told.groups:
        screen.print(_table(told))
        screen.print(_sums(told))
    for sentence in told.too_long:
        screen.print(Text(sentence))


def _head(told: "Forecast") -> "RenderableType":
    from rich.text import Text

    from loralaw.report.wording import counted

    left = told.n_cells - told.n_ended
    ended = f", {told.n_ended:,} of them with a result" if told.n_ended else ""
    return Text(
        f"{told.name} · {counted(told.n_cells, 'cell')}{ended} · {left:,} to train · {told.dtype}", style="bold"
    )


def _table(told: "Forecast") -> "RenderableType":
    """A row for each base model and way of training, in 80 columns. Names are shown as text, never as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("base model", "trained"):
        table.add_column(heading, overflow="fold")
    for heading in ("cells", "packs", "largest", "memory", "time", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in told.groups:
        table.add_row(*(Text(part) for part in _row(group)))
    return table


def _row(group: "GroupForecast") -> list[str]:
    from loralaw.report.wording import duration

    return [
        group.base_model,
        _SHORT[group.path],
        f"{group.n_cells:,}",
        f"{group.n_packs:,}",
        f"{group.n_cells_largest:,}",
        _bytes(group.memory_bytes),
        duration(group.seconds),
        _bytes(group.disk_bytes),
    ]


def _sums(told: "Forecast") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from loralaw.report.wording import counted, duration, significant, size

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    tokens, flops = sum(group.n_tokens for group in told.groups), sum(group.flops for group in told.groups)
    lacks = {True: ": too little", False: ""}
    for name, said in (
        ("time", f"about {duration(told.seconds)}, {counted(told.n_workers, 'pack')} at a time"),
        *((f"  {group.base_model}", f"{_PATHS[group.path]}: {group.basis}") for group in told.groups),
        ("tokens", f"{size(tokens)} through the models in training; {significant(flops)} FLOPs with the measuring"),
        (
            "memory",
            f"about {_bytes(told.memory_bytes)} of {_bytes(told.memory_free_bytes)} free"
            + lacks[told.memory_bytes > told.memory_free_bytes],
        ),
        (
            "disk",
            f"about {_bytes(told.disk_bytes)} of {_bytes(told.disk_free_bytes)} free in {told.folder}"
            + lacks[told.disk_bytes > told.disk_free_bytes],
        ),
    ):
        grid.add_row(Text(name), Text(said))
    return grid


def _bytes(number: int) -> str:
    """In MB or GB, of a million and a thousand million."""
    from loralaw.report.wording import significant

    return f"{significant(number / 1e9)} GB" if number >= 1e9 else f"{significant(number / 1e6)} MB"
