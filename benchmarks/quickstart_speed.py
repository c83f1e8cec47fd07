"""How long `loralaw run studies/quickstart.yaml` takes beside its cells one after another through PEFT and Trainer.

    python benchmarks/quickstart_speed.py [--quick]

Both as processes of their own, from their start to their end, in turns: the study, the user's script, the study again.
The script loads each base once, and for each cell makes the adapter, trains it with the Trainer (bf16 autocast, fused
AdamW, nothing logged or saved), scores the test rows and the options of the questions in batches, and saves the
adapter; MIUB by `loralaw.probe` is timed apart. Some quarter of an hour on two cores; writes
`results/quickstart_speed.md`. `--quick` takes two cells of a base for the script, multiplied, and writes nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import get_peft_model
from plain_trainer import plain_trainer
from provenance import provenance, table
from torch import Tensor, nn

import loralaw
from loralaw.models import load_base_model
from loralaw.spec import Cell
from loralaw.store.atomic import write_text
from loralaw.study.check import check_file
from loralaw.study.plan import plan_cells
from loralaw.tasks import NOT_SCORED, EncodedRows
from loralaw.training import EncodedTask
from loralaw.training.cell_settings import peft_config_of

STUDY = Path(__file__).parent.parent / "studies" / "quickstart.yaml"
RESULT = Path(__file__).parent / "results" / "quickstart_speed.md"
SCORED_AT_ONCE = 16


def train(model: nn.Module, cell: Cell, rows: EncodedRows, folder: str) -> None:
    training = cell.training
    plain_trainer(
        model,
        rows,
        cell.n_train_examples,
        folder,
        max_steps=training["steps"],
        per_device_train_batch_size=training["batch_size"],
        learning_rate=training["learning_rate"],
        warmup_steps=training["warmup_steps"],
        lr_scheduler_type=training["schedule"],
        seed=cell.seed,
    ).train()


@torch.no_grad()
def losses(model: nn.Module, rows: EncodedRows) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy and right predictions of each row."""
    sums, right = [], []
    for ids, labels in zip(rows.ids.split(SCORED_AT_ONCE), rows.labels.split(SCORED_AT_ONCE), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids).logits[:, :-1].float()
        targets = labels[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NOT_SCORED, reduction="none")
        sums.append(loss.view(targets.shape).sum(1))
        right.append((logits.argmax(-1) == targets).sum(1))
    return torch.cat(sums), torch.cat(right)


def one_after_another(cells_per_base: int | None) -> dict[str, Any]:
    """The user's script; seconds by base: of a cell's training and all that is measured, and of its MIUB."""
    checked = check_file(STUDY)
    cells, seconds = plan_cells(checked), defaultdict[str, list[float]](list)
    miub, n_cells = defaultdict[str, list[float]](list), defaultdict[str, int](int)
    for name, model in checked.models.items():
        base = load_base_model(model.source)
        task = EncodedTask(checked.data, base, cells[0], max(checked.spec.sizes))
        mine = [cell for cell in cells if cell.base_model == name]
        n_cells[name], n_taken = len(mine), cells_per_base or len(mine)
        for cell in mine[:: len(mine) // n_taken][:n_taken]:
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                torch.manual_seed(cell.seed)
                adapted = get_peft_model(base.model, peft_config_of(cell, base.model))
                train(adapted, cell, task.train(cell.seed), folder)
                adapted.eval()
                losses(adapted, task.test)
                losses(adapted, task.choices.rows)
                adapted.save_pretrained(folder)
                seconds[name].append(time.perf_counter() - started)
                started = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16):
                    loralaw.probe(adapted, [{"input_ids": ids} for ids in task.probe.ids])
                miub[name].append(time.perf_counter() - started)
                adapted.unload()
    return {
        "cells": n_cells,
        "seconds": {name: n_cells[name] * sum(each) / len(each) for name, each in seconds.items()},
        "miub": {name: n_cells[name] * sum(each) / len(each) for name, each in miub.items()},
        "all_taken": sum(map(sum, seconds.values())) + sum(map(sum, miub.values())),
    }


def seconds_of_the_study() -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from loralaw.cli import main; main()", "run", str(STUDY), "--out", folder]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def seconds_of_the_script(quick: bool) -> tuple[float, float, dict[str, Any]]:
    """Without MIUB and with it, for all cells, and the details."""
    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder) / "seconds.json", time.perf_counter()
        subprocess.run([sys.executable, __file__, "--script", str(out), *(["--quick"] if quick else [])], check=True)
        wall, details = time.perf_counter() - started, json.loads(out.read_text())
    without = wall - details["all_taken"] + sum(details["seconds"].values())
    return without, without + sum(details["miub"].values()), details


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two cells of a base for the script; writes nothing")
    parser.add_argument("--script", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.script:
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        options.script.write_text(json.dumps(one_after_another(2 if options.quick else None)))
        return
    first = seconds_of_the_study()
    without, full, details = seconds_of_the_script(options.quick)
    study = (first + seconds_of_the_study()) / 2
    rows = [
        ["`loralaw run`, with report and laws", f"{study:.0f} ({first:.0f}, {2 * study - first:.0f})", "1"],
        ["PEFT and Trainer, one after another", f"{without:.0f}", f"{without / study:.2f}"],
        ["the same and MIUB of each cell", f"{full:.0f}", f"{full / study:.2f}"],
    ]
    by_base = [
        [name, str(n), f"{details['seconds'][name] / n:.2f}", f"{details['miub'][name] / n:.2f}"]
        for name, n in details["cells"].items()
    ]
    text = (
        f"# The quickstart study\n\n{provenance('Two runs of the study, the script between them.')}\n"
        f"{table(['what', 'seconds', 'over `loralaw run`'], rows)}\nThe script, seconds a cell:\n\n"
        f"{table(['base', 'cells', 'training, test rows, questions, saving', 'MIUB'], by_base)}"
    )
    print(text)
    if not options.quick:
        write_text(RESULT, text)


if __name__ == "__main__":
    main()
