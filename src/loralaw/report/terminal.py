"""What a run says in the terminal when it ends: the answer in words, the laws, and where to look."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loralaw.laws import AXES, JointFit, LawFit, axis_named, describe, fit_all, metric_named
from loralaw.laws.sentences import parameter_said
from loralaw.report.answer import QUALITY, Advice, advise, averages, nothing_to_say
from loralaw.report.cells import finished
from loralaw.report.law_table import law_table
from loralaw.report.page import subtitle
from loralaw.report.scores import by_text, too_long
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
    shown = sorted((f for f in fits if f.metric in SHOWN_METRICS), key=lambda f: SHOWN_METRICS.index(f.metric))
    left = max(len(study.planned_keys), table.height) - done
    missing = f"\n{counted(left, 'cell')} without a result; all numbers are for the {done:,} finished."
    return Group(
        head,
        *([Text(missing)] if left else []),
        *(Text(sentence) for sentence in too_long(table)),
        Text(),
        *((_answer(fits), Text(), _laws(shown), Text()) if shown else ()),
        _where(study, [(task, advise(part)) for task, part in by_text(table)]),
    )


def terminal_laws(fits: list[LawFit]) -> RenderableType:
    """Every metric along every axis in a sentence, with what to make of it."""
    if not fits:
        return Text("No axis has two levels with a result: there is nothing to fit yet.")
    return Group(_laws(fits), Text(), *_messages(fits))


def terminal_joint_laws(fits: list[JointFit]) -> RenderableType:
    """The parameters of every metric's law along several axes with their intervals, and what to make of it."""
    if not fits:
        return Text("No metric has a result: there is nothing to fit yet.")
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.caption = Text("[95 % interval], for the seeds that were run")
    for heading in ("metric", "status", "parameter", "value"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "parameter")
    for fit in fits:
        names = metric_named(fit.metric).label, str(fit.status).replace("-", " ")
        for number, (name, value) in enumerate(fit.params.items() or [(ABSENT, None)]):
            said = ABSENT if value is None else parameter_said(value, *fit.interval(name))
            table.add_row(*map(Text, names if number == 0 else ("", "")), Text(name), Text(said))
    return Group(table, Text(), *_messages(fits))


def _messages(fits: Sequence[LawFit | JointFit]) -> list[RenderableType]:
    """A paragraph a fit."""
    paragraphs: list[RenderableType] = []
    for fit in fits:
        axes = fit.axes if isinstance(fit, JointFit) else (fit.axis,)
        title = f"{metric_named(fit.metric).label}, {', '.join(axis_named(axis).label for axis in axes)}: "
        paragraphs += [Text.assemble((title, "bold"), fit.message), Text()]
    return paragraphs[:-1]


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
        table.add_column(heading, overflow="fold")
    for row in law_table(fits).iter_rows(named=True):
        numbers = [_with_interval(row, name) for name in ("exponent", "gain_of_doubling")]
        names = (metric_named(row["metric"]).label, axis_named(row["axis"]).label, row["status"].replace("-", " "))
        table.add_row(*(Text(text) for text in (*names, *numbers)))
    return table


def _with_interval(row: dict[str, float | None], name: str) -> str:
    if row[name] is None:
        return ABSENT
    return f"{significant(row[name])} [{significant(row[f'{name}_low'])}, {significant(row[f'{name}_high'])}]"


def _where(study: Study, advised: list[tuple[str, Advice | None]]) -> Table:
    grid = _grid()
    for task, advice in advised:
        if advice is None:
            continue
        if task:
            grid.add_row(Text(task), Text())
        best, smallest = advice.best, advice.smallest
        grid.add_row(Text("best measured"), Text(f"{best.label}: {best.sentence(advice.noise)}; {best.cost}"))
        if smallest.keys != best.keys:
            grid.add_row(Text("smallest within noise"), Text(f"{smallest.label}: {advice.worse_by}; {smallest.cost}"))
    grid.add_row(Text("report"), Text(str(study.path / "report.html")))
    return grid
