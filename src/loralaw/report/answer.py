"""The answer: averages in words, the best measured configuration, the smallest as good, and what cannot be said."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.special import stdtrit

from loralaw.laws import AXES, METRICS, STUDY_AXES, LawFit
from loralaw.report.cells import CONFIGURATION, finished, label
from loralaw.report.wording import counted, duration, listed, significant, size

QUALITY = "cross_entropy"
LEVEL = 0.95
DESIGNED = {
    "rank": ("rank", "ranks"),
    "n_train_examples": ("data size", "data sizes"),
    "base_model": ("base model", "base models"),
}


@dataclass(frozen=True)
class Configuration:
    """Cells that differ by seed only, with their mean cross-entropy and cost."""

    label: str
    keys: list[str]
    n_seeds: int
    cross_entropy: float
    spread: tuple[float, float]
    train_seconds: float | None
    size: tuple[int, int, float]
    """Parameters of the base model, training examples, rank: what makes a configuration dear, in this order.

    Full fine-tuning is as an infinite rank.
    """
    worse_by: float = 0.0

    @property
    def sentence(self) -> str:
        """`2.31 nats/token, mean of 2 seeds (2.30 to 2.32)`."""
        seeds = f", mean of {self.n_seeds} seeds ({significant(self.spread[0], 4)} to {significant(self.spread[1], 4)})"
        return f"{significant(self.cross_entropy, 4)} nats/token{seeds if self.n_seeds > 1 else ', one seed'}"

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
    noise: str


@dataclass(frozen=True)
class Average:
    """How cross-entropy moves along one axis when everything else is averaged over."""

    axis: str
    title: str
    short: str
    note: str
    levels: list[tuple[str, str]]


def configurations(table: pl.DataFrame) -> list[tuple[Configuration, list[float]]]:
    """Every configuration with a measured cross-entropy and the values of its cells, best first."""
    measured = finished(table).filter(pl.col(QUALITY).is_finite())
    several = table["method"].n_unique() > 1
    found = []
    for _, group in measured.group_by(CONFIGURATION, maintain_order=True):
        values = [float(v) for v in group[QUALITY]]
        found.append(
            (
                Configuration(
                    label=label(group.row(0, named=True), several),
                    keys=group["key"].to_list(),
                    n_seeds=len(values),
                    cross_entropy=sum(values) / len(values),
                    spread=(min(values), max(values)),
                    train_seconds=group["train_seconds"].mean(),  # type: ignore[arg-type]
                    size=group.select(
                        "n_params_total", "n_train_examples", pl.col("rank").cast(pl.Float64).fill_null(math.inf)
                    ).row(0),
                ),
                values,
            )
        )
    return sorted(found, key=lambda pair: pair[0].cross_entropy)


def advise(table: pl.DataFrame) -> Advice | None:
    """Best and smallest within noise; None if no cross-entropy was measured.

    The noise of a difference is Student's t times the between-seed deviation, pooled over all configurations; with one
    seed it is the standard error of the best cell on the test set, which knows nothing of training noise.

    **Source**: ours.
    """
    found = configurations(table)
    if not found:
        return None
    best = found[0][0]
    free = sum(len(values) - 1 for _, values in found)
    if free:
        squares = sum((v - c.cross_entropy) ** 2 for c, values in found for v in values)
        deviation = (squares / free) ** 0.5
        factor = float(stdtrit(free, (1 + LEVEL) / 2)) * deviation
        within = [
            c
            for c, _ in found
            if c.cross_entropy - best.cross_entropy <= factor * (1 / c.n_seeds + 1 / best.n_seeds) ** 0.5
        ]
        noise = (
            f"Noise: cells that differ by seed only spread by {significant(deviation)} nats/token (standard deviation, "
            f"{counted(free, 'degree')} of freedom); two {best.n_seeds}-seed means closer than "
            f"{significant(factor * (2 / best.n_seeds) ** 0.5)} nats/token are not told apart at {LEVEL:.0%}."
        ).replace("95%", "95 %")
    else:
        error = _test_error(table, best)
        within = [c for c, _ in found if c.cross_entropy - best.cross_entropy <= 1.96 * error]
        noise = (
            f"Noise: every configuration ran with one seed, so only the test set's own error is known "
            f"(± {significant(1.96 * error)} nats/token at 95 %). The noise of training is not in it."
            if error
            else "Noise: one seed and no standard error, so nothing says which differences are real."
        )
    smallest = min(within, key=lambda c: c.size)
    return Advice(best, _against(smallest, best), noise)


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
        *_short_axes(table),
        *_few_seeds(table),
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
    means = [float(m) for m in fit.means]
    names = [_named(fit.axis, size(float(v))) for v in fit.levels]
    digits = _digits(means)
    texts = [significant(m, digits) for m in means]
    rises = [i for i in range(len(means) - 1) if means[i + 1] >= means[i]]
    ends = f"from {texts[0]} at {names[0]} to {texts[-1]} at {names[-1]} ({_signed(means[-1] - means[0])} nats/token)"
    if not rises:
        said = f"falls at every step, {ends}"
    else:
        where = listed([f"{names[i]} to {names[i + 1]} ({_signed(means[i + 1] - means[i])})" for i in rises])
        moves = "falls" if means[-1] < means[0] else "does not fall"
        said = f"{moves} over the whole range, {ends}; it does not fall from {where}"
    note = f"Average of {counted(fit.n_contexts, 'setting')} ({counted(fit.n_cells, 'cell')})."
    title = AXES[fit.axis].label
    return Average(
        fit.axis, title[:1].upper() + title[1:], said, note, list(zip(map(size, fit.levels), texts, strict=True))
    )


def _named(axis: str, level: str) -> str:
    """`rank 16`, `4,096 examples`."""
    unit = AXES[axis].unit
    return f"{level} {unit}" if unit else f"{AXES[axis].label} {level}"


def _digits(means: list[float]) -> int:
    """Three digits, or as many as tell neighbours apart."""
    for digits in (3, 4, 5):
        if len({significant(m, digits) for m in means}) == len(set(means)):
            return digits
    return 5


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + significant(value)


def _against(one: Configuration, best: Configuration) -> Configuration:
    return Configuration(**{**one.__dict__, "worse_by": one.cross_entropy - best.cross_entropy})


def _test_error(table: pl.DataFrame, best: Configuration) -> float:
    values = table.filter(pl.col("key").is_in(best.keys))[f"{QUALITY}_stderr"].drop_nulls()
    return float(values[0]) if len(values) else 0.0
