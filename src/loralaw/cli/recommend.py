"""`loralaw recommend`: what to train, under a target or a budget."""

from typing import Annotated

import typer

from loralaw.cli.source import LargerIsBetter, Source, Task, Template, table_of
from loralaw.errors import InputError


def recommend(
    source: Source,
    target: Annotated[
        str | None, typer.Option(metavar="METRIC=VALUE", help="What is to be reached.", show_default=False)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT=AMOUNT",
            help="Of one training: seconds, hours, gpu_hours, memory_gb or money.",
            show_default=False,
        ),
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="For a budget of money.", show_default=False)] = None,
    metric: Annotated[str, typer.Option(help="What is to be good, where no target names it.")] = "cross_entropy",
    larger_is_better: LargerIsBetter = None,
    task: Task = None,
    template: Template = None,
) -> None:
    """Say which configuration is the cheapest to reach a target, or the best under a budget, and what is next."""
    from loralaw.laws import recommend as recommend_from

    advice = recommend_from(
        table_of(source, task, template),
        target=_pair("--target", target),
        budget=_pair("--budget", budget),
        price_per_hour=price_per_hour,
        metric=metric,
        larger_is_better=larger_is_better,
    )
    for sentence in advice.sentences:
        typer.echo(sentence)


def _pair(option: str, text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    name, _, number = text.partition("=")
    try:
        return {name.strip(): float(number)}
    except ValueError:
        raise InputError(f'{option} is "{text}": give a name and a number, such as seconds=60') from None
