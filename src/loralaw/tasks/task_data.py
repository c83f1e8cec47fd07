"""What a task gives to training and scoring: examples by split, and multiple-choice questions."""

import hashlib
import random
from dataclasses import dataclass, field
from typing import TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Example:
    """A text to learn. `prompt` is read and not scored; `document` names the source that standard errors cluster by."""

    prompt: str
    completion: str
    document: str


@dataclass(frozen=True)
class Choice:
    """A question: which of the options continues the context? `label` is the index of the true one."""

    context: str
    options: tuple[str, ...]
    label: int
    document: str


@dataclass(frozen=True)
class TaskData:
    """The rows of a task, by split. No document is in two splits."""

    name: str
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    choices: list[Choice] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """32 hexadecimal digits that identify every row of every split, in order."""
        digest = hashlib.sha256()
        for rows in (self.train, self.validation, self.test, self.choices):
            for row in rows:
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
            digest.update(b"\0split")
        return digest.hexdigest()[:32]

    def train_subset(self, n_examples: int, seed: int) -> list[Example]:
        """The training examples of a cell; for one seed a smaller set is the beginning of a larger one."""
        order = list(range(len(self.train)))
        random.Random(seed).shuffle(order)
        return [self.train[i] for i in order[:n_examples]]


def sample(rows: list[Row], n: int) -> list[Row]:
    """The same n rows for every cell and every run, in their order; all rows if there are fewer."""
    if n >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), n))]
