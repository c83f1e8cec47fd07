"""Synthetic studies of alpha-lora: cells with row scales whose distribution and drift are known."""

from pathlib import Path
from typing import Any

import numpy as np
from synthetic_study import FEED_FORWARD, MODULES, write_synthetic

from loralaw.store import Study, open_study, write_json

CHANGES = dict(zip(MODULES + FEED_FORWARD, (-0.03, -0.02, 0.06, 0.04, -0.05, 0.0, 0.02), strict=True))
"""Mean α − 1 by module where a pattern is planted."""

N_ROWS = {"gate_proj": 64, "up_proj": 64}
STEPS = (0, 60, 120, 180, 240, 300)


def write_alpha_study(path: Path, pattern: bool = True, noise: float = 0.004, **study: Any) -> Study:
    """`write_synthetic` with the method alpha-lora and a row scale in every finished record.

    A module's mean α − 1 is that of `CHANGES` (0 for all without `pattern`) plus normal noise of each layer and cell;
    rows spread by 0.03 around it, and 2 rows of every down_proj are switched off.
    """
    write_synthetic(path, method_name="alpha-lora", **study)
    for place in sorted(path.glob("cells/*/record.json")):
        record = open_study(path).record(place.parent.name)
        assert record is not None
        if record["status"] == "finished":
            random = np.random.default_rng(int(record["key"], 16))
            layers = [_layer(row["layer"], pattern, noise, random) for row in record["layers"]]
            write_json(place, record | {"row_scale": {"layers": layers, "drift": drift(layers)}})
    return open_study(path)


def drawn(name: str, pattern: bool, noise: float, random: np.random.Generator) -> np.ndarray:
    """α of one layer."""
    module = ".".join(name.split(".")[-2:])
    centre = 1 + (CHANGES[module] if pattern else 0) + random.normal(0, noise)
    alpha = centre + random.normal(0, 0.03, N_ROWS.get(name.split(".")[-1], 32))
    if module == "mlp.down_proj":
        alpha[:2] = 0.01, -0.02
    return alpha


def layer_row(name: str, alpha: np.ndarray) -> dict[str, Any]:
    """What a record says of a layer."""
    return {
        "layer": name,
        "module_type": name.split(".")[-1],
        "n_rows": len(alpha),
        "mean": float(alpha.mean()),
        "std": float(alpha.std()),
        "min": float(alpha.min()),
        "max": float(alpha.max()),
        "quantiles": [float(q) for q in np.quantile(alpha, [0.05, 0.25, 0.5, 0.75, 0.95])],
        "rms_change": float(np.sqrt(((alpha - 1) ** 2).mean())),
        "n_off": int((abs(alpha) < 0.05).sum()),
    }


def drift(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rms change of every module type grows as the square root of the step to that of its last layer."""
    last = {layer["module_type"]: layer["rms_change"] for layer in layers}
    return [{"step": s, "rms_change": {t: v * (s / STEPS[-1]) ** 0.5 for t, v in last.items()}} for s in STEPS]


def _layer(name: str, pattern: bool, noise: float, random: np.random.Generator) -> dict[str, Any]:
    return layer_row(name, drawn(name, pattern, noise, random))
