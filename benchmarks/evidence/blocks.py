"""The blocks of numbers by name, and where they stand in a document."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
from agreement import agreement_table, choice_sentence
from alpha_micro import place_answer, place_table, sensitivity_table
from early import early_table
from glue import answer, cost_table, glue_table, pattern_sentences, rates_table
from laws import law_answer, law_table
from ordering import ordering_answer, ordering_table, with_probes
from rates import choice_table, rank_table, tuned
from slow import slow_table
from tables import AXES, RESULTS, cell_counts, cells, table
from tokens import default_answer, token_table
from trends import EVERY_SEED, matched_table, most_data, trend_answer, trend_table

from loralaw.store import StudyFile

_COMPLEXITY = pl.col("task").str.extract(r"complexity-(\d)").cast(pl.Int64)


def at_chosen_rates() -> pl.DataFrame:
    return tuned(cells("rates_tuning"), cells("rank_scaling"), cells("rates"))


BLOCKS: dict[str, Callable[[], str]] = {
    "cells": cell_counts,
    "trends-answer": lambda: trend_answer(
        cells("rank_scaling"), ("cross_entropy", "miub_nats", "jsd_nats", "norm_ratio")
    ),
    "rank-answer": lambda: trend_answer(
        most_data(cells("rank_scaling")), ("cross_entropy", "miub_nats", "norm_ratio"), ["rank"], EVERY_SEED
    ),
    "trends": lambda: trend_table(cells("rank_scaling")),
    "trends-most-data": lambda: trend_table(most_data(cells("rank_scaling")), {"rank": "rank"}, EVERY_SEED),
    "matched": lambda: matched_table(with_probes(cells("rank_scaling"), table("rank_scaling_tokens"))),
    "tuned-rates": lambda: choice_table(cells("rates_tuning")),
    "tuned-ranks": lambda: rank_table(at_chosen_rates()),
    "tuned": lambda: trend_table(at_chosen_rates(), {"rank": "rank"}, EVERY_SEED),
    "complexity": lambda: trend_table(
        cells("complexity").with_columns(complexity=_COMPLEXITY), {"complexity": "complexity"}, EVERY_SEED
    ),
    "laws-answer": lambda: law_answer(cells("rank_scaling")),
    "laws-most-data": lambda: law_answer(most_data(cells("rank_scaling")), ("rank",)),
    "laws": lambda: law_table(cells("rank_scaling")),
    "early": lambda: early_table(cells("rank_scaling"), cells("early")),
    "tokens": lambda: token_table(cells("rank_scaling"), table("rank_scaling_tokens")),
    "default": lambda: default_answer(cells("rank_scaling"), table("rank_scaling_tokens")),
    "agreement": lambda: agreement_table(cells("downstream"), "accuracy"),
    "downstream-trends": lambda: trend_table(
        cells("downstream"), {axis: AXES[axis] for axis in ("rank", "n_train_examples")}, EVERY_SEED
    ),
    "choice": lambda: choice_sentence(cells("rank_scaling")),
    "ordering-answer": lambda: ordering_answer(with_probes(cells("rank_scaling"), table("rank_scaling_tokens"))),
    "ordering": lambda: ordering_table(with_probes(cells("rank_scaling"), table("rank_scaling_tokens"))),
    "slow": lambda: slow_table(cells("rank_scaling"), table("rank_scaling_slow")),
    "glue-rates": lambda: rates_table(cells("glue_rates")),
    "glue": lambda: glue_table(cells("glue")),
    "glue-half-rate": lambda: glue_table(cells("glue_half_rate")),
    "glue-answer": lambda: answer(cells("glue")),
    "glue-half-rate-answer": lambda: answer(cells("glue_half_rate")),
    "glue-cost": lambda: cost_table(cells("glue")),
    "glue-patterns": lambda: pattern_sentences(StudyFile(RESULTS / "glue.parquet")),
    "mrpc": lambda: glue_table(pl.concat([cells("glue").filter(task="mrpc"), cells("mrpc")])),
    "alpha-micro-answer": lambda: place_answer(cells("alpha_micro")),
    "alpha-micro": lambda: place_table(cells("alpha_micro")),
    "alpha-sensitivity": lambda: sensitivity_table(cells("alpha_sensitivity")),
}

DOCUMENTS = ("docs/evidence.md", "README.md")

_PLACE = re.compile(r"(<!-- numbers: (?P<name>[a-z-]+) -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def filled(document: str) -> str:
    """The document with its blocks as the tables give them."""
    return _PLACE.sub(lambda place: f"{place[1]}{BLOCKS[place['name']]()}\n{place[3]}", document)


def shown(repository: Path) -> list[str]:
    """The names of the blocks that stand in the documents, in their order."""
    texts = ((repository / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    return [place["name"] for text in texts for place in _PLACE.finditer(text)]
