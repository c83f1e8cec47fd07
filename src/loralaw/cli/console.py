"""Where the commands print: as wide as the terminal, and wide enough for a table where there is none."""

import os
import sys

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 120


def printable(text: str) -> str:
    """A text whose control characters are escaped: names and rows of strangers may hold codes that a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def console() -> Console:
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(width=wide, highlight=False)
