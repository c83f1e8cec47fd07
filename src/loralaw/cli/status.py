"""`loralaw status`: how far a study is."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
) -> None:
    """Say which cells of a study have ended, which are training, and which are left."""
    from loralaw.store import is_running, open_study

    study = open_study(folder)
    records = study.records()
    counts = Counter(record["status"] for record in records)
    n_left = len(study.planned_keys) - len(records)
    parts = [f"{count} {name}" for name, count in counts.items()] + [f"{n_left} left"]
    typer.echo(f"{study.name}: {len(study.planned_keys)} cells: {', '.join(parts)}")
    running = study.running_steps() if is_running(folder) else {}
    if running:
        typer.echo(f"training now: {len(running)} cells, at step {max(running.values())}")
    elif is_running(folder):
        typer.echo("a run is going on")
    elif n_left:
        typer.echo(f"not running; go on with: {study.provenance['command']}")
    for record in records:
        if record["status"] != "finished":
            typer.echo(f"  {record['status']}: {record['key']}: {record['reason']}")
