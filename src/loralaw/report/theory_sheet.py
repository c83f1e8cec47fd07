"""What the theory says, for the terminal and for a page of one file: sentences, plots, numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from loralaw.report.html_page import render_page
from loralaw.report.plots import Figure
from loralaw.report.theory_plot import Key
from loralaw.store import write_text

GAP = 2
"""Between columns in the terminal."""


@dataclass(frozen=True)
class Panel:
    """A plot, and what it shows for whoever cannot see it."""

    title: str
    figure: Figure
    spoken: str


@dataclass(frozen=True)
class Numbers:
    """A table: the first column names, the others are numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """All that one command of the theory found."""

    title: str
    subtitle: str
    """The setting."""
    lead: list[str]
    """The answer in words."""
    panels: list[Panel]
    keys: list[Key]
    """The legend of all panels."""
    numbers: list[Numbers]
    notes: list[str] = field(default_factory=list)
    """How to read it."""


def terminal_sheet(sheet: Sheet) -> RenderableType:
    """The answer in words, then the numbers. Names are shown as text, never as markup."""
    parts: list[RenderableType] = [Text(sheet.title, style="bold"), Text(sheet.subtitle), Text()]
    parts += [Text(sentence) for sentence in sheet.lead]
    for numbers in sheet.numbers:
        parts += [Text(), Text(numbers.title, style="bold"), _Table(numbers)]
        parts += [Text(numbers.note)] if numbers.note else []
    parts += [Text(), *(Text(note) for note in sheet.notes)] if sheet.notes else []
    return Group(*parts)


def write_sheet(sheet: Sheet, path: Path, command: str) -> Path:
    """Write the sheet as one HTML file that asks no host for anything.

    Args:
        sheet: what to show; every text is escaped.
        path: where to.
        command: the command that makes it again.

    Raises:
        InputError: no place for a file.
        StorageError: the disk refused; an older file is left as it was.
    """
    figures = {str(i): panel.figure for i, panel in enumerate(sheet.panels)}
    write_text(path, render_page("theory.html.j2", {"theory": figures}, sheet=sheet, command=command))
    return path


class _Table:
    """A table that knows how wide the terminal is: headings and names fold before any number does."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headings, rows = self._numbers.headings, self._numbers.rows
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column, width in enumerate(_widths(headings, rows, options.max_width)):
            table.add_column(
                Text(headings[column]), justify="right" if column else "left", overflow="fold", width=width
            )
        for row in rows:
            table.add_row(*map(Text, row))
        yield table


def _widths(headings: list[str], rows: list[list[str]], room: int) -> Sequence[int | None]:
    """Of all columns; what is left over goes to the first that could use it. None where not even the numbers fit."""
    columns = list(zip(*rows, strict=True))
    cells = [max(map(cell_len, column)) for column in columns]
    pairs = list(zip(headings, cells, strict=True))
    whole = [max(cell_len(heading), cell) for heading, cell in pairs]
    words = [max([cell, *map(cell_len, heading.split())]) for heading, cell in pairs]
    for least in (words, cells, [1, *cells[1:]]):
        spare = room - sum(least) - GAP * (len(least) - 1)
        if spare >= 0:
            widths = []
            for wanted, width in zip(whole, least, strict=True):
                more = min(spare, wanted - width)
                widths.append(width + more)
                spare -= more
            return widths
    return [None] * len(headings)
