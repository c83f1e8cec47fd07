"""What one training asks for, outside a study, and the study file of one cell that says the same."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loralaw.errors import Problem
from loralaw.spec import FILE_ENDINGS, TARGET_WORDS

_METHOD_FIELDS = (
    "lora_alpha",
    "target_modules",
    "row_scale_protocol",
    "row_scale_learning_rate",
    "row_scale_every",
)
_TRAINING_FIELDS = ("steps", "epochs", "batch_size", "max_length", "learning_rate")
_COLUMN_FIELDS = ("text_column", "prompt_column", "completion_column")
_OTHER_NAMES = {
    "base_models": "model",
    "methods": "method",
    "ranks": "rank",
    "sizes": "examples",
    "seeds": "seed",
}


@dataclass(frozen=True, kw_only=True)
class OneModel:
    """One model to train. Names, units and defaults are those of the study file; None is its default.

    Args:
        model: embedded name, local folder or hub name.
        task: a task by name, or a data file.
        examples: training examples.
        method: name of the method.
        rank: rank of the adapter; None for full fine-tuning only.
        seed: draws the examples, their order and the adapter's first weights.
    """

    model: str
    task: str
    examples: int
    method: str = "lora"
    rank: int | None = None
    seed: int = 0
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    learning_rate: float | None = None
    lora_alpha: float | None = None
    target_modules: list[str] | None = None
    row_scale_protocol: str | None = None
    row_scale_learning_rate: float | None = None
    row_scale_every: int | None = None
    text_column: str | None = None
    prompt_column: str | None = None
    completion_column: str | None = None

    def settings(self) -> dict[str, Any]:
        """The study file of this one cell, as it would be read."""
        is_file = self.task.lower().endswith(FILE_ENDINGS)
        return {
            "base_models": [self.model],
            "task": {"file" if is_file else "name": self.task, **self._given(_COLUMN_FIELDS)},
            "methods": [{"name": self.method, **self._given(_METHOD_FIELDS), **self._targets()}],
            **({} if self.rank is None else {"ranks": [self.rank]}),
            "sizes": [self.examples],
            "seeds": [self.seed],
            "training": self._given(_TRAINING_FIELDS),
        }

    def default_folder(self) -> Path:
        """`runs/<model>-<method>-r<rank>-s<seed>`, in characters that every system takes."""
        rank = [] if self.rank is None else [f"r{self.rank}"]
        parts = [re.split(r"[/\\]", self.model.rstrip("/\\"))[-1], self.method, *rank, f"s{self.seed}"]
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).lstrip(".-")
        return Path("runs") / name[:100]

    def renamed(self, problem: Problem) -> Problem:
        """A problem of `settings()` by the name of the field that it comes from."""
        section, _, rest = re.sub(r"\[\d+\]", "", problem.where).partition(".")
        field = rest.split(".")[0]
        if section == "methods" and problem.message.startswith(("row_scale_every", "row_scale_share")):
            field = problem.message.split()[0]
        if section == "methods" and problem.message.startswith("unknown key"):
            return Problem(field, f"{self.method} has no such setting: leave it out")
        known = {*_METHOD_FIELDS, *_TRAINING_FIELDS, *_COLUMN_FIELDS}
        return Problem(field if field in known else _OTHER_NAMES.get(section, section), problem.message)

    def _targets(self) -> dict[str, Any]:
        """One word, such as `attention`, stands for itself and is no list of layers."""
        named = self.target_modules or []
        return {"target_modules": named[0]} if len(named) == 1 and named[0] in TARGET_WORDS else {}

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
