"""The small twins of the ready studies: how long they took here, and their reports.

    LORALAW_DATA=../shared/data loralaw run studies/miub_twin.yaml
    LORALAW_DATA=../shared/data loralaw run studies/alpha_lora_glue_twin.yaml
    python benchmarks/twins.py studies/miub_twin studies/alpha_lora_glue_twin

Reads the folders of finished runs that were not interrupted. A run's time is from its start to its last record, as both
have noted it. Writes `results/twins.md`, and the report of each study beside it.
"""

import argparse
from datetime import datetime
from pathlib import Path

import polars as pl
from provenance import table

from loralaw.report.page import render
from loralaw.report.scores import by_text, headline_of
from loralaw.store import Study, open_study
from loralaw.store.atomic import write_text

RESULTS = Path(__file__).parent / "results"


def row_of(study: Study) -> list[str]:
    """Cells, minutes and device of a run."""
    ends = [datetime.fromisoformat(record["provenance"]["finished_at"]) for record in study.records()]
    seconds = (max(ends) - datetime.fromisoformat(study.provenance["started_at"])).total_seconds()
    cells = study.table()
    devices = ", ".join(cells["device"].unique().sort())
    n_finished = cells.filter(pl.col("status") == "finished").height
    when = f"{max(ends):%Y-%m-%d}"
    return [study.name, when, f"{n_finished} of {len(study.planned_keys)}", f"{seconds / 60:.1f}", devices]


def scores_of(study: Study) -> list[list[str]]:
    """Of each text and method, the mean over all its cells, beside the base model and the commonest answer."""
    rows = []
    for _, part in by_text(study.table()):
        headline = headline_of(part)
        for (task, template, method), cells in part.group_by("task", "template", "method", maintain_order=True):
            if headline is None:
                continue
            means = [cells[name].mean() for name in (headline, "majority_accuracy", "miub_nats")]
            base = cells["base_choice_accuracy"].mean() if headline == "choice_accuracy" else None
            numbers = ["–" if value is None else f"{value:.4g}" for value in (means[0], base, *means[1:])]
            rows.append(
                [study.name, str(task), str(template or "–"), str(method), str(cells.height), headline, *numbers]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    studies = [open_study(folder) for folder in parser.parse_args().folders]
    runs = table(["study", "run on", "finished cells", "minutes", "device"], [row_of(study) for study in studies])
    heads = [
        "study",
        "task",
        "template",
        "method",
        "cells",
        "headline",
        "mean",
        "base model",
        "commonest answer",
        "MIUB",
    ]
    scores = table(heads, [row for study in studies for row in scores_of(study)])
    names = " ".join(f"studies/{study.name}" for study in studies)
    text = (
        f"# Twins of the ready studies\n\nWritten by `python benchmarks/twins.py {names}`, of runs with two workers "
        f"of a thread each.\n\n{runs}\nMeans over all cells of a method, of whatever rank, size and seed:\n\n{scores}"
    )
    print(text)
    write_text(RESULTS / "twins.md", text)
    for study in studies:
        study.provenance["command"] = f"loralaw run studies/{study.name}.yaml"  # wherever its folder lies
        write_text(RESULTS / f"{study.name}.html", render(study))


if __name__ == "__main__":
    main()
