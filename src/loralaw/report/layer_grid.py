"""Where an adapted layer stands in a heat map: the number of its block down, its module type across."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from loralaw.layer_names import Path, layer_name, module_labels

Place = tuple[str, str]

NO_NUMBER = "–"


@dataclass(frozen=True)
class LayerGrid:
    """Rows and columns in the order in which they are drawn, and the (row, column) of every layer's name."""

    rows: list[str]
    columns: list[str]
    places: dict[str, Place]

    def means(self, values: Iterable[tuple[str, float]]) -> list[list[float | None]]:
        """A value a row and column from (layer, value) pairs: the mean of those that share a place, None for none."""
        found: dict[Place, list[float]] = defaultdict(list)
        for layer, value in values:
            found[self.places[layer]].append(value)
        means = {place: sum(all_) / len(all_) for place, all_ in found.items()}
        return [[means.get((row, column)) for column in self.columns] for row in self.rows]


def layer_grid(names: Iterable[str]) -> LayerGrid:
    """The grid of the layers of one model.

    A column is the shortest end of the names after the block's number that tells module types apart. Stacks of blocks
    (encoder and decoder) have rows of their own. A second number (the expert in a mixture) is not told apart: such
    layers share a place.

    >>> grid = layer_grid(["h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.10.mlp.c_fc", "lm_head"])
    >>> grid.rows, grid.columns
    (['0', '10', '–'], ['attn.c_proj', 'c_fc', 'mlp.c_proj', 'lm_head'])
    >>> layer_grid(["encoder.block.0.k", "decoder.block.0.k"]).rows
    ['encoder 0', 'decoder 0']
    """
    cut = {name: layer_name(name) for name in names}
    stacks = _stack_labels(list(dict.fromkeys(n.stem for n in cut.values() if n.number is not None)))
    modules = module_labels(list(dict.fromkeys(n.module for n in cut.values())))
    order: dict[str, tuple[int, int]] = {}
    places: dict[str, Place] = {}
    for name, parts in cut.items():
        row = NO_NUMBER if parts.number is None else f"{stacks[parts.stem]} {parts.number}".strip()
        order[row] = (len(stacks), 0) if parts.number is None else (list(stacks).index(parts.stem), parts.number)
        places[name] = row, modules[parts.module]
    return LayerGrid(sorted(order, key=order.__getitem__), list(modules.values()), places)


def _stack_labels(stems: list[Path]) -> dict[Path, str]:
    """What is left of each without the beginning and the end that all share; nothing where there is only one."""
    rest = list(stems)
    for take, cut in ((0, slice(1, None)), (-1, slice(None, -1))):
        while all(rest) and len({stem[take] for stem in rest}) == 1:
            rest = [stem[cut] for stem in rest]
    return {stem: ".".join(short) for stem, short in zip(stems, rest, strict=True)}
