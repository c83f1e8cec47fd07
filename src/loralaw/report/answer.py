"""The answer: averages in words, the best measured configuration, the smallest as good, and what cannot be said."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.special import stdtrit

from loralaw.laws import AXES, METRICS, STUDY_AXES, LawFit, with_interval
from loralaw.report.cells import CONFIGURATION, finished, label
from loralaw.report.law_panels import level_rows
from loralaw.report.scores import too_long
from loralaw.report.wording import counted, duration, listed, significant, size

QUALITY = "cross_entropy"
LEVEL = 0.95
DESIGNED = {
    "rank": ("rank", "ranks"),
    "n_train_examples": ("data size", "data sizes"),
    "base_model": ("base model", "base models"),
}


@dataclass(frozen=True)
class Noise:
    """How far cross-entropies of equal configurations lie apart.

    Args:
        deviation: Standard deviation between cells that differ by seed only, in nats; with one seed the standard
            error of a cell on the test set; NaN where neither is known.
        n_degrees_of_freedom: That it was estimated with; 0 with one seed.
        said: The same in a sentence.
    """

    deviation: float
    n_degrees_of_freedom: int
    said: str

    def around(self, value: float, *n_cells: float) -> str:
        """The mean of so many cells, or the difference of two such means, with its 95 % interval where one is known."""
        half = self.half_width(*n_cells)
        if math.isnan(half):
            return significant(value, 4)
        return with_interval(value, value - half, value + half)

    def half_width(self, *n_cells: float) -> float:
        """Of the 95 % interval of a mean of so many cells, or of the difference of two such means; NaN if not known."""
        if self.n_degrees_of_freedom:
            t = float(stdtrit(self.n_degrees_of_freedom, (1 + LEVEL) / 2))
            return t * self.deviation * math.sqrt(sum(1 / n for n in n_cells))
        # The test set is the same for all cells: its error is that of a mean, and cancels from a difference.
        return _NORMAL_95 * self.deviation if len(n_cells) == 1 else math.nan


_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Configuration:
    """Cells that differ by seed only, with their mean cross-entropy and cost."""

    label: str
    keys: list[str]
    n_seeds: int
    cross_entropy: float
    train_seconds: float | None
    size: tuple[int, int, float]
    """Parameters of the base model, training examples, rank: what makes a configuration dear, in this order.

    Full fine-tuning is as an infinite rank.
    """

    def sentence(self, noise: Noise) -> str:
        """`2.31 [2.29, 2.33] nats, mean of 2 seeds`."""
        seeds = f"mean of {self.n_seeds} seeds" if self.n_seeds > 1 else "one seed"
        return f"{noise.around(self.cross_entropy, self.n_seeds)} nats, {seeds}"

    @property
    def cost(self) -> str:
        if self.train_seconds is None:
            return "training time not measured"
        return f"{duration(self.train_seconds)} of training"


@dataclass(frozen=True)
class Advice:
    """The best configuration measured, and the smallest whose difference from it is within noise."""

    best: Configuration
    smallest: Configuration
    noise: Noise

    @property
    def worse_by(self) -> str:
        """`0.011 [-0.003, 0.025] nats worse`: the smallest beside the best."""
        difference = self.smallest.cross_entropy - self.best.cross_entropy
        return f"{self.noise.around(difference, self.smallest.n_seeds, self.best.n_seeds)} nats worse"


@dataclass(frozen=True)
class Average:
    """How cross-entropy moves along one axis when everything else is averaged over."""

    axis: str
    title: str
    short: str
    note: str
    levels: list[tuple[str, str, str]]
    """Level, measured mean, what the law says there with its interval."""


def configurations(table: pl.DataFrame) -> list[Configuration]:
    """Every configuration with a measured cross-entropy, best first."""
    several = table["method"].n_unique() > 1
    found = [
        Configuration(
            label=label(group.row(0, named=True), several),
            keys=group["key"].to_list(),
            n_seeds=group.height,
            cross_entropy=float(group[QUALITY].mean()),  # type: ignore[arg-type]
            train_seconds=group["train_seconds"].mean(),  # type: ignore[arg-type]
            size=group.select(
                "n_params_total", "n_train_examples", pl.col("rank").cast(pl.Float64).fill_null(math.inf)
            ).row(0),
        )
        for _, group in _measured(table).group_by(CONFIGURATION, maintain_order=True)
    ]
    return sorted(found, key=lambda one: one.cross_entropy)


def noise_of(table: pl.DataFrame) -> Noise:
    """The between-seed deviation, pooled over all configurations.

    With one seed the standard error of the best cell on the test set, which knows nothing of training noise.

    **Source**: ours; a pooled standard deviation is textbook.
    """
    measured = _measured(table)
    values = pl.col(QUALITY)
    spread = measured.select(((values - values.mean().over(CONFIGURATION)) ** 2).sum()).item()
    free = measured.height - measured.select(CONFIGURATION).n_unique()
    if free and spread == 0:
        said = "every seed gave the same values, so nothing says which differences are real. Check the seeds."
        return Noise(math.nan, 0, f"Noise: {said}")
    if free:
        deviation = (spread / free) ** 0.5
        pair = Noise(deviation, free, "").half_width(2, 2)
        return Noise(
            deviation,
            free,
            f"Noise: cells that differ by seed only spread by {significant(deviation)} nats (standard deviation, "
            f"{counted(free, 'degree')} of freedom); two 2-seed means closer than {significant(pair)} nats are "
            "not told apart at 95 %.",
        )
    error = _test_error(measured)
    if math.isnan(error):
        said = "Noise: one seed and no standard error, so nothing says which differences are real."
    else:
        said = (
            "Noise: every configuration ran with one seed, so only the test set's own error is known "
            f"(± {significant(_NORMAL_95 * error)} nats at 95 %). The noise of training is not in it."
        )
    return Noise(error, 0, said)


def advise(table: pl.DataFrame) -> Advice | None:
    """Best and smallest within noise; None if no cross-entropy was measured.

    **Source**: ours.
    """
    found = configurations(table)
    if not found:
        return None
    best, noise = found[0], noise_of(table)
    within = [
        one
        for one in found
        if one is best or one.cross_entropy - best.cross_entropy <= noise.half_width(one.n_seeds, best.n_seeds)
    ]
    return Advice(best, min(within, key=lambda one: one.size), noise)


def averages(fits: list[LawFit]) -> list[Average]:
    """One entry a main axis with at least two levels: the level means of cross-entropy and what they do, in words."""
    by_axis = {fit.axis: fit for fit in fits if fit.metric == QUALITY and len(fit.levels) > 1}
    return [_average(by_axis[axis]) for axis in STUDY_AXES if axis in by_axis]


def nothing_to_say(table: pl.DataFrame, n_planned: int) -> str:
    """Why there is no answer where no cell has finished, and what to do."""
    if table.height >= n_planned and (table["status"] == "diverged").all():
        return (
            "Every cell has diverged, so there is nothing to say: lower training.learning_rate, in a folder of its own."
        )
    return "No cell has finished yet, so there is nothing to say. Run the study again to go on: what is finished stays."


def limits(table: pl.DataFrame, records: list[dict[str, Any]], fits: list[LawFit], n_planned: int) -> list[str]:
    """What this study cannot say, and why, one sentence each."""
    return [
        *_unfinished(table, n_planned),
        *_validation(records),
        *_short_axes(table),
        *_few_seeds(table),
        *too_long(table),
        *_left_out(fits),
        *_floor(fits),
        *_scaling(records),
        *_absent(table, records),
    ]


def _unfinished(table: pl.DataFrame, n_planned: int) -> list[str]:
    ended = Counter(table["status"])
    parts = [f"{counted(ended[s], 'cell')} {said}" for s, said in _ENDINGS.items() if ended[s]]
    parts += [f"{counted(n, 'cell')} ended as {s}" for s, n in ended.items() if s not in _ENDINGS and s != "finished"]
    if missing := max(n_planned - table.height, 0):
        parts.append(f"{counted(missing, 'cell')} not run yet")
    if not parts:
        return []
    return [f"{ended['finished']:,} of {max(n_planned, table.height):,} planned cells have a result: {listed(parts)}."]


_ENDINGS = {"diverged": "diverged", "error": "failed with an error", "out-of-memory": "ran out of memory"}


def _validation(records: list[dict[str, Any]]) -> list[str]:
    if not any(record["cell"].get("evaluation", {}).get("split") == "validation" for record in records):
        return []
    return [
        "Scored on validation rows, to choose settings by: where this page says test, read validation, and report what "
        "was chosen from a study with other seeds on the test rows."
    ]


def _short_axes(table: pl.DataFrame) -> list[str]:
    sentences = []
    done = finished(table)
    for axis, (one, many) in DESIGNED.items():
        levels = sorted(done[axis].drop_nulls().unique())
        shown = listed([v if isinstance(v, str) else size(v) for v in levels])
        if len(levels) == 1:
            sentences.append(f"Only one {one} ({shown}) has results: nothing is said about the effect of {one}.")
        elif len(levels) == 2:
            sentences.append(f"Two {many} ({shown}) show a difference, not a law: a law needs at least three.")
    return sentences


def _few_seeds(table: pl.DataFrame) -> list[str]:
    n = finished(table)["seed"].n_unique()
    if n == 1:
        return ["One seed: how much a result changes when training is repeated was not measured."]
    if n in (2, 3):
        return [
            f"{n} seeds: bands and intervals are for the seeds that were run. For other seeds a 95 % band may miss up "
            "to 15 times in 100 instead of 5; more seeds cure that."
        ]
    return []


def _left_out(fits: list[LawFit]) -> list[str]:
    parts = [
        f"{f.n_contexts} of {counted(f.n_contexts + f.n_contexts_left_out, 'setting')} along {AXES[f.axis].label}"
        for f in fits
        if f.metric == QUALITY and f.n_contexts_left_out
    ]
    if not parts:
        return []
    return [
        f"Only settings that ran at every level of an axis can be compared along it: {listed(parts)}. The others are "
        "in no mean and no law of that axis."
    ]


def _floor(fits: list[LawFit]) -> list[str]:
    if not any(fit.has_law for fit in fits):
        return []
    return [
        "A floor is the floor of this law over these sizes, not an irreducible loss: a slope that changes looks so."
    ]


def _scaling(records: list[dict[str, Any]]) -> list[str]:
    done = [r for r in records if r["status"] == "finished" and r["metrics"].get("miub_nats") is not None]
    ranks = {r["cell"]["rank"] for r in done} - {None}
    if len(ranks) < 2 or any(r["cell"]["method"]["name"] == "rslora" for r in done):
        return []
    return [
        "With lora_alpha fixed, the adapter's scale lora_alpha / rank falls as rank grows, and MIUB falls with the "
        "norm of the adapter's output. So a fall of MIUB with rank may be the scale's; compare it with the norm "
        "ratio, or run rslora."
    ]


def _absent(table: pl.DataFrame, records: list[dict[str, Any]]) -> list[str]:
    reasons: dict[str, Counter[str]] = {}
    for record in records:
        for metric, reason in (record.get("absent_metrics") or {}).items():
            reasons.setdefault(metric, Counter())[str(reason)] += 1
    together: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for metric, why in reasons.items():
        together.setdefault(tuple(sorted(why.items())), []).append(metric)
    return [
        f"{_metric_labels(metrics)} absent from {counted(sum(n for _, n in why), 'cell')}: {listed(r for r, _ in why)}."
        for why, metrics in together.items()
    ]


def _metric_labels(names: list[str]) -> str:
    """`MIUB is`, `MIUB and cosine of u and z are`."""
    text = listed([METRICS[name].label if name in METRICS else name for name in names])
    return f"{text[:1].upper()}{text[1:]} {'is' if len(names) == 1 else 'are'}"


def _average(fit: LawFit) -> Average:
    means = [float(mean) for mean in fit.means]
    names = [_named(fit.axis, size(float(level))) for level in fit.levels]
    rises = [i for i in range(len(means) - 1) if means[i + 1] >= means[i]]
    first, last = (f"{significant(means[i], 4)} at {names[i]}" for i in (0, -1))
    ends = f"from {first} to {last}, a change of {_change(fit)} nats"
    if not rises:
        said = f"falls at every step, {ends}"
    else:
        where = listed([f"{names[i]} to {names[i + 1]}" for i in rises])
        moves = "falls" if means[-1] < means[0] else "does not fall"
        said = f"{moves} over the whole range, {ends}; it does not fall from {where}"
    note = f"Average of {counted(fit.n_contexts, 'setting')} ({counted(fit.n_cells, 'cell')})."
    title = AXES[fit.axis].label
    return Average(fit.axis, title[:1].upper() + title[1:], said, note, level_rows(fit))


def _change(fit: LawFit) -> str:
    """From the first level to the last, compared inside each setting and seed."""
    assert fit.change is not None
    low, high = fit.change.interval(LEVEL)
    return with_interval(fit.change.value, low, high) if math.isfinite(high) else significant(fit.change.value)


def _named(axis: str, level: str) -> str:
    """`rank 16`, `4,096 examples`."""
    unit = AXES[axis].unit
    return f"{level} {unit}" if unit else f"{AXES[axis].label} {level}"


def _measured(table: pl.DataFrame) -> pl.DataFrame:
    return finished(table).filter(pl.col(QUALITY).is_finite())


def _test_error(measured: pl.DataFrame) -> float:
    """Standard error of the best cell on the test set; NaN where there is none."""
    errors = measured.sort(QUALITY)[f"{QUALITY}_stderr"].drop_nulls()
    return float(errors[0]) if len(errors) else math.nan
