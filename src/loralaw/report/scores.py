"""What configurations score beside their base model: a row each, prompt templates side by side, and other tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loralaw.laws import METRICS, with_interval
from loralaw.laws.estimate import mean_estimate
from loralaw.report.cells import CONFIGURATION, finished
from loralaw.report.wording import ABSENT, duration, significant, whole
from loralaw.store import method_label, task_label

HEADLINES = ("matthews_correlation", "pearson", "choice_accuracy", "accuracy")
"""The first of these that a task has is what its cells are compared by."""
_BESIDE = {"choice_accuracy": "base_choice_accuracy", "accuracy": "base_accuracy"}
_OF_TEMPLATES = ("choice_accuracy", "choice_accuracy_sum", "miub_nats")
"""What can be compared between templates: the loss and accuracy of tokens are of other texts in each."""
MAX_ROWS = 200
LEVEL = 0.95


def by_task(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The rows of each task, in the order of the table; of a single one under no name."""
    tasks = table["task"].unique(maintain_order=True).to_list()
    if len(tasks) < 2:
        return [("", table)]
    return [(str(task), table.filter(pl.col("task").eq_missing(task))) for task in tasks]


def by_text(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The rows of each task and template, whose losses can be compared; of a single one under no name."""
    parts = [
        (", ".join(filter(None, names)), part)  # type: ignore[arg-type]
        for names, part in table.group_by("task", "template", maintain_order=True)
    ]
    return parts if len(parts) > 1 else [("", table)]


def headline_of(table: pl.DataFrame) -> str | None:
    """What the cells of one task are compared by; None where no accuracy was measured."""
    return next((name for name in HEADLINES if table[name].is_not_null().any()), None)


_SETTINGS = (
    ("task", "Task"),
    ("template", "Template"),
    ("base_model", "Base model"),
    ("method", "Method"),
    ("rank", "Rank"),
    ("n_train_examples", "Examples"),
)


@dataclass(frozen=True)
class Scores:
    """A table: headings and rows."""

    headings: list[str]
    rows: list[list[str]]
    n_left_out: int
    """Rows that a page has no room for."""


def scores_of(table: pl.DataFrame, reference: str) -> Scores:
    """A row a configuration: its settings, its score over seeds, what it stands beside, and the time of a training.

    Scores are means over seeds with the standard error of the mean between seeds. The difference from the method
    `reference` is taken seed by seed at the same other settings, with its 95 % interval. Columns that say nothing are
    left out.
    """
    found = [row for _, part in by_task(finished(table)) for row in _rows_of_task(part, reference)]
    rows = found[:MAX_ROWS]
    headings = [*(heading for _, heading in _SETTINGS), "Metric", "Score", "Base model alone", "Commonest answer",
                f"Minus {reference}", "Training"]  # fmt: skip
    told = [at for at, heading in enumerate(headings) if heading == "Base model" or _says_something(at, rows)]
    return Scores([headings[at] for at in told], [[row[at] for at in told] for row in rows], len(found) - len(rows))


def _says_something(at: int, rows: list[list[str]]) -> bool:
    """Whether a column tells rows apart, or is a measurement."""
    values = {row[at] for row in rows}
    return len(values) > 1 if at < len(_SETTINGS) else values != {ABSENT}


def _rows_of_task(part: pl.DataFrame, reference: str) -> list[list[str]]:
    headline = headline_of(part)
    if headline is None:
        return []
    rows = []
    for _, cells in part.group_by(CONFIGURATION, maintain_order=True):
        values, seconds = cells[headline].drop_nulls(), cells["train_seconds"].mean()
        if not len(values):
            continue
        first = cells.row(0, named=True)
        rows.append(
            [
                *(_setting(first[name]) for name, _ in _SETTINGS),
                METRICS[headline].label,
                _mean(values),
                _number(first.get(_BESIDE.get(headline, ""))),
                _number(first["majority_accuracy"]) if headline in _BESIDE else ABSENT,
                _difference(part, cells, headline, reference),
                ABSENT if seconds is None else duration(float(seconds)),  # type: ignore[arg-type]
            ]
        )
    return rows


def _difference(part: pl.DataFrame, cells: pl.DataFrame, metric: str, reference: str) -> str:
    if cells["method"][0] == reference:
        return ABSENT
    same = [name for name in CONFIGURATION if name not in ("method", "rank")]
    others = part.filter(pl.col("method") == reference).join(cells, on=same, how="semi", nulls_equal=True)
    if cells["rank"][0] is not None and others["rank"].is_not_null().any():
        others = others.filter(pl.col("rank") == cells["rank"][0])
    pairs = cells.select("seed", metric).join(others.select("seed", metric), on="seed").drop_nulls()
    if pairs["seed"].n_unique() < pairs.height or not pairs.height:  # several ranks stand beside a method without one
        return ABSENT
    return _interval((pairs[metric] - pairs[f"{metric}_right"]).to_list())


def template_rows(table: pl.DataFrame) -> list[list[str]]:
    """Task, base model, metric, the mean in every template, and their spread; empty with fewer than two templates.

    Means are over the settings that ran in every template. The spread is the largest mean less the smallest; beside it
    stands the standard deviation between seeds of one configuration.
    """
    done = finished(table)
    if done["template"].n_unique() < 2:
        return []
    rows = []
    for (task, base), part in done.group_by("task", "base_model", maintain_order=True):
        names = part["template"].unique(maintain_order=True).to_list()
        settings = [name for name in (*CONFIGURATION, "seed") if name != "template"]
        complete = part.filter(pl.col("template").n_unique().over(settings) == len(names))
        for metric in _OF_TEMPLATES:
            if not complete.height or complete[metric].null_count() == complete.height:
                continue
            means = [complete.filter(pl.col("template") == name)[metric].mean() for name in names]
            known = [float(mean) for mean in means if mean is not None]  # type: ignore[arg-type]
            noise = _between_seeds(complete, metric)
            said = "; ".join(f"{name} {_number(mean)}" for name, mean in zip(map(str, names), means, strict=True))
            rows.append([str(task), str(base), METRICS[metric].label, said, _number(max(known) - min(known)), noise])
    return rows


def other_task_rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """What was forgotten, for each task, template and method that cells were trained in: the score of the base model on
    another task before, the mean after training, and the change.

    The change is over cells, each against its own base model, with its 95 % interval.
    """
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for record in records:
        trained_on = ", ".join(filter(None, (task_label(record["cell"]["task"]), record["cell"].get("template"))))
        for name, score in (record.get("other_tasks") or {}).items():
            before = record.get("baseline", {}).get("other_tasks", {}).get(name, {}).get("choice_accuracy")
            if before is not None and record["status"] == "finished":
                key = trained_on, str(record["cell"]["base_model"]), method_label(record["cell"]["method"]), name
                found.setdefault(key, []).append((before, score["choice_accuracy"]))
    return [
        [trained_on, base, method, name, _number(pairs[0][0]), _number(sum(after for _, after in pairs) / len(pairs)),
         _interval([after - before for before, after in pairs]), f"{len(pairs):,}"]
        for (trained_on, base, method, name), pairs in found.items()
    ]  # fmt: skip


def too_long(table: pl.DataFrame) -> list[str]:
    """Sentences on texts that did not fit into `max_length`, none where all did."""
    done, sentences = finished(table), []
    what = {
        "n_train_examples_cut": "training examples",
        "n_test_rows_cut": "test rows",
        "n_questions_cut": "questions",
    }
    for column, noun in what.items():
        most = int(done[column].max() or 0)  # type: ignore[arg-type]
        if most:
            n_cells = done.filter(pl.col(column) > 0).height
            sentences.append(
                f"In {n_cells:,} of {done.height:,} cells some {noun} were longer than max_length and were cut: up to "
                f"{most:,} in a cell. What was cut off was neither learned nor scored."
            )
    return sentences


def _between_seeds(cells: pl.DataFrame, metric: str) -> str:
    values, cells = pl.col(metric), cells.drop_nulls(metric)
    squares = cells.select(((values - values.mean().over(CONFIGURATION)) ** 2).sum()).item()
    free = cells.height - cells.select(CONFIGURATION).n_unique()
    return significant(math.sqrt(squares / free), 2) if free else ABSENT


def _interval(values: list[float]) -> str:
    """The mean with its 95 % interval by Student's t."""
    if len(values) < 2:
        return significant(values[0])
    mean = mean_estimate(np.array(values))
    return with_interval(mean.value, *mean.interval(LEVEL))


def _mean(values: pl.Series) -> str:
    mean = float(values.mean())  # type: ignore[arg-type]
    if len(values) < 2:
        return significant(mean)
    return f"{significant(mean)} ± {significant(float(values.std()) / math.sqrt(len(values)), 2)}"  # type: ignore[arg-type]


def _setting(value: Any) -> str:
    if value is None:
        return ABSENT
    return whole(value) if isinstance(value, int) else str(value)


def _number(value: Any) -> str:
    return ABSENT if value is None else significant(float(value))
