"""Planning, scanning and resuming a study of 100,000 cells: milliseconds a cell and memory, at two sizes to see growth.

    python benchmarks/large_study.py

Cells are not trained: every one gets a record of the size and shape that a cell of micro-6m leaves.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from provenance import provenance, table

from loralaw.spec import parse_study
from loralaw.store import open_study, write_study
from loralaw.study import check, plan_cells
from loralaw.study.cell_needs import Needs
from loralaw.study.plan import plan_jobs

RESULTS = Path(__file__).parent / "results" / "large_study.md"
N_LAYERS, N_LEFT = 42, 100


def study(n_seeds: int) -> Any:
    """100 cells a seed and data size, 10 data sizes."""
    settings = {
        "base_models": ["micro-0.4m", "micro-1.3m"],
        "task": "stdlib-code",
        "methods": ["lora", "rslora"],
        "ranks": list(range(1, 26)),
        "sizes": list(range(100, 1100, 100)),
        "seeds": list(range(n_seeds)),
    }
    return parse_study({"name": "large", **settings}, "large")


def record_of(cell: Any) -> dict[str, Any]:
    """As large as those of micro-6m: MIUB and controls of 42 layers."""
    layer = {
        "layer": "model.layers.0.self_attn.q_proj",
        **dict.fromkeys(("miub_nats", "miub_stderr_nats", "jsd_nats", "jsd_stderr_nats"), 0.123456789012345),
        **dict.fromkeys(("norm_ratio", "cosine", "effective_rank", "z_norm", "u_norm"), 0.123456789012345),
    }
    return {
        "format": 1,
        "key": cell.key,
        "status": "finished",
        "reason": None,
        "cell": cell.settings(),
        "metrics": {"cross_entropy": 3.0 + cell.seed / 1000, "accuracy": 0.25, "miub_nats": 0.05},
        "absent_metrics": {},
        "layers": [layer] * N_LAYERS,
        "counts": {"n_params_total": 362816, "n_params_trainable": 1000, "n_train_tokens": 6000},
        "cost": {"train_seconds": 1.0, "evaluate_seconds": 0.2, "peak_memory_bytes": 10**9},
        "provenance": {"pack": [cell.key] * 16},
    }


class Stages:
    """Seconds and memory of one stage after the other."""

    def __init__(self, n_cells: int) -> None:
        self._n_cells, self.rows = n_cells, list[tuple[str, float, float]]()

    def run(self, name: str, work: Any) -> Any:
        started = time.perf_counter()
        result = work()
        milliseconds = 1000 * (time.perf_counter() - started) / self._n_cells
        self.rows.append((name, milliseconds, psutil.Process().memory_info().rss / 2**20))
        return result


def measure(n_seeds: int) -> tuple[int, list[tuple[str, float, float]], float]:
    spec, folder = study(n_seeds), Path(tempfile.mkdtemp())
    checked = check(spec)
    imported = psutil.Process().memory_info().rss / 2**20
    cells = plan_cells(checked)
    stages = Stages(len(cells))
    cells = stages.run("plan: cells and keys", lambda: plan_cells(checked))
    stages.run("plan: packs", lambda: plan_jobs(cells, checked, Needs(checked), 2))
    opened = stages.run(
        "write study.json", lambda: write_study(folder, spec.settings(), [c.key for c in cells], {"command": ""})
    )
    stages.run("scan without a record", opened.pending_keys)
    for cell in cells[N_LEFT:]:
        path = folder / "cells" / cell.key / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record_of(cell)))
    stages.run("scan all records, no index", opened.mend)
    opened = stages.run("open again", lambda: open_study(folder))
    pending = stages.run("resume: scan with the index", opened.pending_keys)
    assert pending == [cell.key for cell in cells[:N_LEFT]]
    rows = stages.run("table", lambda: open_study(folder).table())
    assert rows.height == len(cells) - N_LEFT
    shutil.rmtree(folder)
    return len(cells), stages.rows, imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    seeds = parser.parse_args().seeds
    if seeds is None:  # each size in a process of its own, so that memory is its own
        parts = [
            json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--seeds", str(n)], check=True, capture_output=True, text=True
                ).stdout.splitlines()[-1]
            )
            for n in (10, 100)
        ]
        RESULTS.write_text(page(parts))
        print(RESULTS.read_text())
    else:
        print(json.dumps(measure(seeds)))


def page(parts: list[Any]) -> str:
    (n_small, small, _), (n_large, large, imported) = parts
    lines = [
        "# A study of 100,000 cells",
        "",
        provenance("No random numbers."),
        f"Milliseconds a cell for {n_small:,} and for {n_large:,} cells; memory of the process after the stage at the "
        f"larger size, MB ({imported:.0f} MB of it before the first: torch, transformers, data, base models' shapes).",
        "",
        table(
            ["stage", f"ms a cell, {n_small:,}", f"ms a cell, {n_large:,}", "MB"],
            [
                [name, f"{ms_small:.3f}", f"{ms:.3f}", f"{mb:.0f}"]
                for (name, ms_small, _), (_, ms, mb) in zip(small, large, strict=True)
            ],
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
