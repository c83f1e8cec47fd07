"""`loralaw design`: which cells to run next."""

from collections import Counter
from typing import Annotated

import typer

from loralaw.cli.source import LargerIsBetter, Source, Task, Template, table_of


def design(
    source: Source,
    k: Annotated[int | None, typer.Option("-k", help="How many at most; 8 if no budget is given.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="What they may cost together, in the unit of the costs.", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option(help="Column of the metric.")] = "cross_entropy",
    cost: Annotated[str, typer.Option(help="Column of the costs; none if all cells cost the same.")] = "train_seconds",
    larger_is_better: LargerIsBetter = None,
    task: Task = None,
    template: Template = None,
) -> None:
    """Say which cells to run next: those that tell most about the best configuration, for what they cost."""
    from loralaw.laws import design as design_from
    from loralaw.laws import metric_named, three_digits

    if k is None and budget is None:
        k = 8
    found = design_from(
        table_of(source, task, template),
        k,
        budget=budget,
        metric=metric,
        cost=None if cost == "none" else cost,
        larger_is_better=larger_is_better,
    )
    label, unit = metric_named(metric).label, f" {metric_named(metric).unit}".rstrip()
    now, then = three_digits(found.width), three_digits(found.expected_width)
    typer.echo(f"To know the law of {label} at {found.question}")
    typer.echo(f"to {then}{unit} instead of {now} (width of 95 %), run:")
    for name, times in Counter(found.labels).items():
        each = f"{found.costs[found.labels.index(name)]:,.3g}" + (" each" if times > 1 else "")
        seeds = f", {times} new seeds" if times > 1 else ""
        typer.echo(f"  {name}{seeds}" + ("" if cost == "none" else f"  ({cost} {each})"))
    for note in found.notes:
        typer.echo(note)
