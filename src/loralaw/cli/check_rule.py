"""`loralaw check-rule`: a folk rule against a study's cells."""

from typing import Annotated

import typer

from loralaw.cli.source import LargerIsBetter, Source, Task, Template, table_of


def check_rule(
    source: Source,
    rule: Annotated[
        str | None, typer.Argument(metavar="RULE", help="Its name; all of them if not given.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option(help="Column of the metric.")] = "cross_entropy",
    larger_is_better: LargerIsBetter = None,
    task: Task = None,
    template: Template = None,
) -> None:
    """Say whether a rule of thumb on rank or lora_alpha holds in a study, fails, or cannot be told."""
    from loralaw.errors import TableError
    from loralaw.laws import RULES
    from loralaw.laws import check_rule as check

    table = table_of(source, task, template)
    for name in RULES if rule is None else [rule]:
        try:
            found = check(table, name, metric=metric, larger_is_better=larger_is_better)
        except TableError as error:
            if rule is not None:
                raise
            typer.echo(f"{name} ({RULES[name].text}): cannot be asked of this table: {error}")
            continue
        left_out = f"; {found.n_left_out:,} rows left out" if found.n_left_out else ""
        typer.echo(f"{name} ({found.rule.text}): {found.verdict}{left_out}")
        for finding in found.findings:
            typer.echo(f"  {finding.sentence}")
