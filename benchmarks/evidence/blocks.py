"""The blocks of numbers by name, and where they stand in a document."""

import re
from collections.abc import Callable

from agreement import agreement_table
from early import early_table
from glue import cost_table, glue_table, pattern_sentences, rates_table
from laws import law_table
from ordering import ordering_table
from tables import RESULTS, cells, table
from tokens import token_table
from trends import trend_table

from loralaw.store import StudyFile

BLOCKS: dict[str, Callable[[], str]] = {
    "trends": lambda: trend_table(cells("rank_scaling")),
    "laws": lambda: law_table(cells("rank_scaling")),
    "early": lambda: early_table(cells("rank_scaling"), cells("early")),
    "tokens": lambda: token_table(cells("rank_scaling"), table("rank_scaling_tokens")),
    "agreement": lambda: agreement_table(cells("rank_scaling")),
    "ordering": lambda: ordering_table(cells("rank_scaling")),
    "glue-rates": lambda: rates_table(cells("glue_rates")),
    "glue": lambda: glue_table(cells("glue")),
    "glue-cost": lambda: cost_table(cells("glue")),
    "glue-patterns": lambda: pattern_sentences(StudyFile(RESULTS / "glue.parquet")),
}

DOCUMENTS = ("docs/evidence.md",)

_PLACE = re.compile(r"(<!-- numbers: (?P<name>[a-z-]+) -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def filled(document: str) -> str:
    """The document with its blocks as the tables give them."""
    return _PLACE.sub(lambda place: f"{place[1]}{BLOCKS[place['name']]()}\n{place[3]}", document)
