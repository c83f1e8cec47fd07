"""Which layers of a base model an adapter goes into, and how large it is: known before anything is built."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loralaw.errors import ModelError, did_you_mean
from loralaw.models.heads import HEADS
from loralaw.training.target_words import (
    ALL_LINEAR,
    WORDS,
    LinearLayers,
    fits,
    leaves,
    linear_layers,
    names_of_word,
    shortest_ends,
)

_ONE_MORE_PER_OUTPUT = ("dora", "alpha-lora")


def layer_dimensions(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """(input features, output features); GPT-2's `Conv1D` keeps its weight transposed."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.weight.shape[0], layer.weight.shape[1]


def resolve_target_modules(model: PreTrainedModel, target_modules: str | Collection[str]) -> str | list[str]:
    """What PEFT is given for a setting of a study: a word becomes the ends of the names of this model's layers.

    "all-linear" of a causal language model stays the word, which PEFT means as we do. Of a classifier it becomes names
    too: PEFT would adapt a pooler, which is as new as the head.

    Args:
        model: a base model without adapters; shapes suffice.
        target_modules: a word (see `target_words`), or names, which are given back.

    Raises:
        ModelError: the word means no layer of this model, or is no word.
    """
    if not isinstance(target_modules, str):
        return list(target_modules)
    if target_modules == ALL_LINEAR and model.get_output_embeddings() is not None:
        return target_modules
    layers = linear_layers(model)
    return shortest_ends(_names(model, layers, target_modules), layers)


def targeted_layers(model: PreTrainedModel, target_modules: str | Collection[str]) -> dict[str, tuple[int, int]]:
    """The layers that adapters go into, in the model's order, by PEFT's rules.

    Args:
        model: a base model without adapters.
        target_modules: a word ("all-linear": every linear layer but those of the head; the others in `target_words`),
            or names: a full module name or its end, such as "q_proj".

    Returns:
        Module name -> (input features, output features).

    Raises:
        ModelError: a name fits no layer, fits a layer that is not linear, or fits the head; a word means no layer.
    """
    layers = linear_layers(model)
    names = _names(model, layers, target_modules)
    return {name: layer_dimensions(layers.body[name]) for name in layers.body if name in names}


def _names(model: PreTrainedModel, layers: LinearLayers, target_modules: str | Collection[str]) -> set[str]:
    """Names of the layers that are meant."""
    if isinstance(target_modules, str) and target_modules in WORDS:
        return names_of_word(model, layers, target_modules)
    if isinstance(target_modules, str) or not target_modules:
        words = ", ".join(WORDS)
        raise ModelError(
            f"target_modules is {target_modules!r}: give one of {words}, or a list of names out of "
            f"{leaves(layers.body)}"
        )
    for target in target_modules:
        _check_target(model, layers, target)
    return {name for name in layers.body if any(fits(name, target) for target in target_modules)}


def _check_target(model: PreTrainedModel, layers: LinearLayers, target: str) -> None:
    accepted = leaves(layers.body)
    if any(fits(name, target) for name in layers.head):
        raise ModelError(
            f'target_modules names the output head ("{target}"): training here keeps it out of the adapter, and many '
            f"models share it with the input embedding; accepted: {accepted}"
        )
    if any(fits(name, target) for name in layers.body):
        return
    other = next((type(m).__name__ for name, m in model.named_modules() if name and fits(name, target)), None)
    what = f"is a {other}, not a linear layer" if other else "is no layer of this model"
    raise ModelError(
        f'target_modules: "{target}" {what}; {type(model).__name__} has {accepted}.' + did_you_mean(target, accepted)
    )


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
        of a classifier  the same, and its head in any case

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
    head = head_of(model)
    n_of_head = 0 if head is None else sum(parameter.numel() for parameter in head.parameters())
    return n_of_head + sum(
        rank * n_in + per_output * n_out for n_in, n_out in targeted_layers(model, method["target_modules"]).values()
    )


def head_of(model: PreTrainedModel) -> nn.Module | None:
    """The classification head on top of a model, which PEFT trains beside an adapter; None of a language model."""
    return next((head for name in HEADS if isinstance(head := getattr(model, name, None), nn.Module)), None)
