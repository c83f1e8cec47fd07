"""The words of `target_modules`, and which layers they mean, told from where a layer is rather than from a table.

    all-linear     every linear layer but the head's
    attention      those inside a module that is called after attention, with its output projection
    mlp            those of the feed-forward blocks
    peft-default   PEFT's own table, by the kind of model

**Source**: ours; peft-default is PEFT's `TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loralaw.errors import ModelError
from loralaw.models.heads import head_modules

ALL_LINEAR = "all-linear"
WORDS = (ALL_LINEAR, "attention", "mlp", "peft-default")
_ATTENTION = re.compile(r"(^|_)(attn|attention)($|_)")
_MLP = re.compile(r"^(mlp|ffn?|feed_forward|intermediate|output|fc\d)$")
"""Of a part of a layer's name. BERT calls the second half of a feed-forward block `output`, and so it does the output
projection inside `attention`; OPT has `fc1` and `fc2` without a block around them."""


@dataclass(frozen=True)
class LinearLayers:
    """The linear layers of a model, by name, in its order."""

    body: dict[str, nn.Linear | Conv1D]
    """Those that can have an adapter."""
    head: dict[str, nn.Linear | Conv1D]
    """The output head, a classifier's head, and a pooler."""


def linear_layers(model: PreTrainedModel) -> LinearLayers:
    """All of a base model without adapters."""
    heads = head_modules(model)
    body, head = dict[str, nn.Linear | Conv1D](), dict[str, nn.Linear | Conv1D]()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            (head if name in heads else body)[name] = module
    return LinearLayers(body, head)


def names_of_word(model: PreTrainedModel, layers: LinearLayers, word: str) -> set[str]:
    """The layers that a word means.

    Raises:
        ModelError: there are none.
    """
    if names := _meant(model, layers, word):
        return names
    if word == ALL_LINEAR:
        raise ModelError(f"{type(model).__name__} has no linear layer besides its head: nothing to adapt")
    kind = model.config.model_type
    reason = (
        f'PEFT has no choice for "{kind}"' if word == "peft-default" else f"{type(model).__name__} has no such part"
    )
    working = [other for other in WORDS if _meant(model, layers, other)]
    raise ModelError(
        f"target_modules is {word}, but {reason}: give {' or '.join(working)}, or a list of names out of "
        f"{leaves(layers.body)}"
    )


def shortest_ends(names: Collection[str], layers: LinearLayers) -> list[str]:
    """The fewest last parts of each name that fit these layers and no others; each once, in the model's order.

    Args:
        names: of linear layers.
        layers: all of the model.
    """
    others = [name for name in (*layers.body, *layers.head) if name not in names]
    return list(dict.fromkeys(_shortest_end(name, others) for name in layers.body if name in names))


def fits(name: str, target: str) -> bool:
    """PEFT's rule: a full name, or its last parts."""
    return name == target or name.endswith(f".{target}")


def leaves(layers: Collection[str]) -> list[str]:
    """What users type: the last part of every name, each once, in the model's order."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in layers))


def _meant(model: PreTrainedModel, layers: LinearLayers, word: str) -> set[str]:
    if word == ALL_LINEAR:
        return set(layers.body)
    if word == "attention":
        return {name for name in layers.body if _is_of_attention(name)}
    if word == "mlp":
        return {name for name in layers.body if not _is_of_attention(name) and any(map(_MLP.match, name.split(".")))}
    chosen = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type, [])
    if isinstance(chosen, str):  # a pattern
        return {name for name in layers.body if re.fullmatch(chosen, name)}
    return {name for name in layers.body if any(fits(name, target) for target in chosen)}


def _is_of_attention(name: str) -> bool:
    """By its parents: a leaf such as GPT-2's `c_attn` says the same, but only of itself."""
    return any(map(_ATTENTION.search, name.split(".")[:-1]))


def _shortest_end(name: str, others: Collection[str]) -> str:
    parts = name.split(".")
    ends = (".".join(parts[-n:]) for n in range(1, len(parts)))
    return next((end for end in ends if not any(fits(other, end) for other in others)), name)
