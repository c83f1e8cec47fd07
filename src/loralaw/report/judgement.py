"""The judgement: every metric's scores along every axis, and a sentence for each pair; for terminal and page."""

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loralaw.laws import Judgement, axis_named, metric_named
from loralaw.laws.judging import Score
from loralaw.report.wording import ABSENT, counted, significant

SCORES = (
    ("misfit", "rms of the cells about the metric's own law, over the law's range"),
    ("held-out", "error at levels that were left out, over the range"),
    ("seeds", "spread between seeds over the spread between levels"),
    ("monotonicity", "Kendall's τ of the level means, 1 where every step goes the same way"),
)


def terminal_judgement(found: Judgement) -> RenderableType:
    """The sentences first, then the scores, then the agreement with accuracy. Names are text, never markup."""
    parts: list[RenderableType] = [Text(sentence) for sentence in judgement_sentences(found)]
    if found.scores:
        caption = "[95 % interval]; " + "; ".join(f"{name}: {meaning}" for name, meaning in SCORES)
        parts += [Text(), _table(("metric", "axis", *(name for name, _ in SCORES)), judgement_rows(found), caption)]
    if found.agreements:
        downstream = metric_named(found.agreements[0].downstream).label
        heading = f"agreement with {downstream}"
        caption = f"Spearman's correlation with {downstream} over configurations, +1: better together"
        parts += [Text(), _table(("metric", heading, "configurations"), agreement_rows(found), caption)]
    return Group(*parts)


def judgement_sentences(found: Judgement) -> list[str]:
    """One for each pair that was compared, each axis that was not judged, and the rows that were left out."""
    left_out = f"{counted(found.n_left_out, 'row')} left out: not finished, or without one of the metrics."
    return [
        *(f"{comparison.sentence}." for comparison in found.comparisons),
        *(f"{reason[:1].upper()}{reason[1:]}." for reason in found.not_judged),
        *([left_out] if found.n_left_out else []),
    ]


def judgement_rows(found: Judgement) -> list[tuple[str, ...]]:
    """Metric, axis, and the four scores with their intervals."""
    return [
        (
            metric_named(each.metric).label,
            axis_named(each.axis).label,
            *map(_score, (each.misfit, each.held_out, each.seed_spread, each.monotonicity)),
        )
        for each in found.scores
    ]


def agreement_rows(found: Judgement) -> list[tuple[str, ...]]:
    """Metric, correlation with its interval, and how many configurations were ranked."""
    return [
        (metric_named(each.metric).label, _score(each.correlation), f"{each.n_configurations:,}")
        for each in found.agreements
    ]


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]], caption: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.caption = Text(caption)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _score(score: Score) -> str:
    if math.isnan(score.value):
        return ABSENT
    return f"{significant(score.value, 2)} [{significant(score.low, 2)}, {significant(score.high, 2)}]"
