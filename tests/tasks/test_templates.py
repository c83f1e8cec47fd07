"""Templates: the built-in ones to the letter, texts of the user's, and nothing that reaches into a value."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from benchmark_files import local_rows, write_local
from hypothesis import given
from hypothesis import strategies as st

from loralaw.errors import DataError
from loralaw.spec import TaskSpec, TemplateSpec
from loralaw.tasks import CHOICE_TEMPLATES, TaskData, load_task
from loralaw.tasks.templates import TemplateText


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_local(tmp_path_factory.mktemp("data") / "piqa", train=local_rows(40), test=local_rows(4, start=41))


def load(folder: Path, **template: Any) -> TaskData:
    return load_task(TaskSpec(name="piqa", data_dir=folder), TemplateSpec(**template))


PROMPTS = {
    "instruction": "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request. \n\n### Instruction:\nChoose for case 41.\n\n### Response:\n",
    "short": "Choose for case 41.\n",
    "question": "Question: What about case 41?\nAnswer:",
    "letters": "Question: What about case 41?\nA. option 0 of 41\nB. option 1 of 41\nAnswer:",
}
OPTIONS = {
    "instruction": ("the correct answer is solution1", "the correct answer is solution2"),
    "short": ("the correct answer is solution1", "the correct answer is solution2"),
    "question": (" option 0 of 41", " option 1 of 41"),
    "letters": (" A", " B"),
}


@pytest.mark.parametrize("name", list(CHOICE_TEMPLATES))
def test_built_in_templates(name: str, folder: Path) -> None:
    data = load(folder, name=name)
    question, row = data.choices[0], data.test[0]
    assert (question.context, question.options, question.label) == (PROMPTS[name], OPTIONS[name], 1)
    assert (row.prompt, row.completion) == (PROMPTS[name], OPTIONS[name][1])  # type: ignore[union-attr]
    assert row.document == question.document == "piqa:test:0"
    assert not data.is_chat


def test_a_chat_has_no_wrapper(folder: Path) -> None:
    data = load(folder, name="instruction", chat=True)
    assert data.is_chat
    assert data.choices == load(folder, name="short").choices


def test_texts_of_the_user(folder: Path) -> None:
    data = load(folder, name="mine", prompt="{{{question}}} {choices}", completion="{letter}: {choice} ({answer})")
    assert data.choices[0].context == "{What about case 41?} A. option 0 of 41\nB. option 1 of 41"
    assert data.choices[0].options[1] == "B: option 1 of 41 (solution2)"


@pytest.mark.parametrize(
    ("prompt", "completion", "part"),
    [
        ("{qestion}", "{choice}", 'template "mine", prompt: {qestion} is not .* Did you mean "question"'),
        ("{question}", "{chioce}", 'accepted are .*{letter}.* Did you mean "choice"'),
        ("{choice}", "{choice}", "accepted are {instruction}, {question}, {choices}.* belongs in completion"),
        ("{question.__class__}", "{choice}", "not the plain name"),
        ("{question[0]}", "{choice}", "not the plain name"),
        ("{question!r}", "{choice}", "{question!r} is not the plain name"),
        ("{question:>99999999}", "{choice}", "{question:>99999999} is not the plain name"),
        ("{question:{choices}}", "{choice}", "not the plain name"),
        ("{0}", "{choice}", "{0} is not the plain name"),
        ("{}", "{choice}", "{} is not the plain name"),
        ("a } b", "{choice}", "Single '}'.*write {{ and }} for braces"),
        ("a { b", "{choice}", "write {{ and }} for braces"),
        ("{question}", "yes", 'completion "yes" is the same for every option'),
        ("{question}", "{question}", "the same for every option"),
    ],
)
def test_unusable_texts(prompt: str, completion: str, part: str, folder: Path) -> None:
    with pytest.raises(DataError, match=part.replace("{", r"\{").replace("}", r"\}")):
        load(folder, name="mine", prompt=prompt, completion=completion)


def test_a_name_that_is_no_template(folder: Path) -> None:
    with pytest.raises(DataError, match=r'"leters" is not a template of piqa; .* Did you mean "letters"'):
        load(folder, name="leters")


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_is_filled_or_refused(text: str, value: str) -> None:
    try:
        parsed = TemplateText.parse(text, "t", ["a"])
    except DataError:
        return
    assert parsed.fill({"a": value}).count("{") >= text.count("{{") - 2 * text.count("{a}")


@given(st.text(max_size=30))
def test_braces_in_a_value_are_left_alone(value: str) -> None:
    assert TemplateText.parse("{{{a}}}", "t", ["a"]).fill({"a": value}) == "{" + value + "}"


def file_of(tmp_path: Path, ending: str = ".parquet") -> Path:
    table = pl.DataFrame(
        {"in": [f"q{i}" for i in range(80)], "n": list(range(80)), "out": [f"a{i}" for i in range(79)] + [None]}
    )
    path = tmp_path / f"rows{ending}"
    (table.write_parquet if ending == ".parquet" else table.write_ndjson)(path)
    return path


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_files_with_a_template(tmp_path: Path, ending: str) -> None:
    spec = TemplateSpec(name="mine", prompt="{in} no. {n}:", completion=" {out}", chat=True)
    data = load_task(TaskSpec(file=file_of(tmp_path, ending)), spec)
    assert data.is_chat
    rows = [*data.train, *data.validation, *data.test]
    assert len(rows) == 79  # the row without a completion is left out
    assert {(row.prompt, row.completion) for row in rows} == {  # type: ignore[union-attr]
        (f"q{i} no. {i}:", f" a{i}") for i in range(79)
    }


@pytest.mark.parametrize(
    ("template", "columns", "part"),
    [
        ({"prompt": "{inn}", "completion": "{out}"}, {}, r'\{in\}, \{n\}, \{out\}.* Did you mean "in"'),
        ({"prompt": "{in}", "completion": "yes"}, {}, "the same for every row"),
        ({}, {}, "a file has no templates by name"),
        ({"prompt": "{in}", "completion": "{out}"}, {"text_column": "in"}, "leave out text_column, or the template"),
    ],
)
def test_unusable_templates_of_files(
    tmp_path: Path, template: dict[str, str], columns: dict[str, str], part: str
) -> None:
    with pytest.raises(DataError, match=part):
        load_task(TaskSpec(file=file_of(tmp_path), **columns), TemplateSpec(name="short", **template))
