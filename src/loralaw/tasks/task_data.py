"""What a task gives to training and scoring: examples by split, and multiple-choice questions."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

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
class Labelled:
    """A text, or a pair of texts, with its class (a whole number from 0) or, for regression, its value."""

    text: str
    other_text: str | None
    label: float
    document: str


@dataclass(frozen=True)
class Target:
    """What the labels of `Labelled` rows are."""

    classes: tuple[str, ...]
    """The names of the classes, in the order of their numbers; empty for regression."""
    metrics: tuple[str, ...]
    """The official metrics, the first of which is the headline: accuracy, f1, matthews_correlation, pearson, spearman.
    """


@dataclass(frozen=True)
class TaskData:
    """The rows of a task, by split. No document is in two splits.

    Rows are `Example` where text is learned, and `Labelled` where `target` says what their labels are: then a head is
    trained on top of the base model.
    """

    name: str
    train: Sequence[Example | Labelled]
    validation: Sequence[Example | Labelled]
    test: Sequence[Example | Labelled]
    choices: list[Choice] = field(default_factory=list)
    """Questions of the test split; there are none of `Labelled` rows."""
    target: Target | None = None
    is_chat: bool = False
    """Whether prompts and completions go into the turns of the tokenizer's chat template."""
    commonest_answer: int | None = None
    """The class, or the place of the option, that is right most often in train; None where there is no such thing."""
    other_questions: dict[str, list[Choice]] = field(default_factory=dict)
    """Of tasks that a study does not train on, by name."""
    notes: tuple[str, ...] = ()
    """What is to be known of the splits: where they were cut, and which rows were left out."""

    @property
    def n_labels(self) -> int | None:
        """Outputs of the head that the task needs on top of a base model; None where text is learned."""
        return None if self.target is None else max(1, len(self.target.classes))

    def majority_accuracy(self, n_rows: int | None = None) -> float | None:
        """Of always giving the commonest answer, on so many questions or labelled rows as `sample` takes; None: all."""
        rows: Sequence[Any] = self.choices or self.test
        asked = sample(rows, len(rows) if n_rows is None else n_rows)
        if self.commonest_answer is None or not asked:
            return None
        return float(sum(row.label == self.commonest_answer for row in asked) / len(asked))

    @property
    def hash(self) -> str:
        """32 hexadecimal digits that identify every row of every split, in order."""
        digest = hashlib.sha256()
        if self.target is not None or self.is_chat or self.other_questions:
            extra = repr((self.target, self.is_chat, sorted(self.other_questions.items())))
            digest.update(extra.encode("utf-8", "surrogatepass"))
        for rows in (self.train, self.validation, self.test, self.choices):
            for row in rows:
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
            digest.update(b"\0split")
        return digest.hexdigest()[:32]

    def scored_on_validation(self) -> "TaskData":
        """The same task without its test split: validation rows take its place, and its questions are not asked."""
        answer = None if self.target is None else self.commonest_answer
        return replace(self, test=self.validation, choices=[], commonest_answer=answer)

    def train_subset(self, n_examples: int, seed: int) -> list[Example | Labelled]:
        """The training examples of a cell; for one seed a smaller set is the beginning of a larger one."""
        order = list(range(len(self.train)))
        random.Random(seed).shuffle(order)
        return [self.train[i] for i in order[:n_examples]]


def sample(rows: Sequence[Row], n: int) -> Sequence[Row]:
    """The same n rows for every cell and every run, in their order; all rows if there are fewer."""
    if n >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), n))]


def commonest(answers: Iterable[int]) -> int:
    """The answer that is right most often; the smallest of equals."""
    counts = Counter(answers)
    return max(sorted(counts), key=lambda answer: counts[answer])
