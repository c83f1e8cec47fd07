"""What `suggest_row_scale` found: an α for every layer, why, and whether it held on data that it was not chosen on."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from loralaw.tuners.row_scale_summary import aligned

HEADINGS = ("module type", "layers", "with evidence", "lowest α", "median α", "highest α", "largest |t|")


@dataclass(frozen=True)
class RowScaleSuggestion:
    """A row scale to begin with for every layer, one number each; `print` it for a table by module type.

    `AlphaLoraConfig(init_row_scale=...)` takes it as it is.
    """

    layers: list[dict[str, Any]]
    """A row a layer, in the model's order: `layer` (its name in the base model), `module_type`, `row_scale` (α; 1
    without evidence), `slope` (of the loss in a common α of the layer, at 1: the mean over examples; negative: a larger
    α lowers the loss), `standard_error` (of the slope), `t` (their ratio; None where the standard error is 0),
    `has_evidence`, and `reason` (why not, else None). A layer that could not be measured has None for the three
    numbers."""
    status: str
    """What came out, in words."""
    held_out_change: float | None
    """By how much the suggested α change the loss of the batches that they were not chosen on: the mean over batches,
    in units of the loss (nats for a language model). Where the evidence failed this check all `row_scale` are 1, and
    this is the change of those that were refused; None where it did not come to the check, or the loss with them is not
    finite."""
    held_out_standard_error: float | None
    """Of `held_out_change`."""
    t_threshold: float
    """The |t| that is evidence of a layer."""
    n_examples: int
    """Examples that the slopes are a mean of: those of every other batch."""

    @property
    def row_scales(self) -> dict[str, float]:
        """α by the layer's name in the base model, all layers."""
        return {row["layer"]: row["row_scale"] for row in self.layers}

    @property
    def has_evidence(self) -> bool:
        """Whether any α is other than 1."""
        return any(row["has_evidence"] for row in self.layers)

    def __str__(self) -> str:
        by_type = defaultdict(list)
        for row in self.layers:
            by_type[row["module_type"]].append(row)
        table = [list(HEADINGS), *(_texts(name, rows) for name, rows in by_type.items())]
        reasons = Counter(row["reason"] for row in self.layers if row["reason"] is not None)
        head = f"Suggested row scale α of {len(self.layers):,} layers, from {self.n_examples:,} examples."
        return "\n".join(
            [
                f"{head} {self.status}",
                "",
                *aligned(table),
                *([""] if reasons else []),
                *(f"α = 1 in {n:,} of the layers: {reason}" for reason, n in reasons.items()),
            ]
        )


def _texts(module_type: str, rows: list[dict[str, Any]]) -> list[str]:
    alphas, ts = [row["row_scale"] for row in rows], [abs(row["t"]) for row in rows if row["t"] is not None]
    spread = [f"{value:.4f}" for value in (min(alphas), median(alphas), max(alphas))]
    n_evident = sum(row["has_evidence"] for row in rows)
    return [module_type, f"{len(rows):,}", f"{n_evident:,}", *spread, f"{max(ts):.1f}" if ts else "-"]
