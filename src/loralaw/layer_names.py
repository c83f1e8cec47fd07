"""What the parts of a layer's name say: the block that it stands in, and the type of module that it is."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str, ...]


@dataclass(frozen=True)
class LayerName:
    """A module's name, cut at its first number."""

    stem: Path
    number: int | None
    module: Path


def module_types(names: Iterable[str]) -> dict[str, str]:
    """The module type of every layer of one model: the shortest end of its name that tells the types apart.

    >>> module_types(["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.1.mlp.c_fc"])
    {'h.0.attn.c_proj': 'attn.c_proj', 'h.0.mlp.c_proj': 'mlp.c_proj', 'h.1.mlp.c_fc': 'c_fc'}
    """
    parts = {name: layer_name(name).module for name in names}
    labels = module_labels(list(dict.fromkeys(parts.values())))
    return {name: labels[module] for name, module in parts.items()}


def layer_name(name: str) -> LayerName:
    """The parts of a name; further numbers, as that of an expert in a mixture, are not told apart."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if re.fullmatch("[0-9]{1,6}", part)]
    if not numbers:
        return LayerName((), None, tuple(parts))
    first = numbers[0]
    stem, module = parts[:first], ["*" if i in numbers else parts[i] for i in range(first + 1, len(parts))]
    return LayerName(tuple(stem), int(parts[first]), tuple(module or stem[-1:] or ["module"]))


def module_labels(modules: list[Path]) -> dict[Path, str]:
    """The shortest end of each that no other has, or all of it."""
    ends = Counter(module[-k:] for module in modules for k in range(1, len(module) + 1))
    labels = {}
    for module in modules:
        k = next((k for k in range(1, len(module)) if ends[module[-k:]] == 1), len(module))
        labels[module] = ".".join(module[-k:])
    return labels
