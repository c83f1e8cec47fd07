"""`loralaw status`: how far a study is."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loralaw.store import Study

WATCH_SECONDS = 2.0


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until no run goes on.")] = False,
) -> None:
    """Say which cells of a study have ended, which are training, and which are left."""
    from rich.live import Live

    from loralaw.cli.console import console
    from loralaw.report import run_view, state_of
    from loralaw.store import live_leases, open_study

    screen = console()
    study = open_study(folder)
    if watch:
        with Live(console=screen, auto_refresh=False) as live:
            while True:
                live.update(run_view(state_of(study)), refresh=True)
                if not live_leases(folder):
                    break
                time.sleep(WATCH_SECONDS)
                study = open_study(folder)
    else:
        screen.print(run_view(state_of(study)))
    _say_more(study)


def _say_more(study: "Study") -> None:
    """Who trains, how to go on, and why cells failed."""
    from loralaw.store import live_leases

    statuses = study.statuses()
    leases = live_leases(study.path)
    for lease in leases:
        typer.echo(f"{lease.holder} " + (f"trains {len(lease.keys):,} cells" if lease.keys else "waits for the others"))
    if not leases and len(statuses) < len(study.planned_keys):
        source = str(study.provenance.get("study_file", "STUDY.yaml"))
        typer.echo(f"not running; go on with: {shlex.join(['loralaw', 'run', source, '--out', str(study.path)])}")
    for key, status_of_cell in statuses.items():
        if status_of_cell != "finished":
            record = study.record(key)
            reason = "" if record is None else f": {record['reason']}"
            typer.echo(f"  {status_of_cell}: {key}{reason}")
