"""Synthetic studies with known laws, written through the real store."""

import hashlib
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loralaw.store import Study, open_study, write_json, write_study

BASES = {"micro-0.4m": 400_000, "micro-1.3m": 1_300_000, "micro-6m": 6_100_000}
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def write_synthetic(
    path: Path,
    bases: Sequence[str] = tuple(BASES),
    ranks: Sequence[int] = (1, 4, 16, 64),
    sizes: Sequence[int] = (64, 512, 4096),
    seeds: Sequence[int] = (0, 1),
    n_run: int | None = None,
    failed: dict[int, tuple[str, str]] | None = None,
    choices: bool = True,
    method_name: str = "lora",
    controls: bool = True,
    full: bool = False,
) -> Study:
    """A grid of cells whose cross-entropy is 1.5 + 0.4 r^-0.6 + 4 D^-0.4 + 30 N^-0.25 with a noise of 0.01.

    `n_run` cells have ended; `failed` maps the number of a cell to its status and reason. Without `controls` the
    records are as the first version wrote them: no standard errors, cosine or effective rank by layer. With `full`
    there are also cells of full fine-tuning, without a rank, as good as one of rank 1024.
    """
    cells: list[tuple[str, int | None, int, int]] = list(itertools.product(bases, ranks, sizes, seeds))
    cells += itertools.product(bases, [None], sizes, seeds) if full else []
    keys = [hashlib.sha256(repr(cell).encode()).hexdigest()[:16] for cell in cells]
    settings = {
        "name": "synthetic",
        "base_models": list(bases),
        "task": {"name": "stdlib-code"},
        "ranks": list(ranks),
        "sizes": list(sizes),
        "seeds": list(seeds),
        "training": {"steps": 300, "learning_rate": 0.002},
    }
    provenance = {"command": "loralaw run synthetic.yaml", "versions": {"loralaw": "0.1.0", "python": "3.11.7"}}
    write_study(path, settings, keys, provenance)
    for number, (key, cell) in enumerate(list(zip(keys, cells, strict=True))[:n_run]):
        record = _record(key, *cell, choices=choices, method_name=method_name, controls=controls)
        if failed and number in failed:
            status, reason = failed[number]
            record |= {"status": status, "reason": reason, "metrics": {}, "layers": []}
        write_json(path / "cells" / key / "record.json", record)
    return open_study(path)


def _controls(rank: int, layer: int, noise: random.Random) -> dict[str, float]:
    return {
        "miub_stderr_nats": 0.004,
        "jsd_stderr_nats": 0.002,
        "cosine": 0.05 * (layer - 1) + noise.gauss(0, 0.01),
        "effective_rank": rank**0.8,
    }


def _record(
    key: str, base: str, rank: int | None, size: int, seed: int, choices: bool, method_name: str, controls: bool
) -> dict[str, Any]:
    record = _with_rank(key, base, rank or 1024, size, seed, choices, method_name, controls)
    return record if rank is not None else _without_adapter(record)


def _without_adapter(record: dict[str, Any]) -> dict[str, Any]:
    """The record as full fine-tuning leaves it: no rank, no layers, nothing measured inside an adapter."""
    inside = {name for name in record["layers"][0] if name != "layer"}
    metrics = {name: value for name, value in record["metrics"].items() if name not in inside}
    measures = sorted(name for name in inside if "stderr" not in name)
    absent = {**record["absent_metrics"], **dict.fromkeys(measures, "there is no adapter")}
    counts = {**record["counts"], "n_params_trainable": record["counts"]["n_params_total"]}
    cell = {**record["cell"], "method": {"name": "full", "learning_rate": 5e-4}, "rank": None}
    provenance = {**record["provenance"], "path": "trainer"}
    changed = {"cell": cell, "layers": [], "metrics": metrics, "absent_metrics": absent, "counts": counts}
    return {**record, **changed, "provenance": provenance}


def _with_rank(
    key: str, base: str, rank: int, size: int, seed: int, choices: bool, method_name: str, controls: bool
) -> dict[str, Any]:
    noise = random.Random(f"{base} {rank} {size} {seed}")
    n_params = BASES.get(base, 2_000_000)
    loss = 1.5 + 0.4 * rank**-0.6 + 4 * size**-0.4 + 30 * n_params**-0.25 + noise.gauss(0, 0.01)
    n_layers = {"micro-0.4m": 2, "micro-1.3m": 4}.get(base, 6)
    layers = [
        {
            "layer": f"model.layers.{layer}.{module}",
            "miub_nats": (0.12 + 0.01 * layer + 0.02 * place) * rank**-0.15 * (1 + noise.gauss(0, 0.03)),
            "jsd_nats": 0.15 * rank**-0.02 * (1 + noise.gauss(0, 0.02)),
            "norm_ratio": 0.7 * rank**-0.05 * (1 + noise.gauss(0, 0.02)),
            **(_controls(rank, layer, noise) if controls else {}),
        }
        for layer in range(n_layers)
        for place, module in enumerate(MODULES + FEED_FORWARD)
    ]
    metrics = {
        "cross_entropy": loss,
        "cross_entropy_stderr": 0.012,
        "cross_entropy_per_byte": loss / 3,
        "perplexity": 2.718281828**loss,
        "accuracy": 0.6 - 0.08 * loss,
        "accuracy_stderr": 0.004,
        "choice_accuracy": max(0.25, 0.9 - 0.15 * loss + noise.gauss(0, 0.02)) if choices else None,
        "choice_accuracy_stderr": 0.05 if choices else None,
        **{name: sum(float(x[name]) for x in layers) / len(layers) for name in layers[0] if name != "layer"},  # type: ignore[arg-type]
        "train_loss": loss - 0.2,
    }
    return {
        "format": 1,
        "key": key,
        "status": "finished",
        "reason": None,
        "cell": {
            "base_model": base,
            "base_model_hash": hashlib.sha256(base.encode()).hexdigest(),
            "method": {"name": method_name, "lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": "all-linear"},
            "rank": rank,
            "n_train_examples": size,
            "seed": seed,
            "task": {"name": "stdlib-code"},
            "data_hash": "d" * 64,
            "template": None,
            "training": {"steps": 300},
        },
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "absent_metrics": {} if choices else {"choice_accuracy": "the task has no choices"},
        "layers": layers,
        "counts": {"n_params_total": n_params, "n_params_trainable": 1000 * rank, "n_train_tokens": 300 * 4 * 64},
        "cost": {
            "train_seconds": 0.4 * (n_params / 4e5) ** 0.6 * (1 + rank / 128) * (1 + noise.random() / 20),
            "evaluate_seconds": 0.2,
            "peak_memory_bytes": 10**9,
        },
        "provenance": {
            "loralaw": "0.1.0",
            "torch": "2.13.0",
            "device": "cpu",
            "n_threads": 2,
            "platform": "Linux x86_64",
            "finished_at": "2026-01-02T03:04:05+00:00",
            "pack": [key],
            "path": "packed",
        },
    }
