"""The page of a study: the answer first, then the evidence."""

from pathlib import Path
from typing import Any

import polars as pl

from loralaw.errors import LoralawError
from loralaw.laws import AXES, METRICS, STUDY_AXES, Judgement, LawFit, describe, fit_all, judge, metric_named, recommend
from loralaw.report import cells, inside, plots, provenance
from loralaw.report.answer import QUALITY, advise, averages, limits, nothing_to_say
from loralaw.report.cost import cost_figure
from loralaw.report.html_page import render_page
from loralaw.report.judgement import SCORES, agreement_rows, judgement_rows, judgement_sentences
from loralaw.report.law_panels import VIEWS, HeldOut, held_out, law_figures, level_rows, series_of, title_of
from loralaw.report.layer_measures import measures_in
from loralaw.report.row_scale import SCALE_MEASURES, RowScales, drift_note, off_rows, row_scale_figures, row_scales_of
from loralaw.report.row_scale_patterns import patterns
from loralaw.report.scores import by_text, other_task_rows, scores_of, template_rows
from loralaw.report.wording import counted, duration
from loralaw.store import Study, StudyFile, method_label, write_text

HEADLINE_METRICS = (QUALITY, "miub_nats")
"""Metrics whose sentences stand in the answer; the others are a selector away."""


def write_report(study: Study | StudyFile, path: Path | None = None) -> Path:
    """Write the report of a study, finished or not, as one HTML file.

    Args:
        study: an open study.
        path: where to; if not given, `report.html` in the study's folder, or beside the study's file under its name.

    Returns:
        The path written.

    Raises:
        StorageError: the disk refused; an older report is left as it was.
        StudyFolderError: a study file holds what no study has.
    """
    if path is None:
        path = study.path.with_suffix(".html") if isinstance(study, StudyFile) else study.path / "report.html"
    try:
        page = render(study)
    except LoralawError:
        raise
    except Exception as error:
        if isinstance(study, StudyFile):  # from anywhere, and only its outline is checked on reading
            raise study.damage(f"its page cannot be drawn ({type(error).__name__}: {error})") from error
        raise
    write_text(path, page)
    return path


def render(study: Study | StudyFile) -> str:
    """The page as text."""
    records, table = study.records(), study.table()
    fits = fit_all(table) if cells.finished(table).height else []
    shown = [f for f in fits if f.axis in STUDY_AXES]
    checks = [held_out(table, f) for f in shown]
    bases = list(dict.fromkeys(s.base_model for s in series_of(table)))
    layers, scales = inside.layers_by_base_model(records, bases), row_scales_of(records, bases)
    figures = {
        "cells": [plots.hover_text(cells.hover_lines(row)) for row in cells.shown(table).iter_rows(named=True)],
        "laws": law_figures(table, shown, checks),
        "inside": [inside.inside_figures(base) for base in layers],
        "row_scale": [row_scale_figures(one) for one in scales],
        "cost": cost_figure(table),
    }
    return render_page(
        "study.html.j2",
        figures,
        name=study.name,
        subtitle=subtitle(table, len(study.planned_keys)),
        **_answer(table, records, fits, len(study.planned_keys)),
        **_laws(table, shown, checks),
        judgements=_judgements(table),
        **_scores(study, table, records),
        **_inside(layers),
        row_scales=_row_scales(scales),
        has_folders=isinstance(study, Study),
        cost_is_drawn=figures["cost"] is not None,
        trained_two_ways={"packed", "trainer"} <= {record["provenance"].get("path") for record in records},
        **_cells(table, records),
        **_made(study, records),
    )


def _answer(table: pl.DataFrame, records: list[dict[str, Any]], fits: list[LawFit], n_planned: int) -> dict[str, Any]:
    shown = [f for f in fits if f.axis in STUDY_AXES]
    return {
        "n_finished": cells.finished(table).height,
        "nothing_to_say": nothing_to_say(table, n_planned),
        "averages": averages(fits),
        "advised": [(task, advice, _next_steps(part)) for task, part in by_text(table) if (advice := advise(part))],
        "headlines": [
            (title_of(METRICS[metric]), [(AXES[f.axis].label, sentence(f)) for f in shown if f.metric == metric])
            for metric in HEADLINE_METRICS
            if any(f.metric == metric for f in shown)
        ],
        "limits": limits(table, records, fits, n_planned),
    }


def _laws(table: pl.DataFrame, fits: list[LawFit], checks: list[HeldOut | None]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(f.metric for f in fits))
    axes = [axis for axis in STUDY_AXES if any(f.axis == axis for f in fits)]
    by_pair = {(f.metric, f.axis): (f, check) for f, check in zip(fits, checks, strict=True)}
    panels = [
        {
            "axis": axis,
            "title": AXES[axis].label,
            "captions": [
                {
                    "metric": metric,
                    "sentence": sentence(fit),
                    "message": fit.message,
                    "status": str(fit.status).replace("-", " "),
                    "levels": level_rows(fit),
                    "held_out": check.sentence if check else "",
                    "label": METRICS[metric].label,
                }
                for metric in metrics
                for fit, check in [by_pair.get((metric, axis), (None, None))]
                if fit is not None
            ],
        }
        for axis in axes
    ]
    legend = [(s.label, s.number % 7 + 1, plots.symbol(s.number)) for s in series_of(table)]
    return {"metrics": [(m, title_of(METRICS[m])) for m in metrics], "panels": panels, "legend": legend, "views": VIEWS}


def _scores(study: Study | StudyFile, table: pl.DataFrame, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "scores": scores_of(table, _first_method(study, table)),
        "template_scores": template_rows(table),
        "other_tasks": other_task_rows(records),
    }


def _first_method(study: Study | StudyFile, table: pl.DataFrame) -> str:
    """Of the study file, as the table calls it; of a study from elsewhere the first that ran."""
    methods = study.settings.get("methods")
    if methods:
        return method_label({name: value for name, value in methods[0].items() if value is not None})
    return str(table["method"][0]) if table.height else ""


def _judgements(table: pl.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """Of every task which metric obeys the law, as far as there is anything to judge."""
    found = [(task, judge(part)) for task, part in by_text(table) if cells.finished(part).height]
    return [(task, _judgement(one)) for task, one in found if one.scores or one.agreements or one.not_judged]


def _judgement(found: Judgement) -> dict[str, Any]:
    return {
        "sentences": judgement_sentences(found),
        "scores": judgement_rows(found),
        "meanings": SCORES,
        "agreements": agreement_rows(found),
        "downstream": metric_named(found.agreements[0].downstream).label if found.agreements else "",
    }


def _next_steps(table: pl.DataFrame) -> list[str]:
    """What to train where nothing is limited, and what doubling would buy."""
    measured = cells.finished(table).filter(pl.col(QUALITY).is_finite())
    return recommend(table, metric=QUALITY).sentences if measured.height else []


def _inside(layers: list[inside.BaseModelLayers]) -> dict[str, Any]:
    measures = measures_in(name for base in layers for name in base.measured())
    return {
        "layer_bases": [(i, base.base_model, base.n_cells, base.ranks) for i, base in enumerate(layers)],
        "measures": [(m.name, m.title, m.meaning) for m in measures],
        "ranks": sorted({rank for base in layers for rank in base.ranks}),
    }


def _row_scales(scales: list[RowScales]) -> dict[str, Any] | None:
    if not scales:
        return None
    return {
        "groups": [(one.label, counted(len(one.cells), "cell"), drift_note(one)) for one in scales],
        "measures": [(m.name, m.title, m.meaning) for m in SCALE_MEASURES],
        "patterns": patterns(scales),
        "off": [off_rows(one) for one in scales],
    }


def _cells(table: pl.DataFrame, records: list[dict[str, Any]]) -> dict[str, Any]:
    picked = cells.shown(table)
    return {
        "columns": cells.columns_with_values(picked),
        "rows": cells.table_rows(picked),
        "n_rows_all": table.height,
        "statuses": sorted(set(table["status"])),
        "failures": cells.failures(table, records),
    }


def _made(study: Study | StudyFile, records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "settings": provenance.settings_text(study.settings),
        "made_with": provenance.made_with(study.provenance, records),
        "hashes": provenance.hashes(records),
        "command": provenance.command(study.provenance),
    }


def subtitle(table: pl.DataFrame, n_planned: int) -> str:
    """What was run: `72 cells · 3 base models × 4 ranks × 3 data sizes × 2 seeds · 2 min 41 s of training`."""
    done = cells.finished(table)
    n_all = max(n_planned, table.height)
    parts = [counted(n_all, "cell") if done.height == n_all else f"{done.height:,} of {n_all:,} cells finished"]
    if table.height:
        parts.append(_axes(table))
    if done.height and done["train_seconds"].null_count() < done.height:
        parts.append(f"{duration(float(done['train_seconds'].sum()))} of training")
    return " · ".join(parts)


def _axes(table: pl.DataFrame) -> str:
    """`3 base models × 4 ranks × 3 data sizes × 2 seeds`, and how many cells have no rank."""
    ranked = table.filter(pl.col("rank").is_not_null())
    crossed = ranked if ranked.height else table
    axes = [("base_model", "base model"), ("rank", "rank"), ("n_train_examples", "data size"), ("seed", "seed")]
    for column in ("template", "task", "method"):
        if crossed[column].n_unique() > 1:
            axes.insert(1, (column, column))
    counts = " × ".join(counted(crossed[c].n_unique(), noun) for c, noun in axes if crossed[c].drop_nulls().len())
    if not ranked.height:
        return f"full fine-tuning of {counts}"
    n_without = table.height - ranked.height
    return f"{counts}, and {counted(n_without, 'cell')} of full fine-tuning" if n_without else counts


def sentence(fit: LawFit) -> str:
    """The sentence of a fit as one that stands alone."""
    text = describe(fit)
    return f"{text[:1].upper()}{text[1:]}."
