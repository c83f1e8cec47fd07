"""What a probe has measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from loralaw._version import __version__

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ProbeResult:
    """How much an adapter leans on its frozen base, layer by layer."""

    adapter: str
    """The name of the active adapter; of several, joined by " + "."""
    base_model: str | None
    """The base model's own name or path, where it has one."""
    estimators: tuple[str, ...]
    n_tokens: int
    """Real tokens, without padding."""
    n_sequences: int
    layers: list[dict[str, Any]]
    """A dict a layer, in the order in which the model runs them: those of `LayerStatistics.rows` ("layer", "n_tokens",
    "miub_nats", "miub_stderr_nats", ..., "norm_ratio", "cosine"), "module" (the last part of the name) and
    "effective_rank" (of Σ s·BA)."""
    means: dict[str, float | None]
    """`LayerStatistics.means`, and the mean effective rank."""
    skipped: dict[str, str]
    """Layers with LoRA modules that were not measured, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Plain types as JSON knows them (null for what is not a finite number), with the versions of what measured."""
        versions = {name: version(name) for name in ("torch", "transformers", "peft")}
        return {
            "adapter": self.adapter,
            "base_model": self.base_model,
            "estimators": list(self.estimators),
            "n_tokens": self.n_tokens,
            "n_sequences": self.n_sequences,
            "layers": [plain(layer) for layer in self.layers],
            "means": plain(self.means),
            "skipped": dict(self.skipped),
            "versions": {"loralaw": __version__, **versions},
        }

    def table(self) -> "pl.DataFrame":
        """One row a layer, the columns of `layers`."""
        import polars as pl  # not at the top: a callback in a training needs no tables, and they cost 23 MB

        return pl.DataFrame(self.layers, infer_schema_length=None)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """None for what is not a finite number: JSON has no word for it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
