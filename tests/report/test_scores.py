"""What configurations score, beside their base model and each other: every number by hand or by scipy."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from synthetic_study import write_synthetic

from loralaw.report import write_report
from loralaw.report.scores import (
    MAX_ROWS,
    by_task,
    headline_of,
    other_task_rows,
    scores_of,
    template_rows,
    too_long,
)
from loralaw.report.wording import ABSENT, significant
from loralaw.store import COLUMNS, open_study, write_json

HOSTILE = "<script>alert(1)</script>"
CELL = {"base_model": "m", "method": "lora", "rank": 4, "n_train_examples": 8, "task": "t", "seed": 0}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    done = [{**CELL, "status": "finished", "train_seconds": 2.0, **row} for row in rows]
    return pl.DataFrame([{name: row.get(name) for name in COLUMNS} for row in done], schema=COLUMNS)


def columns(given: pl.DataFrame, reference: str = "lora") -> list[dict[str, str]]:
    """The rows by their headings; what a column says of no row, the table leaves out."""
    found, left_out = scores_of(given, reference), ("Base model alone", "Commonest answer", f"Minus {reference}")
    return [dict.fromkeys(left_out, ABSENT) | dict(zip(found.headings, row, strict=True)) for row in found.rows]


def numbers(text: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"[−-]?\d+(?:\.\d+)?", text)]


def t_interval(differences: list[float]) -> list[float]:
    """Mean and ends as scipy has them."""
    mean, stderr = np.mean(differences), stats.sem(differences)
    return [float(mean), *map(float, stats.t.interval(0.95, len(differences) - 1, mean, stderr))]


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds differ by far more than methods do: unpaired, nothing could be told."""
    of_lora, of_dora = [0.31, 0.55, 0.72, 0.40], [0.33, 0.58, 0.73, 0.44]
    rows = [{"seed": s, "choice_accuracy": v} for s, v in enumerate(of_lora)]
    rows += [{"seed": s, "choice_accuracy": v, "method": "dora"} for s, v in reversed(list(enumerate(of_dora)))]
    lora, dora = columns(table(*rows))
    assert (lora["Method"], dora["Method"]) == ("lora", "dora")
    assert lora["Minus lora"] == ABSENT
    expected = t_interval([b - a for a, b in zip(of_lora, of_dora, strict=True)])
    assert numbers(dora["Minus lora"]) == pytest.approx(expected, abs=6e-5)
    assert expected[1] > 0
    assert numbers(lora["Score"]) == pytest.approx([np.mean(of_lora), stats.sem(of_lora)], rel=0.02)


def test_only_what_differs_by_the_method_is_compared() -> None:
    """Same rank, size and template; a seed that one of them lacks is left out."""
    rows = [
        {"accuracy": 0.5, "seed": 0}, {"accuracy": 0.6, "seed": 1},
        {"accuracy": 0.9, "seed": 1, "rank": 8}, {"accuracy": 0.1, "seed": 1, "n_train_examples": 16},
        {"accuracy": 0.2, "seed": 1, "template": "other"},
        {"accuracy": 0.7, "seed": 1, "method": "dora"}, {"accuracy": 0.3, "seed": 2, "method": "dora"},
    ]  # fmt: skip
    *_, dora = columns(table(*rows))
    assert numbers(dora["Minus lora"]) == pytest.approx([0.1])
    (*_, of_dora_only) = columns(table(*rows, {"accuracy": 0.4, "method": "dora", "rank": 32}))
    assert of_dora_only["Minus lora"] == ABSENT


def test_a_method_without_rank_stands_beside_one_rank_or_none() -> None:
    full = [{"accuracy": 0.8, "seed": s, "method": "full", "rank": None} for s in (0, 1)]
    lora = [{"accuracy": 0.5 + s / 10, "seed": s} for s in (0, 1)]
    *_, beside_one = columns(table(*lora, *full))
    assert numbers(beside_one["Minus lora"])[0] == pytest.approx(0.25)
    *_, of_lora = columns(table(*full, *lora), "full")
    assert numbers(of_lora["Minus full"])[0] == pytest.approx(-0.25)
    *_, beside_two = columns(table(*lora, *({**row, "rank": 8} for row in lora), *full))
    assert beside_two["Minus lora"] == ABSENT


def test_what_each_score_stands_beside() -> None:
    choice = {"choice_accuracy": 0.5, "accuracy": 0.9, "base_choice_accuracy": 0.25, "majority_accuracy": 0.3}
    (row,) = columns(table({**choice, "base_accuracy": 0.1}))
    assert (row["Metric"], row["Score"]) == ("choice accuracy", "0.500")
    assert (row["Base model alone"], row["Commonest answer"]) == ("0.250", "0.300")
    assert row["Training"] == "2.00 s"
    (row,) = columns(table({"matthews_correlation": 0.4, "accuracy": 0.9, "majority_accuracy": 0.3}))
    assert row["Metric"] == "Matthews correlation"
    assert (row["Base model alone"], row["Commonest answer"]) == (ABSENT, ABSENT)  # an accuracy is no correlation
    (row,) = columns(table({"accuracy": 0.9, "base_accuracy": 0.0, "majority_accuracy": 0.0}))
    assert (row["Base model alone"], row["Commonest answer"]) == ("0", "0")
    assert columns(table({"cross_entropy": 1.0})) == []


def test_every_task_is_scored_by_its_own_headline() -> None:
    given = table(
        {"task": "cola", "matthews_correlation": 0.4, "accuracy": 0.7},
        {"task": "stsb", "pearson": 0.6, "spearman": 0.5},
        {"task": "mnli", "accuracy": 0.8},
        {"task": "words", "cross_entropy": 2.0},
    )
    found = {row["Task"]: (row["Metric"], row["Score"]) for row in columns(given)}
    assert found == {
        "cola": ("Matthews correlation", "0.400"),
        "stsb": ("Pearson correlation", "0.600"),
        "mnli": ("accuracy", "0.800"),
    }
    assert headline_of(given.filter(task="words")) is None


def test_tasks_are_parts_of_the_table_in_its_order() -> None:
    one = table({"accuracy": 0.1}, {"accuracy": 0.2, "seed": 1})
    assert [(task, part.height) for task, part in by_task(one)] == [("", 2)]
    mixed = table({"task": "b"}, {"task": "a"}, {"task": "b", "seed": 1}, {"task": "c"})
    parts = by_task(mixed)
    assert [(task, part.height) for task, part in parts] == [("b", 2), ("a", 1), ("c", 1)]
    assert all(part["task"].unique().to_list() == [task] for task, part in parts)


def test_unfinished_cells_have_no_score() -> None:
    given = table({"accuracy": 0.4}, {"accuracy": None, "seed": 1, "status": "diverged"})
    (row,) = columns(given)
    assert row["Score"] == "0.400"
    assert columns(given.filter(status="diverged")) == []
    many = table(*({"accuracy": 0.5, "n_train_examples": n} for n in range(1, MAX_ROWS + 20)))
    found = scores_of(many, "lora")
    assert (len(found.rows), found.n_left_out) == (MAX_ROWS, 19)


def test_the_spread_of_templates_by_hand() -> None:
    values = {"a": [0.40, 0.50], "b": [0.60, 0.64], "c": [0.30, 0.42]}
    rows = [
        {"template": name, "seed": seed, "choice_accuracy": value, "miub_nats": 1 - value, "cross_entropy": value}
        for name, both in values.items()
        for seed, value in enumerate(both)
    ]
    # A size that one template lacks would shift the means of the others.
    rows += [{"template": "a", "n_train_examples": 99, "choice_accuracy": 1.0, "miub_nats": 9.0}]
    choice, miub = template_rows(table(*rows))
    assert choice[:3] == ["t", "m", "choice accuracy"]
    assert choice[3] == "a 0.450; b 0.620; c 0.360"
    assert choice[4] == "0.260"
    within = math.sqrt(np.mean([np.var(both, ddof=1) for both in values.values()]))
    assert numbers(choice[5]) == pytest.approx([within], rel=0.05)
    assert choice[5] == significant(within, 2)
    assert miub[3:5] == ["a 0.550; b 0.380; c 0.640", "0.260"]


def test_templates_of_a_single_seed_or_alone() -> None:
    two = [{"template": name, "choice_accuracy": value} for name, value in (("a", 0.2), ("b", 0.7))]
    (row,) = template_rows(table(*two))
    assert row[4:] == ["0.500", ABSENT]
    assert template_rows(table(two[0])) == []
    apart = [two[0], {**two[1], "rank": 8}]  # nothing ran in both
    assert template_rows(table(*apart)) == []


def record(before: float, after: float, task: str = "piqa", status: str = "finished") -> dict[str, Any]:
    return {
        "cell": {"task": {"name": task}, "base_model": "m", "method": {"name": "lora"}},
        "status": status,
        "other_tasks": {"boolq": {"choice_accuracy": after}},
        "baseline": {"other_tasks": {"boolq": {"choice_accuracy": before}}},
    }


def test_what_was_forgotten_by_hand() -> None:
    after = [0.50, 0.44, 0.52]
    records = [record(0.60, value) for value in after]
    records += [record(0.60, 0.0, status="error"), {**record(0.6, 0.1), "baseline": {}}, record(0.25, 0.5, "arc_easy")]
    mine, other = other_task_rows(
        [*records, {"cell": {"task": {}, "base_model": "m", "method": {"name": "lora"}}, "status": "finished"}]
    )
    assert mine[:6] == ["piqa", "m", "lora", "boolq", "0.600", significant(sum(after) / 3)]
    assert numbers(mine[6]) == pytest.approx(t_interval([value - 0.6 for value in after]), abs=6e-4)
    assert mine[7] == "3"
    assert other == ["arc_easy", "m", "lora", "boolq", "0.250", "0.500", "0.250", "1"]
    assert other_task_rows([]) == []


def test_texts_that_were_cut_are_told_once() -> None:
    given = table({"n_train_examples_cut": 3, "n_test_rows_cut": 0}, {"n_train_examples_cut": 1200, "seed": 1},
                  {"seed": 2, "n_train_examples_cut": 0})  # fmt: skip
    (sentence,) = too_long(given)
    assert sentence.startswith("In 2 of 3 cells some training examples were longer than max_length")
    assert "up to 1,200 in a cell" in sentence
    assert too_long(table({})) == []


class Scripts(HTMLParser):
    """The texts of a page, and how many scripts it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.n_scripts, self._inside, self.texts = 0, "", list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._inside = tag
        self.n_scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)


def test_hostile_names_of_tasks_and_templates_are_text(tmp_path: Path) -> None:
    study = write_synthetic(tmp_path, bases=["m"], ranks=[1, 4], sizes=[64, 512], seeds=[0, 1])
    plain = Scripts(write_report(study).read_text(encoding="utf-8"))
    for path in (tmp_path / "cells").glob("*/record.json"):
        kept = json.loads(path.read_text())
        task, template = (f"{HOSTILE} {kept['cell'][name]}" for name in ("n_train_examples", "rank"))
        kept["cell"] |= {"task": {"name": task}, "template": template, "n_train_examples": 8, "rank": 2}
        kept["other_tasks"] = {HOSTILE: {"choice_accuracy": 0.3}}
        kept["baseline"] = {"other_tasks": {HOSTILE: {"choice_accuracy": 0.5}}, "majority_accuracy": 0.4}
        write_json(path, kept)
    page = Scripts(write_report(open_study(tmp_path)).read_text(encoding="utf-8"))
    assert page.n_scripts == plain.n_scripts == 3
    text = " ".join(page.texts)
    for heading in ("Scores", "Does the prompt template matter?", "What was forgotten?"):
        assert heading in text
    assert all(f"{HOSTILE} {number}" in text for number in (64, 512, 1, 4))
