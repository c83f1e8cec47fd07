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
    """Run the command line: exit code 2 for the user's mistakes, 1 for the machine's, 130 for Ctrl-C."""
    if hasattr(sys.stdout, "reconfigure"):  # a terminal may know fewer characters than we print; errors are escaped
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except LoralawError as error:
        Console(stderr=True).print(printable(f"error: {error}"), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; that is not an error
        sys.exit(0)
