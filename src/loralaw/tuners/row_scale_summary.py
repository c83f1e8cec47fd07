"""How far training moved the row scale α from 1: by layer, by module type, and as a table to read."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from loralaw.errors import InputError
from loralaw.layer_names import module_types
from loralaw.tuners.row_scale import row_scales

START = 1.0
"""α of a model that equals its base model. Distances are from here, whatever a training began with."""

# A row whose |α| is below passes on less than a twentieth of its frozen output: what it says comes from the adapter.
ROW_OFF = 0.05

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

HEADINGS = ("module type", "layers", "rows", "mean", "std", "rms change", *(f"{q:.0%}" for q in QUANTILES), "off")


@dataclass(frozen=True)
class RowScaleSummary:
    """The row scales of one adapter in numbers; `print` it for a table by module type."""

    layers: list[dict[str, Any]]
    """A row a layer: `layer`, `module_type`, `n_rows`, `mean`, `std`, `min`, `max`, `quantiles` (5, 25, 50, 75 and
    95 %), `rms_change`, `n_off`."""
    by_module_type: list[dict[str, Any]]
    """A row a module type, over all rows of its layers: `module_type`, `n_layers`, `n_rows`, `mean`, `std`,
    `rms_change`, `n_off`, `quantiles`."""
    n_rows: int
    n_off: int

    def __str__(self) -> str:
        head = (
            f"Row scale α of {len(self.layers):,} layers, {self.n_rows:,} rows; {self.n_off:,} switched off "
            f"(|α| < {ROW_OFF}). Changes are distances from 1, the base model."
        )
        table = [list(HEADINGS), *(_texts(row) for row in self.by_module_type)]
        return "\n".join([head, "", *aligned(table)])


def row_scale_summary(model: nn.Module, adapter: str | None = None) -> RowScaleSummary:
    """Mean, spread, quantiles and switched-off rows of α by layer and by module type.

    rms change = sqrt(mean over rows of (α − 1)²); the standard deviation divides by the number of rows.

    Args:
        model: a model with an α-LoRA adapter, as `peft.get_peft_model` or `PeftModel.from_pretrained` gives it; only
            read. Of row scales by task, those of the active task.
        adapter: its name; the active adapter if not given.

    Returns:
        Pure numbers, computed in float64. A module type is the end of a layer's name that tells it from others:
        `q_proj`, but `attn.c_proj` and `mlp.c_proj`.

    Raises:
        InputError: the model has no row scale, or one that is not finite.

    **Source**: ours. That α keeps and cuts off rows of the frozen weights is from the α-LoRA paper (arXiv 2510.21345).
    """
    scales = row_scales(model, adapter)
    types, layers = module_types(scales), layers_of(scales)
    by_type: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for name, alpha in scales.items():
        by_type[types[name]].append(_finite(name, alpha))
    return RowScaleSummary(
        layers=layers,
        by_module_type=[
            {"module_type": name, "n_layers": len(alphas), **_numbers(np.concatenate(alphas))}
            for name, alphas in by_type.items()
        ],
        n_rows=sum(layer["n_rows"] for layer in layers),
        n_off=sum(layer["n_off"] for layer in layers),
    )


def row_scale_drift(model: nn.Module) -> dict[str, float]:
    """The rms change of α by module type, cheap enough to call while training.

    Args:
        model: a model with an active α-LoRA adapter.

    Returns:
        sqrt(mean over rows of (α − 1)²), a pure number, by module type in the order of the model; nan or inf where a
        row scale is: a training that diverges is no mistake of the caller.

    Raises:
        InputError: the model has no row scale.
    """
    return drift_of(row_scales(model))


def drift_of(scales: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """As `row_scale_drift`, of (rows,) each by layer."""
    by_type: dict[str, list[torch.Tensor]] = defaultdict(list)
    types = module_types(scales)
    for name, alpha in scales.items():
        by_type[types[name]].append(alpha)
    return {name: rms_change(alphas) for name, alphas in by_type.items()}


def layers_of(scales: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """The `layers` of a `RowScaleSummary`, of (rows,) each by layer.

    Raises:
        InputError: a row scale that is not finite.
    """
    types = module_types(scales)
    return [
        {"layer": name, "module_type": types[name], **_layer_numbers(_finite(name, alpha))}
        for name, alpha in scales.items()
    ]


def _texts(row: dict[str, Any]) -> list[str]:
    """The cells of a row of the table, in the order of `HEADINGS`."""
    changes = [row["mean"], row["std"], row["rms_change"], *row["quantiles"]]
    counts = f"{row['n_layers']:,}", f"{row['n_rows']:,}"
    return [row["module_type"], *counts, *(f"{change:.4f}" for change in changes), f"{row['n_off']:,}"]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose rows begin with a name and go on with numbers; each row is as long as the first."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))])
        for name, *rest in table
    ]


def rms_change(alphas: Collection[torch.Tensor]) -> float:
    """sqrt(mean over the entries of all of (α − 1)²), in float32; the tensors may lie on several devices."""
    squares = sum(float((alpha.detach().float() - START).square().sum()) for alpha in alphas)
    return math.sqrt(squares / sum(alpha.numel() for alpha in alphas))


def _finite(name: str, alpha: torch.Tensor) -> NDArray[np.float64]:
    values = alpha.cpu().double().numpy()
    if broken := int((~np.isfinite(values)).sum()):
        first = float(values[~np.isfinite(values)][0])
        raise InputError(
            f"{broken:,} of the {values.size:,} row scales of {name} are not finite (the first is {first}): training "
            "diverged. Take an earlier checkpoint, or train again with a lower row_scale_learning_rate."
        )
    return values


def _layer_numbers(alpha: NDArray[np.float64]) -> dict[str, Any]:
    return {"min": float(alpha.min()), "max": float(alpha.max()), **_numbers(alpha)}


def _numbers(alpha: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "n_rows": alpha.size,
        "mean": float(alpha.mean()),
        "std": float(alpha.std()),
        "rms_change": float(np.sqrt(((alpha - START) ** 2).mean())),
        "n_off": int((np.abs(alpha) < ROW_OFF).sum()),
        "quantiles": [float(q) for q in np.quantile(alpha, QUANTILES)],
    }
