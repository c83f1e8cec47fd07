"""Which layers of a base model an adapter goes into, and how large it is: known before anything is built."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loralaw.errors import ModelError, did_you_mean

ALL_LINEAR = "all-linear"
HEAD_NAMES = ("classifier", "score")
"""What transformers calls the head of a model for sequence classification, and PEFT trains beside an adapter."""
_ONE_MORE_PER_OUTPUT = ("dora", "alpha-lora")


def layer_dimensions(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """(input features, output features); GPT-2's `Conv1D` keeps its weight transposed."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.weight.shape[0], layer.weight.shape[1]


def targeted_layers(model: PreTrainedModel, target_modules: str | Collection[str]) -> dict[str, tuple[int, int]]:
    """The layers that adapters go into, in the model's order, by PEFT's rules.

    Args:
        model: a base model without adapters.
        target_modules: "all-linear" (every linear layer but the output head), or names: a full module name or its end,
            such as "q_proj".

    Returns:
        Module name -> (input features, output features).

    Raises:
        ModelError: a name fits no layer, fits a layer that is not linear, or fits the output head.
    """
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    body = {name: layer_dimensions(module) for name, module in linear.items() if module is not head}
    if target_modules == ALL_LINEAR:
        if not body:
            raise ModelError(f"{type(model).__name__} has no linear layer besides its head: nothing to adapt")
        return body
    if isinstance(target_modules, str) or not target_modules:
        raise ModelError(
            f'target_modules is {target_modules!r}: give "{ALL_LINEAR}" or a list of names out of {_leaves(body)}'
        )
    for target in target_modules:
        if any(_fits(name, target) for name, module in linear.items() if module is head):
            raise ModelError(
                f'target_modules names the output head ("{target}"): packed training keeps the head frozen, '
                f"and many models share it with the input embedding; accepted: {_leaves(body)}"
            )
        if not any(_fits(name, target) for name in body):
            other = next((type(m).__name__ for name, m in model.named_modules() if name and _fits(name, target)), None)
            what = f"is a {other}, not a linear layer" if other else "is no layer of this model"
            raise ModelError(
                f'target_modules: "{target}" {what}; {type(model).__name__} has {_leaves(body)}.'
                + did_you_mean(target, _leaves(body))
            )
    return {name: size for name, size in body.items() if any(_fits(name, target) for target in target_modules)}


def smallest_targeted_dimension(model: PreTrainedModel, target_modules: str | Collection[str]) -> tuple[str, int, int]:
    """The targeted layer with the smallest min(in, out): a rank above that adds parameters but nothing else.

    Returns:
        (module name, input features, output features); the first of equals.

    Raises:
        ModelError: as `targeted_layers`.
    """
    layers = targeted_layers(model, target_modules)
    name = min(layers, key=lambda layer: min(layers[layer]))
    return name, *layers[name]


def n_params_trainable(model: PreTrainedModel, method: Mapping[str, Any], rank: int | None) -> int:
    """Number of numbers that a method trains, known without building anything.

        LoRA             Σ over layers of rank · (in + out)
        DoRA, α-LoRA     the same and Σ out: a magnitude, or a row scale, for every output
        full             every parameter of the model; what is tied counts once

    Args:
        model: a base model without adapters; shapes suffice.
        method: a cell's, with `name` and (but for full) `target_modules`.
        rank: a cell's; None for full.

    Raises:
        ModelError: as `targeted_layers`.
    """
    if method["name"] == "full":
        return sum(parameter.numel() for parameter in model.parameters())
    assert rank is not None
    per_output = rank + (method["name"] in _ONE_MORE_PER_OUTPUT)
    return sum(
        rank * n_in + per_output * n_out for n_in, n_out in targeted_layers(model, method["target_modules"]).values()
    )


def head_of(model: PreTrainedModel) -> nn.Module:
    """The classification head on top of a model: the part that is not its body.

    Raises:
        ModelError: the model has none.
    """
    for name in HEAD_NAMES:
        if isinstance(head := getattr(model, name, None), nn.Module):
            return head
    raise ModelError(f"{type(model).__name__} has no classification head: none of {', '.join(HEAD_NAMES)}")


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _leaves(layers: Collection[str]) -> list[str]:
    """What users type: the last part of every name, each once, in the model's order."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
