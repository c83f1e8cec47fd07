"""`loralaw probe`: how much a saved adapter leans on its base model, layer by layer."""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loralaw.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from loralaw.miub import ProbeResult


def probe(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="A folder that PEFT has saved, or a hub name.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="JSONL, CSV or Parquet with a column text (or prompt and completion), or a .txt file: a text a line.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The base model; the one the adapter names if not given.", show_default=False
        ),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What is measured; may be repeated. channel and jsd if not given."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="At most so many rows, always the same ones.")] = 256,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens of a row; longer ones are cut.")] = 512,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a forward pass.")] = 8,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write all numbers here.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write one page with the heat map here.", show_default=False)
    ] = None,
) -> None:
    """Measure how much a saved LoRA adapter leans on its frozen base (MIUB), at every layer."""
    from loralaw.cli.console import console, printable
    from loralaw.store.atomic import write_json
    from loralaw.tasks import read_texts, sample

    _check_places(data, json_, html)
    texts = list(sample(read_texts(data), rows))
    result = _measured(adapter, base, texts, estimator, batch_size, max_length)
    screen = console()
    try:  # files first: a terminal may be gone; but where a disk refuses, the numbers are still shown
        if json_ is not None:
            write_json(json_, result.as_dict())
        if html is not None:
            from loralaw.report import write_heat_map

            write_heat_map(result.as_dict() | {"command": shlex.join(["loralaw", *sys.argv[1:]])}, html)
    finally:
        for part in _shown(result, data):
            screen.print(part)
    for path in filter(None, (json_, html)):
        screen.print(printable(str(path)), markup=False, soft_wrap=True)


def _check_places(data: Path, json_: Path | None, html: Path | None) -> None:
    """Refuse results that cannot be written, or that would take the place of the data or of each other."""
    from loralaw.store.atomic import check_place

    taken = {os.path.realpath(data): "--data"}
    for option, path in (("--json", json_), ("--html", html)):
        if path is None:
            continue
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise InputError(f"{other} and {option} are both {path}: give each a file of its own")
        check_place(path)


def _measured(
    adapter: str, base: str | None, texts: list[str], estimators: list[str] | None, batch_size: int, max_length: int
) -> "ProbeResult":
    import torch

    from loralaw.miub import DEFAULT_ESTIMATORS
    from loralaw.miub import probe as probe_model
    from loralaw.models import load_adapted_model

    loaded = load_adapted_model(adapter, base)
    result = probe_model(
        loaded.model.to("cuda" if torch.cuda.is_available() else "cpu"),
        texts,
        tokenizer=loaded.tokenizer,
        estimators=tuple(estimators or DEFAULT_ESTIMATORS),
        batch_size=batch_size,
        max_length=max_length,
    )
    return replace(result, adapter=adapter, base_model=loaded.base.name)


def _shown(result: "ProbeResult", data: Path) -> list["Text | Table"]:
    """What the screen shows. Names are shown as text, never as markup."""
    from rich.text import Text

    from loralaw.report.layer_measures import measures_in
    from loralaw.report.wording import counted

    first = measures_in(name for name in result.means if name.endswith("_nats"))[0]
    size = f"{counted(result.n_sequences, 'row')} of {data}, {counted(result.n_tokens, 'token')}"
    return [
        Text(f"{result.adapter} on {result.base_model}", style="bold"),
        Text(f"{size}; {counted(len(result.layers), 'adapted layer')}"),
        Text(f"\n{first.title}, by layer"),
        _by_layer(result, first.name),
        Text("\nMean over layers"),
        _means(result),
        *(Text(f"not measured: {name}: {reason}") for name, reason in result.skipped.items()),
    ]


def _by_layer(result: "ProbeResult", measure: str) -> "Table":
    from rich.text import Text

    from loralaw.report.layer_grid import layer_grid
    from loralaw.report.wording import significant

    grid = layer_grid(str(layer["layer"]) for layer in result.layers)
    means = grid.means((str(layer["layer"]), float(layer[measure])) for layer in result.layers)
    table = _table("layer", *grid.columns)
    for row, values in zip(grid.rows, means, strict=True):
        table.add_row(Text(row), *map(significant, values))
    return table


def _means(result: "ProbeResult") -> "Table":
    from loralaw.report.layer_measures import measures_in
    from loralaw.report.wording import significant

    table = _table("measure", "mean", "standard error")
    for measure in measures_in(result.means):
        mean, stderr = result.means[measure.name], result.means.get(measure.stderr_name)
        table.add_row(measure.title, significant(mean), significant(stderr))
    return table


def _table(first: str, *others: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in others:
        table.add_column(Text(heading), justify="right", overflow="fold")
    return table
