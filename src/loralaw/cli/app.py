"""The commands, and what they do with errors: a message, never a traceback, for anything the user can mend."""

import sys

import typer
from rich.console import Console

from loralaw.cli import (
    check_rule,
    design,
    fit,
    judge,
    new,
    plan,
    probe,
    recommend,
    report,
    run,
    score,
    status,
    table,
    tasks,
    theory,
    train,
)
from loralaw.cli.console import printable
from loralaw.cli.lasting_output import lasting
from loralaw.errors import InputError, LoralawError

app = typer.Typer(
    name="loralaw",
    help="Which LoRA rank, how much data, which base model, and will more help? Measured, with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    new.new,
    plan.plan,
    run.run,
    status.status,
    table.table,
    fit.fit,
    judge.judge,
    recommend.recommend,
    design.design,
    check_rule.check_rule,
    report.report,
    probe.probe,
    score.score,
    train.train,
    tasks.tasks,
):
    app.command()(command)
app.add_typer(theory.app, name="theory")


def main() -> None:
    """Run the command line: exit code 2 for the user's mistakes, 1 for the machine's, 130 for Ctrl-C.

    Standard output that cannot be written stops no work; a full disk is told at the end, with exit code 1.
    """
    with lasting("stderr"), lasting("stdout") as output:
        try:
            app()
        except LoralawError as error:
            _tell(error)
            sys.exit(2 if isinstance(error, InputError) else 1)
        except SystemExit as end:
            sys.stdout.flush()
            if refusal := output.refusal():
                _tell(refusal)
                end.code = end.code or 1
            raise


def _tell(error: LoralawError) -> None:
    Console(stderr=True).print(printable(f"error: {error}"), markup=False, highlight=False, soft_wrap=True)
