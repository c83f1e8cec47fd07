"""Tasks from the user's own files: JSONL, CSV or Parquet with a text column, or with prompt and completion."""

import codecs
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from loralaw.errors import DataError, did_you_mean
from loralaw.spec import FILE_ENDINGS, TaskSpec, TemplateSpec
from loralaw.tasks.held_out import MIN_SPLIT_ROWS, split_of
from loralaw.tasks.task_data import Example, TaskData
from loralaw.tasks.templates import TemplateText

_NAME_IN_STUDY = "Name yours in the study: text_column, or prompt_column and completion_column"


def text_file(task: TaskSpec, template: TemplateSpec | None = None) -> TaskData:
    """Read the files of a task. Splits without a file are cut from the training file, a tenth of the rows each.

    A row goes to train, validation or test by a hash of its text, so that equal rows are never in two splits.

    Args:
        task: the files, and their columns if no template names them.
        template: texts over any columns of the files.

    Raises:
        DataError: a file is missing, broken or empty, a column is not there, or a split has too few rows.
    """
    assert task.file is not None
    for held_out_file in (task.validation_file, task.test_file):
        if held_out_file is not None and held_out_file.resolve() == task.file.resolve():
            raise DataError(f"{held_out_file} is both trained on and held out: give another file, or none")
    _check_template(task, template)
    rows = _read(task.file, task, template)
    validation = _read(task.validation_file, task, template) if task.validation_file else None
    test = _read(task.test_file, task, template) if task.test_file else None
    held_out = {*(["test"] if test is None else []), *(["validation"] if validation is None else [])}
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        splits[split_of(_text(row), held_out)].append(row)
    data = TaskData(
        task.file.name,
        splits["train"],
        splits["validation"] if validation is None else validation,
        splits["test"] if test is None else test,
        is_chat=template is not None and template.chat,
    )
    n_different = len(set(map(_text, rows)))
    for name in ("train", "validation", "test"):
        n_rows = len(getattr(data, name))
        if n_rows < MIN_SPLIT_ROWS:
            raise DataError(
                f"{task.file}: {len(rows)} usable rows ({n_different} different) leave {n_rows} for {name}, at least "
                f"{MIN_SPLIT_ROWS} are needed: give more rows, or files of their own (validation_file, test_file)"
            )
    return data


def read_texts(path: Path) -> list[str]:
    """The rows of one file as whole texts, a prompt with its completion; of a .txt file every line that is not empty.

    Raises:
        DataError: the file is missing, broken or empty, or has neither a column text nor prompt and completion.
    """
    if path.suffix.lower() == ".txt" and os.path.isfile(path):
        texts = [line for line in _lines(path) if line.strip()]
    else:
        rows = _read(path, TaskSpec(file=path), remedy="Rename yours", endings=(*FILE_ENDINGS, ".txt"))
        texts = [row.prompt + row.completion for row in rows]
    if not texts:
        raise DataError(f"{path}: no row holds any text")
    return texts


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}): save it again in UTF-8") from None


def _check_template(task: TaskSpec, template: TemplateSpec | None) -> None:
    if template is None:
        return
    if template.prompt is None:
        raise DataError(
            f'template "{template.name}" of the file {task.file} has no texts, and a file has no templates by '
            "name: give prompt and completion, with {column} for a column of the file"
        )
    named = [k for k in ("text_column", "prompt_column", "completion_column") if getattr(task, k) is not None]
    if named:
        raise DataError(
            f'template "{template.name}" says which columns of {task.file} are read: leave out {", ".join(named)}, '
            "or the template"
        )


def _read(
    path: Path,
    task: TaskSpec,
    template: TemplateSpec | None = None,
    *,
    remedy: str = _NAME_IN_STUDY,
    endings: Sequence[str] = FILE_ENDINGS,
) -> list[Example]:
    if os.path.isdir(path):  # pathlib raises where a name is too long
        raise DataError(f"{path} is a folder, not a file")
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() not in FILE_ENDINGS:
        raise DataError(f"{path}: {path.suffix or 'no'} ending; accepted are {', '.join(endings)}")
    try:
        table = _read_table(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        kind = path.suffix[1:]
        said = (str(error).splitlines() or ["nothing said why"])[0]
        raise DataError(f"{path}: cannot be read as {kind} ({said}): save it again as {kind}, text in UTF-8") from None
    if template is not None:
        prompts, texts = _filled(path, table, template)
    else:
        prompt_column, text_column = _columns(path, table, task, remedy)
        texts = table[text_column].to_list()
        prompts = table[prompt_column].to_list() if prompt_column else [""] * len(texts)
    return [
        Example(prompt or "", text, f"{path.name}:{number}")
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        if text and text.strip()
    ]


def _read_table(path: Path) -> pl.DataFrame:
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # polars takes no path that is not UTF-8
    if not content or content.isspace():
        raise DataError(f"{path} is empty: give a file with at least one row of text")
    match path.suffix.lower():
        case ".jsonl":
            return pl.read_ndjson(content, infer_schema_length=None)
        case ".csv":
            return pl.read_csv(content, infer_schema=False)
        case _:
            return pl.read_parquet(content)


def _columns(path: Path, table: pl.DataFrame, task: TaskSpec, remedy: str) -> tuple[str | None, str]:
    """The prompt column (or None) and the column to learn."""
    if task.text_column or task.completion_column:
        wanted = (task.prompt_column, task.completion_column) if task.completion_column else (None, task.text_column)
    elif "text" in table.columns:
        wanted = (None, "text")
    elif {"prompt", "completion"} <= set(table.columns):
        wanted = ("prompt", "completion")
    else:
        raise DataError(f"{path}: no column named text, nor prompt and completion; it has {_listed(table)}. {remedy}")
    for column in filter(None, wanted):
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise DataError(f'{path}: no column "{column}"; it has {_listed(table)}.{hint}')
        if table[column].dtype != pl.String:
            raise DataError(f'{path}: column "{column}" holds {table[column].dtype}, not text')
    return wanted[0], str(wanted[1])


def _filled(path: Path, table: pl.DataFrame, template: TemplateSpec) -> tuple[list[str], list[str]]:
    """Prompt and completion of every row; the completion is empty where a column that it names has no value."""
    assert template.prompt is not None
    assert template.completion is not None
    columns = [
        name for name, kind in table.schema.items() if kind == pl.String or kind.is_numeric() or kind == pl.Boolean
    ]
    left_out = [name for name in table.columns if name not in columns]
    note = f" ({', '.join(left_out)} hold neither text nor numbers)" if left_out else ""
    where = f'{path}: template "{template.name}"'
    prompt = TemplateText.parse(template.prompt, f"{where}, prompt", columns, note)
    completion = TemplateText.parse(template.completion, f"{where}, completion", columns, note)
    if not completion.columns:
        raise DataError(
            f'{where}: completion "{template.completion}" is the same for every row: put a column into it, one of '
            f"{_listed(table)}"
        )
    prompts, completions = [], []
    for row in table.select(sorted({*prompt.columns, *completion.columns})).iter_rows(named=True):
        values = {name: "" if value is None else str(value) for name, value in row.items()}
        has_all = all(values[name].strip() for name in completion.columns)
        prompts.append(prompt.fill(values))
        completions.append(completion.fill(values) if has_all else "")
    return prompts, completions


def _listed(table: pl.DataFrame) -> str:
    return ", ".join(f'"{column}"' for column in table.columns) or "no columns"


def _text(row: Example) -> str:
    return f"{row.prompt}\0{row.completion}"
