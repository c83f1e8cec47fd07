"""Made-up results of a probe, in the form of `ProbeResult.as_dict()`."""

import random
from collections.abc import Sequence
from typing import Any

LLAMA = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
LLAMA += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
BERT = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
BERT += ("intermediate.dense", "output.dense")

MEASURES = ("miub_nats", "jsd_nats", "norm_ratio", "cosine", "effective_rank")


def llama_layers(n_blocks: int) -> list[str]:
    return [f"model.layers.{block}.{module}" for block in range(n_blocks) for module in LLAMA]


def bert_layers(n_blocks: int) -> list[str]:
    return [f"encoder.layer.{block}.{module}" for block in range(n_blocks) for module in BERT]


def synthetic_probe(layers: Sequence[str], **changed: Any) -> dict[str, Any]:
    """A probe of these layers; `changed` replaces entries of the result."""
    rows = [_row(layer, i, random.Random(ascii(layer))) for i, layer in enumerate(layers)]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in MEASURES} if rows else {}
    return {
        "adapter": "./adapters/fiction-to-code",
        "base_model": "micro-1.3m",
        "estimators": ["channel", "jsd"],
        "n_tokens": 8192,
        "n_sequences": 64,
        "layers": rows,
        "means": {**means, "miub_stderr_nats": 0.0012, "jsd_stderr_nats": 0.0007},
        "skipped": {},
        "versions": {"loralaw": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    } | changed


def _row(layer: str, place: int, noise: random.Random) -> dict[str, Any]:
    return {
        "layer": layer,
        "module": layer.rpartition(".")[2],
        "n_tokens": 8192,
        "miub_nats": 0.02 + 0.001 * place + 0.01 * noise.random(),
        "miub_stderr_nats": 0.002,
        "jsd_nats": 0.15 + 0.02 * noise.random(),
        "jsd_stderr_nats": 0.001,
        "norm_ratio": 0.4 + 0.2 * noise.random(),
        "cosine": noise.uniform(-0.1, 0.2),
        "effective_rank": 4 + 3 * noise.random(),
    }
