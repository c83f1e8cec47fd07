"""The configuration of α-LoRA."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from peft import LoraConfig

from loralaw.errors import InputError, did_you_mean
from loralaw.tuners.peft_surface import ALPHALORA, saves_biases, variants_asked_for
from loralaw.tuners.row_scale_suggestion import RowScaleSuggestion

MEMORY_MODES = ("save", "recompute")
AUTHORS_INITIALISATION = "authors"
# The others (pissa, olora, corda, loftq, lora_ga, ...) change the frozen weights, or take them apart.
_INITIALISATIONS = (True, False, "gaussian", "orthogonal", AUTHORS_INITIALISATION)
_LARGEST = float(np.finfo(np.float32).max)
_TASK_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class AlphaLoraConfig(LoraConfig):  # type: ignore[misc]  # peft has no types
    """PEFT's `LoraConfig` and what the row scale α adds to it: y = α ⊙ (Wx + b) + s·BAx.

    `get_peft_model(model, AlphaLoraConfig(...))` adapts a model; α has one entry for every output feature of every
    adapted layer. Saved adapters have the type ALPHALORA and need `import loralaw.tuners` before PEFT can load them.

    All of `LoraConfig` holds, but for what this cannot be combined with: DoRA, whose direction a common factor of a row
    does not change, the other variants of PEFT (aLoRA, Arrow, ...), `target_parameters`, and initialisations that
    change the frozen weights.

    Args:
        init_row_scale: α of every row at first. 1: the adapted model begins as the base model. Or by layer: a mapping
            of names in the base model (`model.named_modules()`) to numbers, where layers without a name begin at 1; or
            what `loralaw.suggest_row_scale` gave, which is kept here as such a mapping. That every name is a layer
            that will be adapted is checked when the model is made.
        train_row_scale: whether α is trained, or stays what it is.
        row_scale_memory: "save" keeps Wx + b of every adapted layer for α's gradient, while α is trained; "recompute"
            keeps nothing and multiplies once more with W (linear layers that are not quantised; elsewhere it saves).
            While α is frozen, as in the adapter's steps of `AlphaLoraTrainer`, both keep what LoRA keeps.
        row_scale_tasks: names of tasks that share A and B and have an α each; `model.set_task(name)` makes one active,
            at first the first. Letters, digits, "_" and "-".
        init_lora_weights: also "authors": A of linear layers and convolutions from N(0, 1/r), B = 0, as in the method's
            public code. PEFT's own True is uniform with variance 1/(3·in), its "gaussian" N(0, 1/r²).

    Raises:
        InputError: a setting that cannot be, or a combination that makes no sense.

    **Source**: α-LoRA, arXiv 2510.21345. **Departs from source**: its frozen layers have one adapter and α; all else
    of PEFT's LoRA, the tasks, and rescaled biases of convolutions and embeddings are ours.
    """

    init_row_scale: float | dict[str, float] = 1.0
    train_row_scale: bool = True
    row_scale_memory: str = "save"
    row_scale_tasks: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = ALPHALORA
        self._check_combination()
        self.init_row_scale = checked_start(self.init_row_scale)
        if not isinstance(self.train_row_scale, bool):
            raise InputError(f"train_row_scale={self.train_row_scale!r}: give True or False")
        if self.row_scale_memory not in MEMORY_MODES:
            raise InputError(
                f"row_scale_memory={self.row_scale_memory!r} is not one of {', '.join(MEMORY_MODES)}."
                + did_you_mean(self.row_scale_memory, MEMORY_MODES)
            )
        if self.row_scale_tasks is not None:
            self.row_scale_tasks = _checked_tasks(self.row_scale_tasks)

    def row_scale_of(self, layer: str) -> float:
        """α of every row of a layer at first, by the layer's name in the base model."""
        start = self.init_row_scale
        return start.get(layer, 1.0) if isinstance(start, dict) else start

    def _check_combination(self) -> None:
        if self.use_dora:
            raise InputError(
                "use_dora=True with a row scale: DoRA's direction does not change when a row of W and B has a common "
                "factor, so the two would be one setting twice. Leave one of them out"
            )
        if others := [*variants_asked_for(self), *(["use_qalora"] if self.use_qalora else [])]:
            raise InputError(f"{', '.join(others)} with a row scale was never worked out: leave it out")
        if self.bias != "none" and not saves_biases():
            raise InputError(
                f'bias="{self.bias}": this version of PEFT would train the biases and not save them. Use bias="none", '
                "or PEFT 0.21 or newer"
            )
        if self.target_parameters:
            raise InputError(
                f"target_parameters={self.target_parameters}: a row scale multiplies what a layer puts out, and single "
                "parameters put out nothing. Name layers in target_modules"
            )
        if self.init_lora_weights not in _INITIALISATIONS:
            raise InputError(
                f"init_lora_weights={self.init_lora_weights!r} with a row scale: it changes the frozen weights or was "
                f"never tried. Accepted: {', '.join(map(repr, _INITIALISATIONS))}"
            )


def checked_start(given: Any) -> float | dict[str, float]:
    """`init_row_scale` as a number, or numbers by layer, that a file and float32 can hold.

    Raises:
        InputError: it is something else.
    """
    if isinstance(given, RowScaleSuggestion):
        given = given.row_scales
    if not isinstance(given, Mapping):
        return _checked_number("init_row_scale", given)
    for name in given:
        if not isinstance(name, str) or not name:
            raise InputError(f"init_row_scale names a layer {name!r}: give names of layers in the base model, as text")
    return {name: _checked_number(f'init_row_scale["{name}"]', value) for name, value in given.items()}


def _checked_number(where: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        accepted = "" if "[" in where else ", numbers by the name of a layer, or what loralaw.suggest_row_scale gave"
        raise InputError(f"{where}={value!r}: give a number, such as 1.0{accepted}")
    try:
        number = float(value)
    except OverflowError:  # whole numbers and fractions have no largest one
        number = math.inf
    if not abs(number) <= _LARGEST:
        raise InputError(
            f"{where}={number}: give a finite number that float32 can hold, up to {_LARGEST:.1e}, such as 1.0"
        )
    return number


def _checked_tasks(tasks: Any) -> list[str]:
    if isinstance(tasks, str) or not isinstance(tasks, list | tuple) or not tasks:
        raise InputError(f"row_scale_tasks={tasks!r}: give a list of at least one name, or None for one α")
    for task in tasks:
        if not isinstance(task, str) or not _TASK_NAME.fullmatch(task) or "lora_" in task:
            raise InputError(
                f"row_scale_tasks: {task!r} is not a name: use 1 to 64 letters, digits, '_' and '-', without 'lora_'"
            )
    if repeated := [task for i, task in enumerate(tasks) if task in tasks[:i]]:
        raise InputError(f'row_scale_tasks: "{repeated[0]}" stands twice')
    return list(tasks)
