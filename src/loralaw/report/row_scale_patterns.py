"""What the row scales say in words: whether blocks agree on the module types, and seeds on the modules."""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from loralaw.report.agreement import Concordance, Values, concordance, rank_correlation, smallest_p
from loralaw.report.layer_grid import NO_NUMBER
from loralaw.report.layer_measures import LayerMeasure
from loralaw.report.row_scale import MEAN_CHANGE, RMS_CHANGE, RowScales, layers_of, value_of
from loralaw.report.wording import counted, significant

LEVEL = 0.05
"""Chance of calling any pattern consistent when there is none, shared equally among a page's tests (Bonferroni)."""

FEWEST = 3
"""Judges and items: two rankings of two things agree half of the time."""

SEEDS_AGREE, SEEDS_AGREE_IN_PART = 0.7, 0.3
"""Words for a rank correlation: at 0.7 one seed's ranks explain half of the other's variance, at 0.3 a tenth."""

PATTERN_MEASURES = (MEAN_CHANGE, RMS_CHANGE)


@dataclass(frozen=True)
class BlockTable:
    """A measure by block and by the module types that every block has."""

    measure: LayerMeasure
    values: Values
    module_types: list[str]


@dataclass(frozen=True)
class Patterns:
    """Sentences by base model, and what they take to be a pattern."""

    sentences: list[tuple[str, list[str]]]
    note: str


def patterns(groups: list[RowScales]) -> Patterns:
    """The sentences of all groups.

    Blocks are judges, module types items. Values are means over cells first, so that a block has one voice.

    **Source**: the claim of consistent patterns is that of the α-LoRA paper (arXiv 2510.21345); the test is ours.
    """
    tables = [[_block_table(scales, measure) for measure in PATTERN_MEASURES] for scales in groups]
    found = [[_concordance(table) for table in of_group] for of_group in tables]
    n_tests = sum(one is not None for of_group in found for one in of_group)
    level = LEVEL / max(n_tests, 1)
    sentences = [
        (scales.label, [*dict.fromkeys(_sentence(*pair, level) for pair in zip(*one, strict=True)), _seeds(scales)])
        for scales, one in zip(groups, zip(tables, found, strict=True), strict=True)
    ]
    return Patterns(sentences, _note(n_tests, level))


def _block_table(scales: RowScales, measure: LayerMeasure) -> BlockTable:
    named = zip(scales.grid.rows, scales.table(measure), strict=True)
    rows = [values for row, values in named if row != NO_NUMBER]
    shared = [j for j in range(len(scales.grid.columns)) if rows and all(row[j] is not None for row in rows)]
    values = np.array([[row[j] for j in shared] for row in rows], dtype=float).reshape(len(rows), len(shared))
    return BlockTable(measure, values, [scales.grid.columns[j] for j in shared])


def _concordance(table: BlockTable) -> Concordance | None:
    return concordance(table.values) if min(table.values.shape) >= FEWEST else None


def _sentence(table: BlockTable, found: Concordance | None, level: float) -> str:
    n_blocks, n_types = table.values.shape
    if min(n_blocks, n_types) < FEWEST:
        return (
            f"Cannot tell whether blocks agree: that takes {FEWEST} blocks and {FEWEST} module types that every block "
            f"has; here there are {n_blocks} and {n_types}."
        )
    what = table.measure.label
    unknown = f"Cannot tell whether blocks agree in {what}:"
    if found is None:
        return f"{unknown} within every block all module types changed alike."
    least = smallest_p(n_blocks, n_types)
    if least >= level:
        return (
            f"{unknown} with {n_blocks} blocks and {n_types} module types even full agreement has "
            f"p = {significant(least, 2)}."
        )
    alike = f"W = {significant(found.w, 2)}, by chance about {significant(found.by_chance, 2)}; p = {_p(found.p)}"
    if found.p >= level:
        return (
            f"Not consistent: in {counted(n_blocks, 'block')} the {n_types} module types rank in {what} no more alike "
            f"than chance explains ({alike})."
        )
    return (
        f"Consistent: in {counted(n_blocks, 'block')} the {n_types} module types rank alike in {what} ({alike}): "
        f"{_extremes(table, found)}."
    )


def _extremes(table: BlockTable, found: Concordance) -> str:
    """By mean rank, which is what was tested, with mean values over blocks."""
    places = int(np.argmax(found.mean_ranks)), int(np.argmin(found.mean_ranks))
    most, least = (table.module_types[place] for place in places)
    high, low = (float(table.values[:, place].mean()) for place in places)
    if table.measure is RMS_CHANGE:
        return f"{most} moves most ({significant(high, 2)}), {least} least ({significant(low, 2)})"
    return f"highest in {most} ({_signed(high)}), lowest in {least} ({_signed(low)})"


def _seeds(scales: RowScales) -> str:
    """Whether cells that differ by seed only change the same modules."""
    configurations: dict[str, list[dict[str, float]]] = defaultdict(list)
    for record in scales.cells:
        configurations[_configuration(record)].append(
            {str(layer["layer"]): value_of(layer, MEAN_CHANGE) for layer in layers_of(record)}
        )
    repeated = [cells for cells in configurations.values() if len(cells) > 1]
    if not repeated:
        return "Cannot tell whether seeds agree: no configuration ran with two seeds."
    names = sorted(set.intersection(*(set(cell) for cells in repeated for cell in cells)))
    names = [n for n in names if all(np.isfinite(cell[n]) for cells in repeated for cell in cells)]
    if len(names) < FEWEST:
        return f"Cannot tell whether seeds agree: they share {counted(len(names), 'module')}, {FEWEST} are needed."
    found = rank_correlation([[np.array([cell[n] for n in names]) for cell in cells] for cells in repeated])
    if found is None:
        return "Cannot tell whether seeds agree: all modules of a cell changed alike."
    words = "do not agree"
    if found.mean >= SEEDS_AGREE_IN_PART:
        words = "agree" if found.mean >= SEEDS_AGREE else "agree in part"
    return (
        f"Seeds {words}: over {counted(found.n_pairs, 'pair')} of cells that differ by seed only, the mean changes of "
        f"the {len(names)} modules have a mean rank correlation of {significant(found.mean, 2)} (Spearman; lowest "
        f"{significant(found.lowest, 2)})."
    )


def _configuration(record: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in record["cell"].items() if name != "seed"}, sort_keys=True)


def _note(n_tests: int, level: float) -> str:
    if not n_tests:
        return ""
    share = f": {LEVEL} shared among {counted(n_tests, 'test')}" if n_tests > 1 else ""
    return (
        "W is Kendall's coefficient of concordance with blocks as judges: 0 no agreement, 1 the same ranking in every "
        f"block. p is from permutations within blocks. A pattern is called consistent where p is below "
        f"{significant(level, 2)}{share}."
    )


def _p(p: float) -> str:
    return significant(p, 2 if p >= 0.001 else 1)


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{significant(value, 2)}"
