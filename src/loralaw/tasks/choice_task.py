"""A multiple-choice benchmark: rows of two layouts in, questions, examples and splits out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from loralaw.errors import DataError
from loralaw.spec import TemplateSpec
from loralaw.tasks.data_files import DataSource, Split
from loralaw.tasks.held_out import check_sizes, cut_validation, without_held_out
from loralaw.tasks.task_data import Choice, Example, TaskData, commonest
from loralaw.tasks.templates import TemplateText, choice_template

LOCAL_COLUMNS = ("question", "choices", "label")
N_FOLDS = 5

HubQuestion = tuple[Any, Sequence[Any], Sequence[object], object]
"""Of a row on the hub: question, options, the labels that the options go by, and the label of the right one."""


@dataclass(frozen=True)
class Question:
    """A row that has been checked. `label` is the index of the right choice."""

    instruction: str
    question: str
    choices: tuple[str, ...]
    label: int
    document: str


@dataclass(frozen=True)
class ChoiceTask:
    """What differs from one multiple-choice task to another."""

    id: str
    hub: tuple[str, str]
    """Data set and configuration."""
    hub_test: str
    """The split of the hub that is measured on: the last one with public labels."""
    hub_columns: tuple[str, ...]
    read_hub_row: Callable[[dict[str, Any]], HubQuestion]
    instruction: str
    """With {question}, {options} and {answers}: the text of LLM-Adapters."""
    answer: str = "answer"
    """The options are named by it, with a number from 1."""
    answers: tuple[str, ...] = ()
    """Their names, where they are no numbers."""
    between: str = " "
    """What stands between two options."""
    family: str = "commonsense"
    metric: str = "choice accuracy"

    @property
    def kind(self) -> str:
        return "multiple choice"

    @property
    def source(self) -> DataSource:
        return DataSource(self.id, self.family, *self.hub, ("train", "test"), LOCAL_COLUMNS)

    def answer_names(self, n_choices: int) -> tuple[str, ...]:
        return self.answers or tuple(f"{self.answer}{i + 1}" for i in range(n_choices))

    def instruct(self, question: str, choices: Sequence[str]) -> str:
        """The instruction of LLM-Adapters."""
        names = self.answer_names(len(choices))
        options = (f"{name.capitalize()}: {choice}" for name, choice in zip(names, choices, strict=True))
        return self.instruction.format(
            question=question, options=self.between.join(options), answers="Answer format: " + "/".join(names)
        )

    def load(self, data_dir: Path | None = None, template: TemplateSpec | None = None) -> TaskData:
        """Read the rows and write them as a template says.

        Raises:
            DataError: files or rows cannot be had or used, or the template does not fit.
        """
        texts = choice_template(self.id, template)
        train, test, notes = self._splits(data_dir)
        n_rows = len(train)
        train = without_held_out(train, test, _text)
        if len(train) < n_rows:
            notes.append(f"{n_rows - len(train)} training rows ask what test asks too, and are left out")
        train, validation = cut_validation(train, _text)
        check_sizes(self.id, train=train, validation=validation, test=test)
        choices = [self._choice(question, texts) for question in test]
        if all(len(set(choice.options)) == 1 for choice in choices):
            raise DataError(
                f"{self.id}: the options of every question are the same text: give rows whose options differ"
            )
        return TaskData(
            self.id,
            [self._example(question, texts) for question in train],
            [self._example(question, texts) for question in validation],
            [Example(c.context, c.options[c.label], c.document) for c in choices],
            choices,
            is_chat=template is not None and template.chat,
            commonest_answer=commonest(question.label for question in train),
            notes=tuple(notes),
        )

    def _splits(self, data_dir: Path | None) -> tuple[list[Question], list[Question], list[str]]:
        """Train, test, and what is to be said of them."""
        cut = "validation is a tenth of train"
        folder = self.source.folder(data_dir)
        if folder is None:
            train, test = self.source.read_hub("train"), self.source.read_hub(self.hub_test)
            said = [f"test is the {self.hub_test} split: labels of test are not public"] * (self.hub_test != "test")
            return self._questions(train, "train"), self._questions(test, "test"), [cut, *said]
        test_rows = self._questions(self.source.read_needed(folder, "test"), "test")
        if train_file := self.source.read_local(folder, "train"):
            return self._questions(train_file, "train"), test_rows, [cut]
        folds = [(i % N_FOLDS, row) for i, row in enumerate(test_rows)]
        return (
            [row for fold, row in folds if fold < N_FOLDS - 1],
            [row for fold, row in folds if fold == N_FOLDS - 1],
            [cut, "there is no train.parquet: every fifth row of test.parquet is test, the others are for training"],
        )

    def _questions(self, split: Split, name: str) -> list[Question]:
        """The checked rows of a file. `name` is the split, for the documents."""
        is_local = split.layout(LOCAL_COLUMNS, self.hub_columns) is LOCAL_COLUMNS
        wanted = [*LOCAL_COLUMNS, "instruction", "answer"] if is_local else list(self.hub_columns)
        table = split.table.select([column for column in wanted if column in split.table.columns])
        rows: Iterator[dict[str, Any]] = table.iter_rows(named=True)
        return [
            self._question(row, is_local, f"{split.place}, row {i} (from 0)", f"{self.id}:{name}:{i}")
            for i, row in enumerate(rows)
        ]

    def _question(self, row: dict[str, Any], is_local: bool, where: str, document: str) -> Question:
        try:
            question, choices, labels, label = _local_row(row) if is_local else self.read_hub_row(row)
            choices = tuple(choices)
        except (TypeError, KeyError, AttributeError):  # a value of another make than the task's
            raise DataError(f"{where}: {_shown(row)} is not a question with its choices") from None
        if not isinstance(question, str) or not question.strip():
            raise DataError(f"{where}: the question is {question!r}: a text is needed")
        n_accepted = (len(self.answers),) if self.answers else (2, len(ascii_uppercase))
        if not n_accepted[0] <= len(choices) <= n_accepted[-1] or not all(isinstance(c, str) for c in choices):
            accepted = " to ".join(map(str, n_accepted))
            raise DataError(f"{where}: the choices are {_shown(choices)}: {accepted} texts are needed")
        if label not in labels:
            raise DataError(f"{where}: the label is {label!r}; accepted are {', '.join(map(repr, labels))}")
        index = list(labels).index(label)
        if is_local and row.get("answer", name := self.answer_names(len(choices))[index]) != name:
            raise DataError(
                f"{where}: the answer is {row['answer']!r}, but label {label} is {name!r}: is it of {self.id}?"
            )
        # In a published instruction an option may begin or end with blanks, which its column has lost: they stay.
        given = row.get("instruction") if is_local else None
        instruction = given if isinstance(given, str) else self.instruct(question.strip(), choices)
        return Question(instruction, question.strip(), tuple(c.strip() for c in choices), index, document)

    def _values(self, question: Question) -> dict[str, str]:
        listed = "\n".join(
            f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, question.choices, strict=False)
        )
        return {"instruction": question.instruction, "question": question.question, "choices": listed}

    def _option(self, question: Question, index: int) -> dict[str, str]:
        name = self.answer_names(len(question.choices))[index]
        return {"choice": question.choices[index], "answer": name, "letter": ascii_uppercase[index]}

    def _example(self, question: Question, texts: tuple[TemplateText, TemplateText]) -> Example:
        values = self._values(question)
        prompt, completion = texts
        right = {**values, **self._option(question, question.label)}
        return Example(prompt.fill(values), completion.fill(right), question.document)

    def _choice(self, question: Question, texts: tuple[TemplateText, TemplateText]) -> Choice:
        values = self._values(question)
        prompt, completion = texts
        options = [completion.fill({**values, **self._option(question, i)}) for i in range(len(question.choices))]
        return Choice(prompt.fill(values), tuple(options), question.label, question.document)


def _local_row(row: dict[str, Any]) -> HubQuestion:
    return row["question"], row["choices"], range(len(row["choices"])), row["label"]


def _text(question: Question) -> str:
    """What a row is told apart by: no template can then put one prompt into two splits."""
    return question.question


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:120] + "…"
