"""What the theory says, for the terminal and for a page of one file: sentences, plots, numbers."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loralaw.report.html_page import render_page
from loralaw.report.plots import Figure
from loralaw.report.theory_plot import Key
from loralaw.store import write_text


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
        parts += [Text(), Text(numbers.title, style="bold"), _table(numbers)]
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


def _table(numbers: Numbers) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, heading in enumerate(numbers.headings):
        table.add_column(Text(heading), justify="right" if column else "left", overflow="fold")
    for row in numbers.rows:
        table.add_row(*map(Text, row))
    return table
