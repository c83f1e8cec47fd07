"""`loralaw check-rule`: a folk rule against a study's cells."""

from pathlib import Path
from typing import Annotated

import typer


def check_rule(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|TABLE", help="A study folder, or a table (CSV, Parquet, JSON).", show_default=False
        ),
    ],
    rule: Annotated[
        str | None, typer.Argument(metavar="RULE", help="Its name; all of them if not given.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option(help="Column of the metric.")] = "cross_entropy",
    larger_is_better: Annotated[
        bool | None,
        typer.Option(
            "--larger-is-better/--smaller-is-better",
            help="The direction of the metric; the known one, or smaller, if not given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say whether a rule of thumb on rank or lora_alpha holds in a study, fails, or cannot be told."""
    from loralaw.cli.source import table_of
    from loralaw.errors import TableError
    from loralaw.laws import RULES
    from loralaw.laws import check_rule as check

    table = table_of(source)
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
