"""What a run says in the terminal when it ends: the answer in words, the laws, and where to look."""

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loralaw.laws import AXES, METRICS, LawFit, describe, fit_all
from loralaw.report.answer import QUALITY, Advice, advise, averages, nothing_to_say
from loralaw.report.cells import finished
from loralaw.report.law_table import law_table
from loralaw.report.page import subtitle
from loralaw.report.wording import ABSENT, counted, significant
from loralaw.store import Study

SHOWN_METRICS = (QUALITY, "accuracy", "choice_accuracy", "miub_nats")


def terminal_summary(study: Study) -> RenderableType:
    """The answer first, in words, then the law table, then where to look. Names are shown as text, never as markup."""
    table = study.table()
    done = finished(table).height
    head = Text(f"{study.name} · {subtitle(table, len(study.planned_keys))}", style="bold")
    if not done:
        return Group(head, Text(nothing_to_say(table, len(study.planned_keys))))
    fits = fit_all(table)
    left = max(len(study.planned_keys), table.height) - done
    missing = f"\n{counted(left, 'cell')} without a result; all numbers are for the {done:,} finished."
    return Group(
        head,
        *([Text(missing)] if left else []),
        Text(),
        _answer(fits),
        Text(),
        _laws(fits),
        Text(),
        _where(study, advise(table)),
    )


def terminal_laws(study: Study) -> RenderableType:
    """Every metric along every axis in a sentence, with what to make of it."""
    fits = fit_all(study.table())
    if not fits:
        return Text("No axis of this study has two levels with a result: there is nothing to fit yet.")
    grid = _grid()
    grid.add_column(overflow="fold")
    for fit in fits:
        name = f"{METRICS[fit.metric].label}, {AXES[fit.axis].label}"
        grid.add_row(Text(name), Text(str(fit.status)), Text(fit.message))
    return Group(_laws(fits), Text(), grid)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _answer(fits: list[LawFit]) -> Table:
    grid = _grid()
    for average in averages(fits):
        grid.add_row(Text(average.title.lower()), Text(f"cross-entropy {average.short}"))
    for fit in fits:
        if fit.metric == "miub_nats":
            grid.add_row(Text(f"MIUB, {AXES[fit.axis].label}"), Text(describe(fit)))
    return grid


def _laws(fits: list[LawFit]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.caption = Text("[95 % interval], for the seeds that were run; gain: one more doubling at the largest size")
    for heading in ("metric", "axis", "status", "exponent", "gain"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "gain")
    for row in law_table([f for f in fits if f.metric in SHOWN_METRICS]).sort(_metric_order()).iter_rows(named=True):
        numbers = [_with_interval(row, name) for name in ("exponent", "gain_of_doubling")]
        names = (METRICS[row["metric"]].label, AXES[row["axis"]].label, row["status"].replace("-", " "))
        table.add_row(*(Text(text) for text in (*names, *numbers)))
    return table


def _metric_order() -> pl.Expr:
    return pl.col("metric").replace_strict({name: i for i, name in enumerate(SHOWN_METRICS)}, return_dtype=pl.Int64)


def _with_interval(row: dict[str, float | None], name: str) -> str:
    if row[name] is None:
        return ABSENT
    return f"{significant(row[name])} [{significant(row[f'{name}_low'])}, {significant(row[f'{name}_high'])}]"


def _where(study: Study, advice: Advice | None) -> Table:
    grid = _grid()
    if advice:
        best, smallest = advice.best, advice.smallest
        grid.add_row(Text("best measured"), Text(f"{best.label}: {best.sentence}; {best.cost}"))
        if smallest.keys != best.keys:
            said = f"{smallest.label}: {significant(smallest.worse_by)} nats/token worse; {smallest.cost}"
            grid.add_row(Text("smallest within noise"), Text(said))
    grid.add_row(Text("report"), Text(str(study.path / "report.html")))
    return grid
