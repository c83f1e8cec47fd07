"""The two figures of the README, from the same tables as the numbers."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import polars as pl
from glue import labels, paired, pooled
from matplotlib import pyplot as plt
from tables import CONVENTIONS, cells, label
from trends import most_data

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "loralaw",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "font.size": 9,
    }
)
BLUE, RED = "#0072b2", "#d55e00"
COLOURS = {"lora": BLUE, "rslora": RED}
PANELS = ("cross_entropy", "miub_nats", "norm_ratio")


def draw(folder: Path) -> None:
    """Write the figures as SVG."""
    folder.mkdir(exist_ok=True)
    rank_figure(most_data(cells("rank_scaling")), folder / "miub_rank.svg")
    glue_figure(cells("glue"), cells("glue_half_rate"), folder / "alpha_lora_glue.svg")


def rank_figure(cells: pl.DataFrame, path: Path) -> None:
    """Metrics along rank under both conventions, relative to the smallest rank; thin: one base model."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(9, 2.8), layout="constrained")
    for panel, metric in zip(axes, PANELS, strict=True):
        for method, name in CONVENTIONS.items():
            part = cells.filter(method=method)
            curves = (
                part.group_by("base_model", "n_train_examples", "rank")
                .agg(pl.col(metric).mean())
                .sort("rank")
                .group_by("base_model", "n_train_examples", maintain_order=True)
                .agg("rank", relative=pl.col(metric) / pl.col(metric).first())
            )
            ranks = curves["rank"][0].to_numpy()
            relative = np.array(curves["relative"].to_list())
            panel.plot(ranks, relative.T, color=COLOURS[method], alpha=0.4, linewidth=0.8)
            mean = np.exp(np.log(relative).mean(axis=0))
            panel.plot(ranks, mean, "o-", color=COLOURS[method], label=f"scale {name}", linewidth=2)
        panel.set_xscale("log", base=4)
        panel.set_xticks(ranks, [str(rank) for rank in ranks])
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.set_title(label(metric), fontsize=10)
        panel.set_xlabel("rank")
    axes[0].set_ylabel("relative to rank 1")
    axes[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def glue_figure(chosen: pl.DataFrame, half: pl.DataFrame, path: Path) -> None:
    """Accuracy less LoRA's, by task and over all, at the chosen learning rates and at half of them."""
    names = [name for name in labels(chosen) if name != "LoRA"]
    tasks = sorted(chosen["task"].unique())
    figure, axes = plt.subplots(1, len(names), figsize=(9, 3), layout="constrained", sharex=True, sharey=True)
    for panel, name in zip(axes, names, strict=True):
        for study, colour, shift, rate in ((chosen, BLUE, 0.15, "chosen rates"), (half, RED, -0.15, "half of them")):
            of = labels(study)
            by_task = paired(study, of[name], of["LoRA"])
            for task, values in by_task.items():
                panel.plot(100 * values, np.full(len(values), tasks.index(task) + shift), "o", color=colour, alpha=0.5)
            mean = pooled(list(by_task.values()))
            place = len(tasks) + shift
            panel.errorbar(mean.value, place, xerr=mean.half, fmt="D", color=colour, capsize=3, label=rate)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_yticks(range(len(tasks) + 1), [*tasks, "mean of tasks"])
        panel.set_title(name, fontsize=10)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.supxlabel("accuracy less that of LoRA, points; a dot a seed, means with their 95 % intervals", fontsize=9)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
