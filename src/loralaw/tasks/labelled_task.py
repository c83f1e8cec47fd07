"""A benchmark of labelled texts, or of pairs of them: rows of two layouts in, classes or values by split out."""

import math
from dataclasses import dataclass
from pathlib import Path

from loralaw.errors import DataError
from loralaw.spec import TemplateSpec
from loralaw.tasks.data_files import DataSource, Split
from loralaw.tasks.held_out import check_sizes, cut_validation, without_held_out
from loralaw.tasks.task_data import Labelled, Target, TaskData, commonest

LOCAL_TEXTS = ("sentence1", "sentence2")
NOT_PUBLIC = -1
"""What stands for a label that is kept secret."""


@dataclass(frozen=True)
class LabelledTask:
    """What differs from one labelled task to another."""

    id: str
    texts: tuple[str, ...]
    """The text columns on the hub: one, or two where pairs are judged."""
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    values: tuple[float, float] = (0.0, 0.0)
    """The smallest and the largest value, where there are no classes."""
    hub_repo: str = "nyu-mll/glue"
    validation: str = "validation"
    has_test_labels: bool = False
    """Whether the labels of the test split are public."""
    family: str = "glue"

    @property
    def kind(self) -> str:
        return f"{len(self.classes)} classes" if self.classes else "regression"

    @property
    def n_labels(self) -> int:
        """Outputs of the head: one a class, or one for a value."""
        return max(1, len(self.classes))

    @property
    def hub_test(self) -> str:
        """The split that is measured on: the last one with public labels."""
        return "test" if self.has_test_labels else self.validation

    @property
    def source(self) -> DataSource:
        columns = (*LOCAL_TEXTS[: len(self.texts)], "label")
        return DataSource(self.id, self.family, self.hub_repo, self.id, ("train", self.validation), columns)

    @property
    def metric(self) -> str:
        return ", ".join(self.metrics)

    def load(self, data_dir: Path | None = None, template: TemplateSpec | None = None) -> TaskData:
        """Read the rows.

        Raises:
            DataError: files or rows cannot be had or used, or a template was given.
        """
        if template is not None:
            raise DataError(
                f'template "{template.name}": {self.id} is classified by a head on top of the model: it has no '
                "templates; give none"
            )
        train, validation, test = self._splits(data_dir)
        notes = []
        if test is None:
            test, validation = validation or [], None
            notes.append(
                f"test is the {self.validation} split: labels of test are not public; validation is a tenth of train"
            )
        n_rows = len(train)
        train = without_held_out(train, [*test, *(validation or [])], _text)
        if len(train) < n_rows:
            notes.append(f"{n_rows - len(train)} training rows are in a held-out split too, and are left out")
        if validation is None:
            train, validation = cut_validation(train, _text)
        else:
            validation = without_held_out(validation, test, _text)
        check_sizes(self.id, train=train, validation=validation, test=test)
        target = Target(self.classes, self.metrics)
        answer = commonest(int(row.label) for row in train) if self.classes else None
        return TaskData(self.id, train, validation, test, target=target, commonest_answer=answer, notes=tuple(notes))

    def _splits(self, data_dir: Path | None) -> tuple[list[Labelled], list[Labelled] | None, list[Labelled] | None]:
        """The rows of train, validation, and test where it has labels."""
        folder = self.source.folder(data_dir)
        if folder is None:
            train = self.source.read_hub("train")
            validation: Split | None = self.source.read_hub(self.validation)
            test = self.source.read_hub("test") if self.has_test_labels else None
        else:
            train, test = self.source.read_needed(folder, "train"), self.source.read_local(folder, "test")
            if test is not None and _has_no_labels(test):
                test = None
            found = self.source.read_local(folder, self.validation)
            if found is None and test is None:
                found = self.source.read_needed(folder, self.validation)
            validation = found
        return (
            self._rows(train, "train"),
            None if validation is None else self._rows(validation, "validation"),
            None if test is None else self._rows(test, "test"),
        )

    def _rows(self, split: Split, name: str) -> list[Labelled]:
        local = self.source.columns
        *texts, _ = split.layout(local, (*self.texts, "label"))
        first = split.table[texts[0]].to_list()
        second = split.table[texts[1]].to_list() if len(texts) > 1 else [None] * len(first)
        labels = split.table["label"].to_list()
        rows = []
        for i, (text, other, label) in enumerate(zip(first, second, labels, strict=True)):
            where = f"{split.place}, row {i} (from 0)"
            for column, value in zip(texts, (text, other), strict=False):
                if not isinstance(value, str):
                    raise DataError(f"{where}: {column} is {value!r}: a text is needed")
            rows.append(Labelled(text, other, self._label(label, where), f"{self.id}:{name}:{i}"))
        return rows

    def _label(self, label: object, where: str) -> float:
        is_number = isinstance(label, int | float) and math.isfinite(label)
        if self.classes:
            if is_number and label in range(len(self.classes)):
                return float(label)  # type: ignore[arg-type]
            accepted = ", ".join(f"{i} ({name})" for i, name in enumerate(self.classes))
        else:
            smallest, largest = self.values
            if is_number and smallest <= label <= largest:  # type: ignore[operator]
                return float(label)  # type: ignore[arg-type]
            accepted = f"numbers from {smallest:g} to {largest:g}"
        raise DataError(f"{where}: the label is {label!r}; accepted are {accepted}")


def _has_no_labels(split: Split) -> bool:
    if "label" not in split.table.columns:
        return True
    return all(label is None or label == NOT_PUBLIC for label in split.table["label"].to_list())


def _text(row: Labelled) -> str:
    return f"{row.text}\0{row.other_text or ''}"
