"""Where the row scale may begin: one number a layer, from the slopes of the loss, checked on other batches."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit
from torch import Tensor, nn

from loralaw.errors import InputError
from loralaw.layer_names import module_types
from loralaw.tuners.line_search import best_step
from loralaw.tuners.row_scale_layers import frozen_layers
from loralaw.tuners.row_scale_suggestion import RowScaleSuggestion
from loralaw.tuners.scaled_losses import Batches, LayerSlopes, batch_losses, check_finite, measure_slopes
from loralaw.tuners.undisturbed import undisturbed

N_STANDARD_ERRORS = 2.0
"""What counts as evidence of one quantity known from many observations; see `_threshold` for few and for several."""

MIN_BATCHES = 8
"""Half of them check: with fewer than 4, a change of the loss must be large to be told from chance."""

LOWEST, HIGHEST = 0.2, 5.0
"""No α is suggested outside."""

_FIRST_CHANGE = 0.1  # of the α that changes most, at the first step of the line search


def suggest_row_scale(
    model: nn.Module, data: Iterable[Mapping[str, Any]], *, target_modules: str | Iterable[str] | None = None
) -> RowScaleSuggestion:
    """One row scale α for every frozen layer, to begin a training of α-LoRA with, where the data have evidence for it.

    In the linear theory the best common scale of a frozen layer is that of the regression of the targets t on what the
    layer puts out, y = Wx + b: α = ⟨t, y⟩/⟨y, y⟩. A layer in a network has no targets of its own. Here they are the
    outputs after a step against the gradient of the loss, t = y - ε g with g = ∂loss/∂y, which makes

        α_l = 1 - ε ⟨g, y⟩_l / ⟨y, y⟩_l        in each layer l, with one ε for all.

    ⟨g, y⟩_l is the slope of the loss in α_l; it and ⟨y, y⟩_l are means over examples of sums over features and over the
    positions that the loss depends on. The even batches (the first, the third, ...) give:

    - the evidence of each layer: the mean slope over its standard error by example, |t|. Below the threshold α stays 1.
      The threshold is 2, made larger for few examples (Student's t) and for several layers (Bonferroni), so that of
      layers whose best α is 1 any has evidence in at most one of 22 data sets.
    - ε, by a line search on the loss (at most 8 steps, forward passes only; no α leaves [0.2, 5]).

    The odd batches check: the loss with the suggested α must fall below that with α = 1 by more than 2 standard errors
    of the difference by batch (again made larger for few: 3.3 for 4 batches). Otherwise all α stay 1, and the
    suggestion says so. What is checked is where a training begins, not where it ends: in the trainings of
    benchmarks/suggested_row_scale.py nothing clear was left of the gain after 20 steps, and some were behind those from
    α = 1. As a start it is not recommended (docs/alpha_lora.md). A model with a new head, such as a classifier's, is to
    be trained first: the slopes are those of this head's numbers.

    Evaluation mode, without dropout. Weights, gradients, modes, `requires_grad`, hooks and torch's random state are
    left as they were, also when a pass fails.

    Args:
        model: any torch module whose `forward(**batch)` gives an object or a mapping with `loss`, the mean over the
            batch, such as a transformers model with a head; or with LoRA or α-LoRA layers (α = 1) in it, then these are
            meant, and y is what is frozen in them. Linear layers, also quantised ones and transformers' Conv1D,
            embeddings, convolutions; in float32, bfloat16 or float64.
        data: at least 8 batches of the same kind, such as a DataLoader's: mappings with tensors of (examples, ...),
            among them what the model needs for its loss (`labels`). On any device. Batches weigh the same. All of them
            are read before the first pass and kept on the model's device: an endless stream is to be cut.
        target_modules: which layers, as `AlphaLoraConfig` names them; None: the adapted ones, or "all-linear".

    Returns:
        α, slope and evidence by layer, and the change of the held-out loss; in units of the loss (nats for a language
        model).

    Raises:
        InputError: no batches or too few, batches of another kind, no loss or one that is not finite in any batch;
            layers that do not exist, merged adapters, an α other than 1 already, or no layer that can be measured; a
            call under torch.inference_mode(), or a model that checkpoints with use_reentrant=True.
        ModelError: a layer that α-LoRA cannot adapt. What the model's forward raises is passed on.

    **Source**: ours; the regression form: α-LoRA, arXiv 2510.21345. **Departs from source**: its theory has one linear
    layer and true targets.

    **Cost.** A forward and a backward pass over half of the batches, at most 8 forward passes over these, and 2 over
    the others: about 6 forward passes over the data. Every layer's output is kept during a backward pass.

    >>> import torch
    >>> class Halved(nn.Module):  # its layer puts out half of what it should
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(4, 2, bias=False)
    ...     def forward(self, x, labels):
    ...         return {"loss": nn.functional.mse_loss(self.layer(x), labels)}
    >>> _ = torch.manual_seed(0)
    >>> model = Halved()
    >>> inputs = [torch.randn(16, 4) for _ in range(8)]
    >>> data = [{"x": x, "labels": 2 * model.layer(x).detach()} for x in inputs]
    >>> suggestion = suggest_row_scale(model, data)
    >>> round(suggestion.row_scales["layer"], 3)
    2.0
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "suggest_row_scale is called under torch.inference_mode(), and needs gradients: call it outside, or under "
            "torch.no_grad()"
        )
    layers = frozen_layers(model, target_modules)
    with undisturbed(model):
        batches = _ready(data, model)
        found, held_out = batches[::2], batches[1::2]
        losses, measured = measure_slopes(model, layers, found)
        _check_measured(measured)
        held_out_losses = batch_losses(model, layers, held_out, {})
        for loss, (number, _) in zip(held_out_losses, held_out, strict=True):
            check_finite(loss, number)
        n_examples = sum(map(len, next(iter(measured.values())).slopes))
        threshold = _threshold(n_examples, n_tests=sum(layer.why_not is None for layer in measured.values()))
        rows = _rows(measured, threshold)
        directions = {row["layer"]: _direction(row, measured) for row in rows if row["has_evidence"]}
        if not directions:
            status = f"No evidence, all α are 1: no layer's slope of the loss has |t| > {threshold:.2f}."
            return RowScaleSuggestion(rows, status, None, None, threshold, n_examples)

        def loss_at(step: float) -> float:
            return float(batch_losses(model, layers, found, _scales(directions, step)).mean())

        first = _FIRST_CHANGE / max(map(abs, directions.values()))
        limit = min((HIGHEST - 1) / d if d > 0 else (LOWEST - 1) / d for d in directions.values())
        step = best_step(loss_at, float(losses.mean()), first, limit)
        row_scales = _scales(directions, step)
        changes = batch_losses(model, layers, held_out, row_scales) - held_out_losses
    return RowScaleSuggestion(*_judged(rows, row_scales, changes, step == limit), threshold, n_examples)


def _judged(
    rows: list[dict[str, Any]], row_scales: Mapping[str, float], changes: NDArray[np.float64], at_limit: bool
) -> tuple[list[dict[str, Any]], str, float | None, float | None]:
    """(the rows with α, the status, change of the held-out loss, its standard error)."""
    reason = "the loss of the held-out batches did not fall enough"
    refused = [row | {"has_evidence": False, "reason": row["reason"] or reason} for row in rows]
    if n_broken := int((~np.isfinite(changes)).sum()):
        status = f"No evidence, all α are 1: with others the loss of {n_broken} of the {len(changes)} held-out batches "
        return refused, status + "is not finite.", None, None
    change, error = _mean_and_error(changes)
    needed = _threshold(len(changes))
    seen = f"the loss of the {len(changes)} held-out batches changes by {change:+.4g} (standard error {error:.2g})"
    if error and change < -needed * error:
        at_end = f" The step ended where an α would leave [{LOWEST:g}, {HIGHEST:g}]." if at_limit else ""
        scaled = [row | {"row_scale": row_scales.get(row["layer"], 1.0)} for row in rows]
        return scaled, f"With them {seen}.{at_end}", change, error
    why = (
        f"and had to fall by more than {needed:.2f} standard errors" if error else "the same in each: they show nothing"
    )
    return refused, f"No evidence, all α are 1: {seen}, {why}.", change, error


def _ready(data: Any, model: nn.Module) -> Batches:
    """The batches on the model's device, each with its number."""
    hint = 'give a DataLoader, or a list of mappings such as {"input_ids": ..., "labels": ...} of tensors'
    if isinstance(data, Mapping):
        raise InputError(
            f"data is one {type(data).__name__}: half of the batches check what the others suggest, and {MIN_BATCHES} "
            f"are needed: {hint}"
        )
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise InputError(f"data is of type {type(data).__name__}: {hint}")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batches = []
    for number, batch in enumerate(data):
        if not isinstance(batch, Mapping):
            raise InputError(f"batch {number} is of type {type(batch).__name__}: {hint}")
        if others := [key for key in batch if not isinstance(key, str)]:
            raise InputError(f"batch {number} has the name {others[0]!r}, which is no text: {hint}")
        if not any(isinstance(value, Tensor) and value.dim() for value in batch.values()):
            raise InputError(f"batch {number} holds {', '.join(map(str, batch)) or 'nothing'}, none a tensor: {hint}")
        batches.append((number, {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}))
    if len(batches) < MIN_BATCHES:
        raise InputError(
            f"data has {len(batches)} batches, and at least {MIN_BATCHES} are needed, half of them to check what the "
            "others suggest: give more, or the same rows in smaller batches"
        )
    return batches


def _check_measured(measured: Mapping[str, LayerSlopes]) -> None:
    if all(layer.why_not is not None for layer in measured.values()):
        name, layer = next(iter(measured.items()))
        raise InputError(f"none of the {len(measured):,} layers can be measured; {name}: {layer.why_not}")


def _threshold(n: int, n_tests: int = 1) -> float:
    """How many standard errors of a mean of n are as unlikely by chance as 2 of a mean of very many; with several
    tests, as unlikely that any of them has so many."""
    return -float(stdtrit(n - 1, ndtr(-N_STANDARD_ERRORS) / n_tests))


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if np.ptp(values) else 0.0  # not the mean's rounding
    return float(values.mean()), error


def _rows(measured: Mapping[str, LayerSlopes], threshold: float) -> list[dict[str, Any]]:
    """What each layer's own slopes say."""
    types, rows = module_types(measured), []
    for name, layer in measured.items():
        slope = error = t = None
        reason = layer.why_not
        if reason is None:
            slope, error = _mean_and_error(np.concatenate(layer.slopes))
            t = slope / error if error else None
            if t is None:
                reason = "the slope of the loss is the same in all examples"
            elif abs(t) <= threshold:
                reason = f"the slope of the loss has |t| <= {threshold:.2f}"
        rows.append(
            {
                "layer": name,
                "module_type": types[name],
                "row_scale": 1.0,
                "slope": slope,
                "standard_error": error,
                "t": t,
                "has_evidence": reason is None,
                "reason": reason,
            }
        )
    return rows


def _direction(row: Mapping[str, Any], measured: Mapping[str, LayerSlopes]) -> float:
    """-⟨g, y⟩/⟨y, y⟩ of one layer: the change of its α for ε = 1."""
    return -float(row["slope"]) / float(np.concatenate(measured[row["layer"]].squares).mean())


def _scales(directions: Mapping[str, float], step: float) -> dict[str, float]:
    return {name: 1 + step * direction for name, direction in directions.items()}
