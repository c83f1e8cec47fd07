"""What the commands of `loralaw theory` share: options, their names in messages, and where the page goes."""

import math
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loralaw.errors import InputError

if TYPE_CHECKING:
    from loralaw.report.theory_sheet import Sheet
    from loralaw.theory import FineTuning, Regression

FURTHEST = 1e6
MOST_ENTRIES = 100_000_000
"""Of a matrix that a simulation makes: 0.8 GB."""

_OPTIONS = (
    "n_source", "n_target", "dim", "mu_norm", "mu_orth_norm", "beta", "gamma_source", "gamma_target", "dot_target_mean",
    "n_outputs", "noise_std", "gamma", "source_norm_sq", "target_norm_sq", "source_target_inner",
)  # fmt: skip
_NAMES = {name: "--" + name.replace("_", "-") for name in _OPTIONS}
_NAMES |= {"norm_sq": "--source-norm-sq"}
"""What a message of the theory calls an argument, and the command line the option."""

_WORDS = "|".join(name for name in _NAMES if "_" in name)
_ARGUMENT = re.compile(rf"^({'|'.join(_NAMES)})(?==)|(?<![-\w])({_WORDS})\b")
"""Where a message means an argument: `dim=` at its start; a name that no plain word is like, anywhere."""

NTarget = Annotated[int, typer.Option(metavar="N", help="n, rows to fine-tune on.")]
Dim = Annotated[int, typer.Option(metavar="N", help="p, features.")]
Ends = tuple[float, float]
From = Annotated[float, typer.Option("--from", metavar="X", help="Smallest α of the plot.")]
To = Annotated[float, typer.Option("--to", metavar="X", help="Largest α of the plot.")]
Simulate = Annotated[
    int | None,
    typer.Option(min=2, metavar="N", help="Simulate too, with so many draws of all training rows.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="The page with the plot; theory-NAME.html here if not given."),
]
Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]


@contextmanager
def asked_by_options() -> Iterator[None]:
    """Messages of the theory name its arguments as the options are; numbers too large for it are shown as absent."""
    import numpy as np

    try:
        with np.errstate(all="ignore"):
            yield
    except InputError as error:
        raise InputError(_ARGUMENT.sub(lambda found: _NAMES[found[0]], str(error))) from None


def ends_of(from_: float, to: float) -> Ends:
    """Both ends of the plot.

    Raises:
        InputError: they are no range, or too far out to be computed with.
    """
    for option, value in (("--from", from_), ("--to", to)):
        if not abs(value) <= FURTHEST:
            raise InputError(f"{option}={value:g}: give a number from -{FURTHEST:,.0f} to {FURTHEST:,.0f}")
    if from_ >= to or math.isclose(from_, to):
        raise InputError(f"--from={from_:g} --to={to:g}: give a range that goes up, such as --from=-10 --to=10")
    return from_, to


def check_size(setting: "FineTuning | Regression") -> None:
    """Refuse a simulation that no ordinary memory holds.

    Raises:
        InputError: one of its matrices would have more than `MOST_ENTRIES` numbers.
    """
    from loralaw.theory import BinaryTarget, Regression, RidgeSource

    if isinstance(setting, Regression):
        n, dim, d = int(setting.n_target), int(setting.dim), int(setting.n_outputs)
        entries, sizes = max(n, dim) * (dim + d), {"n_target": n, "dim": dim, "n_outputs": d}
    else:
        source, target = setting.source, setting.target
        assert isinstance(target, BinaryTarget)
        n, dim = int(target.n_target), int(target.dim)
        sizes = {"n_target": n, "dim": dim}
        if isinstance(source, RidgeSource):
            n = max(n, int(source.n_source))
            sizes = {"n_source": int(source.n_source), **sizes}
        entries = min(n, dim) * dim
    if entries > MOST_ENTRIES:
        asked = ", ".join(f"{_NAMES[name]}={size:,}" for name, size in sizes.items())
        raise InputError(
            f"--simulate with {asked} takes {entries:.2g} numbers at once, of at most {MOST_ENTRIES:,}: give fewer, "
            "or leave out --simulate (the theory holds from about 100 features)"
        )


def place_of(out: Path | None, name: str) -> Path:
    """Where the page goes, refused before anything is computed if nothing can be written there."""
    from loralaw.store.atomic import check_place

    if out == Path("-"):
        raise InputError(f"--out=-: the page goes into a file, not to standard output: name it, as theory-{name}.html")
    place = out or Path(f"theory-{name}.html")
    check_place(place)
    return place


def show(sheet: "Sheet", place: Path, open_: bool) -> None:
    """Write the page and print the answer, which is also shown where the disk refuses."""
    from loralaw.cli.console import console, printable
    from loralaw.report.theory_sheet import terminal_sheet, write_sheet

    screen = console()
    try:
        write_sheet(sheet, place, shlex.join(["loralaw", *sys.argv[1:]]))
    finally:
        screen.print(terminal_sheet(sheet))
    screen.print(printable(f"\n{place}"), markup=False, soft_wrap=True)
    if open_:
        typer.launch(str(place))
