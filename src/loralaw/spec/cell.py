"""A cell: one point of a study, fully resolved, with the key that identifies its result for good."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

TRAINING_SEMANTICS = "packed-3"
"""Changes whenever the same settings would give other numbers, so that old records are never taken for new ones."""


@dataclass(frozen=True)
class Cell:
    """Everything that decides the result of one training run.

    `base_model` is the name in the study file, `base_model_hash` and `data_hash` are the contents behind the names.
    `method`, `training` and `evaluation` are the resolved sections of the study file as plain JSON types. `rank` is
    None where the method has none.
    """

    base_model: str
    base_model_hash: str
    method: dict[str, Any]
    rank: int | None
    n_train_examples: int
    seed: int
    task: dict[str, Any]
    data_hash: str
    training: dict[str, Any]
    evaluation: dict[str, Any]
    template: str | None = None
    n_labels: int | None = None
    """Outputs of the head that the task needs on top of the base model; None where text is learned."""

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits: a hash of contents and settings. Names and paths are not part of it."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("base_model", "task")}
        text = json.dumps(settings | {"semantics": TRAINING_SEMANTICS}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def settings(self) -> dict[str, Any]:
        """The cell as plain JSON types."""
        return asdict(self)
