"""The record of a cell: everything that later rooms know of it, as plain JSON types."""

import platform
from collections.abc import Sequence
from typing import Any

import peft
import torch
import transformers

from loralaw.spec import Cell
from loralaw.training import machine


def cell_record(
    cell: Cell,
    status: str,
    *,
    pack: Sequence[str],
    path: str | None = None,
    n_micro_batches: int = 1,
    reason: str | None = None,
    metrics: dict[str, float | None] | None = None,
    absent_metrics: dict[str, str] | None = None,
    layers: list[dict[str, Any]] | None = None,
    counts: dict[str, int] | None = None,
    cost: dict[str, float | str | None] | None = None,
    row_scale: dict[str, Any] | None = None,
    other_tasks: dict[str, dict[str, float | None]] | None = None,
) -> dict[str, Any]:
    """A record without what the store adds (format, our version, time).

    Args:
        cell: what was run.
        status: finished, diverged, error or out-of-memory.
        pack: keys of the cells that trained together.
        path: "packed" or "trainer"; None where no training began.
        n_micro_batches: parts that a batch went through in; the record has the key only where there were several.
        reason: why it did not finish.
        metrics: by the names of the table; a metric that is not there is absent, never 0.
        absent_metrics: why a metric is not there.
        layers: MIUB, Jensen-Shannon divergence and the controls of every adapted layer.
        counts: parameters, tokens and steps.
        cost: seconds (a cell's share of its pack), operations, tokens and bytes, and the way it was trained.
        row_scale: α of every layer at the end, and how it moved; the record has the key only where this is given.
        other_tasks: scores on tasks that the cell was not trained on, by name; likewise.
    """
    return {
        "key": cell.key,
        "status": status,
        "reason": reason,
        "cell": cell.settings(),
        "metrics": {name: value for name, value in (metrics or {}).items() if value is not None},
        "absent_metrics": absent_metrics or {},
        "layers": layers or [],
        "counts": counts or {},
        "cost": cost or {},
        "provenance": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
            "platform": platform.platform(),
            "device": machine.device_name(),
            "n_threads": torch.get_num_threads(),
            "pack": list(pack),
            "path": path,
            **({} if n_micro_batches == 1 else {"n_micro_batches": n_micro_batches}),
        },
        **({} if row_scale is None else {"row_scale": row_scale}),
        **({"other_tasks": other_tasks} if other_tasks else {}),
    }
