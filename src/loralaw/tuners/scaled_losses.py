"""The loss of a model on ready batches with the outputs of some layers scaled, and its slope in those scales."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from loralaw.errors import InputError

Batches = Sequence[tuple[int, Mapping[str, Any]]]
"""Each with its place in the data, for messages."""

NOT_CALLED = "the model does not call this layer on these data"
NO_GRADIENTS = (
    "the model calls this layer without gradients: under torch.no_grad() or torch.inference_mode(), or in "
    "torch.utils.checkpoint with use_reentrant=True"
)
NOT_READ = "the loss has no gradient in what this layer puts out: it does not depend on it, or was detached from it"
OUT_OF_RANGE = "what this layer puts out is too small or too large to be squared in float32"
_RANGE = np.finfo(np.float32)


@dataclass
class LayerSlopes:
    """How the loss depends on a common scale α of one layer's outputs y, at α = 1, example by example."""

    slopes: list[NDArray[np.float64]] = field(default_factory=list)
    """⟨g, y⟩ over the example's positions and features, g the gradient of the example's own loss in y: (examples,) a
    batch."""
    squares: list[NDArray[np.float64]] = field(default_factory=list)
    """⟨y, y⟩ over the example's positions that the loss depends on: (examples,) a batch."""
    why_not: str | None = NOT_CALLED
    """Why there is nothing to be told of this layer, if so."""


@torch.no_grad()
def batch_losses(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Batches, row_scales: Mapping[str, float]
) -> NDArray[np.float64]:
    """The loss of every batch, in the model's unit, with the outputs of layers multiplied by numbers.

    Args:
        model: in evaluation mode.
        layers: by name.
        batches: what its forward takes, on its device.
        row_scales: α by the name of a layer; the others are left alone.

    Returns:
        (batches,) numbers, finite or not.

    Raises:
        InputError: the model gives no loss.
    """
    scaled = {name: layers[name] for name in row_scales}
    with _outputs_changed(scaled, lambda name, _, output: output * row_scales[name]):
        return np.array([float(_loss(model, batch, number)) for number, batch in batches])


def measure_slopes(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Batches
) -> tuple[NDArray[np.float64], dict[str, LayerSlopes]]:
    """The loss of every batch and its slopes; parameters are neither asked for a gradient nor given one.

    Args:
        model: in evaluation mode; all of its parameters may be frozen.
        layers: by name; what a layer puts out in several calls in one pass is taken together.
        batches: what its forward takes, on its device.

    Returns:
        (batches,) finite losses, and what is told of each layer.

    Raises:
        InputError: the model gives no loss, or one that is not finite, or layers give numbers of too short a range.
    """
    measured = {name: LayerSlopes() for name in layers}
    losses = []
    for number, batch in batches:
        with torch.enable_grad():
            watch = _Watch(measured, _n_examples(batch))
            with _outputs_changed(layers, watch):  # also in the backward pass, where checkpoints call layers again
                loss = _loss(model, batch, number)
                losses.append(float(loss.detach()))
                check_finite(losses[-1], number)
                watch.take(loss)
    for layer in measured.values():
        square = np.concatenate(layer.squares).mean()
        if layer.why_not is None and np.concatenate(layer.slopes).any() and not _RANGE.tiny <= square <= _RANGE.max:
            layer.why_not = OUT_OF_RANGE
    return np.array(losses), measured


def check_finite(loss: float, number: int) -> None:
    """Refuse the loss of a batch that is not finite.

    Raises:
        InputError: it is not; with the batch's place in the data.
    """
    if not math.isfinite(loss):
        raise InputError(
            f"the loss of batch {number} is {loss}: leave out batches without any label (all -100), and load the model "
            "in float32 or bfloat16; else its weights are broken"
        )


class _Watch:
    """Multiplies what layers put out by ones, a factor an example, whose gradients are the slopes of one batch."""

    def __init__(self, measured: dict[str, LayerSlopes], n_examples: int) -> None:
        self._measured, self._n_examples = measured, n_examples
        self._factors: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    def __call__(self, name: str, layer: nn.Module, output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():  # a part of the model that has switched it off, or a pass for memory's sake
            if self._measured[name].why_not == NOT_CALLED:
                self._measured[name].why_not = NO_GRADIENTS
            return None
        if output.dtype == torch.float16:
            raise InputError(
                f"{name} computes in float16, where gradients of a mean loss become 0: load the model in bfloat16 or "
                "float32"
            )
        if output.dim() < 2 or len(output) != self._n_examples:
            self._measured[name].why_not = (
                f"its output of the shape {tuple(output.shape)} has not one entry for each of {self._n_examples} "
                "examples"
            )
            return None
        dtype = torch.promote_types(output.dtype, torch.float32)
        if name not in self._factors:
            self._factors[name] = torch.ones(self._n_examples, dtype=dtype, device=output.device, requires_grad=True)
            self._squares[name] = torch.zeros(self._n_examples, dtype=dtype, device=output.device)
        seen = (output * self._factors[name].view(-1, *[1] * (output.dim() - 1))).to(output.dtype)
        features = 1 if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else -1
        seen.register_hook(  # type: ignore[no-untyped-call]
            partial(_add_squares, self._squares[name], output.detach(), features)
        )
        return seen

    def take(self, loss: Tensor) -> None:
        """The slopes of each example's own loss, of which the batch's is the mean."""
        factors = list(self._factors.values())
        gradients: tuple[Tensor | None, ...] = (None,) * len(factors)
        if factors and loss.requires_grad:
            gradients = _gradients(loss * self._n_examples, factors)
        found = dict(zip(self._factors, gradients, strict=True))
        for name, layer in self._measured.items():
            gradient = found.get(name)
            if gradient is not None:
                self._keep(name, layer, gradient)
                continue
            layer.slopes.append(np.zeros(self._n_examples))
            layer.squares.append(np.zeros(self._n_examples))
            if name in found and layer.why_not in (NOT_CALLED, NO_GRADIENTS):
                layer.why_not = NOT_READ

    def _keep(self, name: str, layer: LayerSlopes, gradient: Tensor) -> None:
        if not bool(gradient.isfinite().all()):
            raise InputError(f"{name}: the slope of the loss is not finite: the model's weights are broken")
        layer.slopes.append(gradient.cpu().double().numpy())
        layer.squares.append(self._squares[name].cpu().double().numpy())
        if layer.why_not in (NOT_CALLED, NO_GRADIENTS, NOT_READ):
            layer.why_not = None


def _gradients(loss: Tensor, factors: list[Tensor]) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(loss, factors, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise InputError(
            "the model calls torch.utils.checkpoint with use_reentrant=True, which torch.autograd.grad cannot pass: "
            "give it use_reentrant=False, or switch checkpointing off meanwhile"
        ) from error


def _add_squares(squares: Tensor, output: Tensor, features: int, gradient: Tensor) -> None:
    """Padding, and whatever else the loss does not depend on, has no gradient and does not count."""
    counted = (gradient != 0).any(dim=features, keepdim=True)
    squares += (output.to(squares.dtype).square() * counted).flatten(1).sum(1)


@contextmanager
def _outputs_changed(
    layers: Mapping[str, nn.Module], change: Callable[[str, nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """Forward hooks by which `change` replaces what layers put out, unless it gives None."""
    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_hook(partial(_changed, change, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _changed(
    change: Callable[[str, nn.Module, Tensor], Tensor | None], name: str, layer: nn.Module, _: Any, output: Tensor
) -> Tensor | None:
    return change(name, layer, output)


def _n_examples(batch: Mapping[str, Any]) -> int:
    """Rows of the labels, or of the first tensor."""
    tensors = [batch.get("labels"), *batch.values()]
    return next(len(value) for value in tensors if isinstance(value, Tensor) and value.dim())


def _loss(model: nn.Module, batch: Mapping[str, Any], number: int) -> Tensor:
    output: Any = model(**batch)
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if not isinstance(loss, Tensor):
        what = f"batch {number} holds {', '.join(batch)}"
        if "labels" in batch:
            raise InputError(
                f"the output of {type(model).__name__} has no loss, though {what}: give a model whose forward computes "
                "one, such as transformers' AutoModelForCausalLM or AutoModelForSequenceClassification"
            )
        raise InputError(
            f"the output of {type(model).__name__} has no loss, and {what} and no labels: add them to the batches, for "
            "a language model those of the tokens, with -100 at the padding"
        )
    if loss.numel() != 1 or loss.is_complex():
        raise InputError(
            f"the loss of {type(model).__name__} has the shape {tuple(loss.shape)} and is in {loss.dtype}: give a "
            "model whose loss is one real number, the mean over the batch"
        )
    return loss
