"""α-LoRA against LoRA, DoRA and full fine-tuning on GLUE with a small encoder."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from resampling import mean_of_seeds
from scipy.stats import fisher_exact
from tables import markdown, setting, short

from loralaw.report.row_scale import row_scales_of
from loralaw.report.row_scale_patterns import patterns
from loralaw.store import StudyFile

_EQUAL = 1e-9


@dataclass(frozen=True)
class Difference:
    """Of two methods, seed by seed; the spread between seeds is pooled over tasks.

    Args:
        value: in points of accuracy.
        half: Half of the 95 % interval; it holds training noise, and not that of the test rows, which are the same.
    """

    value: float
    half: float

    @property
    def text(self) -> str:
        return f"{self.value:+.1f} ± {self.half:.1f}"

    @property
    def is_clear(self) -> bool:
        return abs(self.value) > self.half


def pooled(differences: list[np.ndarray]) -> Difference:
    """Mean over tasks of the mean over seeds; each array is one task's seeds."""
    value, half = mean_of_seeds(differences)
    return Difference(100 * value, 100 * half)


def paired(cells: pl.DataFrame, method: str, reference: str, metric: str = "accuracy") -> dict[str, np.ndarray]:
    """By task, over the seeds that both have."""
    sides = [cells.filter(method=name).select("task", "seed", metric) for name in (method, reference)]
    joined = sides[0].join(sides[1], on=["task", "seed"], suffix="_reference").sort("task", "seed")
    return {
        str(task): (part[metric] - part[f"{metric}_reference"]).to_numpy()
        for (task,), part in joined.group_by("task", maintain_order=True)
    }


def rates_table(cells: pl.DataFrame) -> str:
    tasks = sorted(cells["task"].unique())
    rows = []
    for (method,), part in cells.sort("method").group_by("method", maintain_order=True):
        by_task = dict(part.select("task", "accuracy").iter_rows())
        mean = 100 * float(part["accuracy"].mean())  # type: ignore[arg-type]
        rows.append(
            [
                short(str(method)),
                setting(str(method), "learning_rate", "0.002"),
                *(f"{100 * by_task[t]:.1f}" for t in tasks),
                f"{mean:.1f}",
            ]
        )
    return markdown(["method", "learning rate", *tasks, "mean"], rows)


def glue_table(cells: pl.DataFrame) -> str:
    """Accuracy ± standard error over seeds, and the difference from LoRA."""
    tasks = sorted(cells["task"].unique())
    reference = next(m for m in cells["method"].unique().sort() if short(m) == "LoRA")
    rows = []
    for method in sorted(cells["method"].unique(), key=short):
        row = [short(method)]
        part = cells.filter(method=method)
        for task in tasks:
            values = 100 * cells.filter(method=method, task=task)["accuracy"].to_numpy()
            row.append(f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}")
        if method == reference:
            row.append("–")
        else:
            row.append(pooled(list(paired(cells, method, reference).values())).text)
        rows.append([*row, f"{part.filter(one_answer()).height} of {part.height}"])
    majority = [f"{100 * cells.filter(task=t)['majority_accuracy'][0]:.1f}" for t in tasks]
    rows.append(["commonest answer", *majority, "", ""])
    return markdown(["method", *tasks, "less LoRA, mean of tasks", "one answer for all rows"], rows)


def one_answer() -> pl.Expr:
    """Trainings that ended as if every row got the same answer: the accuracy is that of one class, and so is F1 where
    there is one. Of three classes only the commonest can be told."""
    share, accuracy, f1 = pl.col("majority_accuracy"), pl.col("accuracy"), pl.col("f1")
    always = _is(accuracy, share) & (f1.is_null() | _is(f1, 2 * share / (1 + share)))
    never = _is(accuracy, 1 - share) & (f1.is_null() | _is(f1, pl.lit(0.0)))
    return always | (never & (pl.col("task") != "mnli"))


def _is(value: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (value - other).abs() < _EQUAL


def cost_table(cells: pl.DataFrame) -> str:
    """Time of training and peak memory of a process, as multiples of LoRA's, means over tasks and seeds."""
    means = cells.group_by("method").agg(pl.col("train_seconds", "peak_memory_bytes", "n_params_trainable").mean())
    lora = next(row for row in means.iter_rows(named=True) if short(row["method"]) == "LoRA")
    rows = [
        [
            short(row["method"]),
            f"{row['n_params_trainable']:,.0f}",
            f"{row['train_seconds']:.0f} ({row['train_seconds'] / lora['train_seconds']:.2f})",
            f"{row['peak_memory_bytes'] / 1e6:.0f} ({row['peak_memory_bytes'] / lora['peak_memory_bytes']:.2f})",
        ]
        for row in sorted(means.iter_rows(named=True), key=lambda row: short(row["method"]))
    ]
    return markdown(
        ["method", "trained parameters", "seconds of training (over LoRA's)", "peak MB (over LoRA's)"], rows
    )


def pattern_sentences(study: StudyFile) -> str:
    """Do the blocks agree on which modules α changes?"""
    lines = []
    for task in sorted({record["cell"]["task"]["name"] for record in study.records()}):
        records = [record for record in study.records() if record["cell"]["task"]["name"] == task]
        for name, sentences in patterns(row_scales_of(records, ["all-minilm-l6-v2"])).sentences:
            lines += [f"- {task}, {name.partition(' · ')[2] or name}: {sentence}" for sentence in sentences]
    return "\n".join(lines)


def answer(cells: pl.DataFrame) -> str:
    """The differences from LoRA in a sentence, and how many trainings came to nothing."""
    reference = labels(cells)["LoRA"]
    others = {name: label for name, label in labels(cells).items() if label != reference}
    found = {name: pooled(list(paired(cells, label, reference).values())) for name, label in others.items()}
    said = [f"{name} {abs(d.value):.1f} ± {d.half:.1f} points {_side(d.value)}" for name, d in found.items()]
    clear = [name for name, d in found.items() if d.is_clear]
    verdict = f"a clear difference for {' and '.join(clear)}" if clear else "no difference is clear"
    n_lost = {name: cells.filter(one_answer(), method=label).height for name, label in labels(cells).items()}
    n_each = cells.filter(method=reference).height
    return (
        f"Mean of {cells['task'].n_unique()} tasks, beside LoRA: {', '.join(said)}: {verdict}. Of {n_each} trainings "
        f"each, so many ended at one answer for all rows: {n_lost['LoRA']} of LoRA; "
        + "; ".join(f"{n_lost[name]} of {name} (p = {_p(n_lost[name], n_lost['LoRA'], n_each)})" for name in others)
        + " (p: Fisher's exact test against LoRA)."
    )


def labels(cells: pl.DataFrame) -> dict[str, str]:
    """The label of each method by its short name, LoRA first."""
    named = {short(str(method)): str(method) for method in cells["method"].unique()}
    return dict(sorted(named.items(), key=lambda item: (item[0] != "LoRA", item[0])))


def _side(value: float) -> str:
    return "above" if value > 0 else "below"


def _p(n: int, n_reference: int, n_each: int) -> str:
    return f"{fisher_exact([[n, n_each - n], [n_reference, n_each - n_reference]]).pvalue:.2f}"
