"""The cost section: quality against training time, and the front of what nothing cheaper beats."""

import polars as pl

from loralaw.laws import METRICS
from loralaw.report import plots
from loralaw.report.answer import QUALITY, Configuration, configurations, noise_of
from loralaw.report.cells import finished, shown
from loralaw.report.law_panels import series_of, title_of
from loralaw.report.plots import rounded
from loralaw.report.scores import by_text


def pareto_front(configured: list[Configuration]) -> list[Configuration]:
    """The configurations that no cheaper or equally cheap one beats, cheapest first."""
    front: list[Configuration] = []
    timed = [c for c in configured if c.train_seconds is not None]
    for one in sorted(timed, key=lambda c: (c.train_seconds or 0.0, c.cross_entropy)):
        if not front or one.cross_entropy < front[-1].cross_entropy:
            front.append(one)
    return front


def cost_figure(table: pl.DataFrame) -> plots.Figure | None:
    """Cells by training seconds and cross-entropy with the front; None if either was not measured."""
    usable = finished(shown(table).with_row_index("cell_number")).filter(
        pl.col(QUALITY).is_finite() & (pl.col("train_seconds") > 0)
    )
    if not usable.height:
        return None
    points = []
    for one in series_of(table):
        mine = usable.filter((pl.col("base_model") == one.base_model) & (pl.col("method") == one.method))
        if mine.height:
            points.append(
                plots.Points(
                    label=one.label,
                    series=one.number,
                    x=[rounded(v) for v in mine["train_seconds"]],
                    y=[rounded(v) for v in mine[QUALITY]],
                    cells=mine["cell_number"].to_list(),
                )
            )
    noise = noise_of(table)
    front = [
        (rounded(c.train_seconds or 0.0), rounded(c.cross_entropy), f"{c.label}: {c.sentence(noise)}, {c.cost}")
        for c in (
            pareto_front(configurations(table)) if len(by_text(table)) == 1 else ()
        )  # losses of other texts do not compete
    ]
    ends = (float(usable["train_seconds"].min()), float(usable["train_seconds"].max()))  # type: ignore[arg-type]
    return plots.cost_panel(
        plots.Axis("Training time of a cell (s)", log=ends[1] > 4 * ends[0], ends=ends),
        plots.Axis(title_of(METRICS[QUALITY])),
        points,
        front,
    )
