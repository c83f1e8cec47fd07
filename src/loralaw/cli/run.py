"""`loralaw run`: train what is missing, then say what it means."""

import signal
from pathlib import Path
from typing import Annotated

import typer


def run(
    study: Annotated[Path, typer.Argument(help="The study file (YAML).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The study folder; studies/<name> if not given.", show_default=False)
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="Where cells train: local (worker processes), ray (a Ray cluster), or inline (this process, for "
            "debugging)."
        ),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(help="Packs of cells at a time; what suits the machine if not given.", show_default=False),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="With --executor ray: ray://HOST:10001, HOST:6379 or auto; RAY_ADDRESS if not given, else a new "
            "cluster of this machine alone.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train every cell that has no result yet, write the report, and print the laws.

    Can be interrupted or killed at any moment; the same command goes on where it stopped. Run it again while it is
    running, here or on another machine that sees the folder, and the two share the cells.
    """
    from loralaw.cli.console import console

    screen = console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers, leases and the cursor are seen to
    try:
        from loralaw.report import terminal_summary, write_report
        from loralaw.study import run as run_study
        from loralaw.study import watch

        finished = run_study(study, out, watch(screen), executor=executor, jobs=jobs, ray_address=ray_address)
    except KeyboardInterrupt:
        screen.print("\ninterrupted: every finished cell is saved; the same command goes on from there")
        raise typer.Exit(130) from None
    screen.print(terminal_summary(finished))  # first: a full disk can still refuse the report
    write_report(finished)
    if finished.pending_keys():
        raise typer.Exit(1)  # some cells failed; the summary says how many, `loralaw status` why
