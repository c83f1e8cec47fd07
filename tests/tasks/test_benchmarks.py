"""Tasks by name on small files: both layouts, splits that share nothing, and every mistake answered in one message."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from benchmark_files import local_rows, pairs, write_hub_cache, write_local

from loralaw.errors import DataError
from loralaw.spec import TaskSpec, TemplateSpec
from loralaw.tasks import TASKS, Example, Labelled, TaskData, load_task
from loralaw.tasks.choice_task import ChoiceTask

DOCS = Path(__file__).parents[2] / "docs" / "tasks.md"


@pytest.fixture(autouse=True)
def no_folder_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORALAW_DATA", raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which no test may ask."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def load(task: str, data_dir: Path | None = None, /, **template: Any) -> TaskData:
    return load_task(TaskSpec(name=task, data_dir=data_dir), TemplateSpec(**template) if template else None)


def lettered(question: str, i: int, n: int = 4) -> dict[str, Any]:
    letters = list("ABCDE" if i % 3 else "12345")[:n]
    choices = {"text": [f"text {k} of {i}" for k in range(n)], "label": letters}
    return {question: f"What is {i}?", "choices": choices, "answerKey": letters[i % n]}


HUB_ROWS = {
    "boolq": lambda i: {"question": f"is it {i}", "answer": i % 2 == 0, "passage": "p"},
    "piqa": lambda i: {"goal": f"goal {i}", "sol1": f"one of {i} ", "sol2": f"two of {i}", "label": i % 2},
    "social_i_qa": lambda i: {
        "context": f"They were {i}.",
        "question": "Why?",
        **{f"answer{k}": f"{k} of {i}" for k in "ABC"},
        "label": str(i % 3 + 1),
    },
    "hellaswag": lambda i: {
        "activity_label": "Cooking",
        "ctx": f"[header] How to cook {i} [title] Begin. [step] Take a pan.",
        "endings": [f"[step] {k} of {i}." for k in range(4)],
        "label": str(i % 4),
    },
    "winogrande": lambda i: {"sentence": f"{i} saw _.", "option1": f"a{i}", "option2": f"b{i}", "answer": "21"[i % 2]},
    "arc_easy": lambda i: lettered("question", i),
    "arc_challenge": lambda i: lettered("question", i, 3 + i % 3),
    "openbookqa": lambda i: lettered("question_stem", i),
}
FIRST_INSTRUCTION = {
    "boolq": "Please answer the following question with true or false, question: is it 0?\n\nAnswer format: true/false",
    "piqa": "Please choose the correct solution to the question: goal 0\n\nSolution1: one of 0 \n\nSolution2: two of "
    "0\n\nAnswer format: solution1/solution2",
    "social_i_qa": "Please choose the correct answer to the question: They were 0. Why?\n\nAnswer1: A of 0 Answer2: B "
    "of 0 Answer3: C of 0\n\nAnswer format: answer1/answer2/answer3",
    "hellaswag": "Please choose the correct ending to complete the given sentence: Cooking: How to cook 0. Begin. Take "
    "a pan.\n\nEnding1: 0 of 0. Ending2: 1 of 0. Ending3: 2 of 0. Ending4: 3 of 0.\n\n"
    "Answer format: ending1/ending2/ending3/ending4",
    "winogrande": "Please choose the correct answer to fill in the blank to complete the given sentence: 0 saw _.\n\n"
    "Option1: a0 Option2: b0 Answer format: option1/option2",
    "arc_challenge": "Please choose the correct answer to the question: What is 0?\n\nAnswer1: text 0 of 0 Answer2: "
    "text 1 of 0 Answer3: text 2 of 0\n\nAnswer format: answer1/answer2/answer3",
}
FIRST_ANSWER = {"boolq": "true", "piqa": "solution1", "hellaswag": "ending1", "winogrande": "option2"}


@pytest.mark.parametrize("name", list(HUB_ROWS))
def test_rows_of_the_hub(name: str, hub: Path) -> None:
    task = TASKS[name]
    assert isinstance(task, ChoiceTask)
    row = HUB_ROWS[name]
    splits = {"train": [row(i) for i in range(9, 99)], task.hub_test: [row(i) for i in range(9)]}
    write_hub_cache(hub, *task.hub, **splits)
    data = load(name, name="short")
    first = data.test[0]
    assert isinstance(first, Example)
    if name in FIRST_INSTRUCTION:
        assert first.prompt == FIRST_INSTRUCTION[name] + "\n"
    assert first.completion == f"the correct answer is {FIRST_ANSWER.get(name, 'answer1')}"
    assert len(data.train) + len(data.validation) == 90
    assert len(data.choices) == 9
    assert [c.options[c.label] for c in data.choices] == [e.completion for e in data.test]  # type: ignore[union-attr]
    assert any("tenth" in note for note in data.notes)
    (first_option, *_) = load(name, name="question").choices[0].options
    assert first_option.startswith(" ")
    assert first_option == first_option.rstrip()


@pytest.mark.parametrize("name", ["mnli", "qnli", "mrpc", "rte", "sst2", "qqp", "cola", "stsb"])
@pytest.mark.parametrize("place", ["hub", "folder"])
def test_labelled_rows(name: str, place: str, hub: Path, tmp_path: Path) -> None:
    task = TASKS[name]
    assert not isinstance(task, ChoiceTask)
    columns = task.texts if place == "hub" else ("sentence1", "sentence2")  # type: ignore[union-attr]
    splits = {
        split: pairs(n, columns, start=start)
        for split, n, start in (("train", 90, 0), (task.validation, 10, 90), ("test", 5, 100))  # type: ignore[union-attr]
    }
    if name != "mrpc":
        splits["test"] = [{**row, "label": -1} for row in splits["test"]]
    if place == "hub":
        write_hub_cache(hub, "nyu-mll/glue", name, **splits)
    data = load(name, None if place == "hub" else write_local(tmp_path / "d" / "glue" / name, **splits).parents[1])
    assert data.target is not None
    assert data.target.metrics == task.metrics  # type: ignore[union-attr]
    assert not data.choices
    assert len(data.test) == (5 if name == "mrpc" else 10)
    assert len(data.train) + (0 if name == "mrpc" else len(data.validation)) == 90
    row = data.test[0]
    assert isinstance(row, Labelled)
    assert (row.other_text is None) == (name in ("sst2", "cola"))
    assert row.label in (0.0, 1.0)
    assert (data.majority_accuracy() is None) == (name == "stsb")


@pytest.mark.parametrize("level", ["", "commonsense", "commonsense/piqa"])
def test_three_levels_of_a_folder(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_local(tmp_path / "commonsense" / "piqa", train=local_rows(80), test=local_rows(20, start=80))
    data = load("piqa", tmp_path / level)
    assert len(data.test) == 20
    monkeypatch.setenv("LORALAW_DATA", str(tmp_path / level))
    assert load("piqa").hash == data.hash


def test_without_a_train_file_every_fifth_row_tests(tmp_path: Path) -> None:
    data = load("piqa", write_local(tmp_path / "piqa", test=local_rows(100)))
    assert [e.document for e in data.test] == [f"piqa:test:{i}" for i in range(4, 100, 5)]
    assert len(data.train) + len(data.validation) == 80
    assert any("every fifth row" in note for note in data.notes)


def test_no_prompt_is_in_two_splits(tmp_path: Path) -> None:
    train = [*local_rows(90), *local_rows(90)]  # every question twice
    test = [*local_rows(5), *local_rows(15, start=200)]
    data = load("piqa", write_local(tmp_path / "piqa", train=train, test=test), name="question")
    prompts = [{row.prompt for row in rows} for rows in (data.train, data.validation, data.test)]  # type: ignore[union-attr]
    assert all(prompts)
    assert not prompts[0] & prompts[1]
    assert not (prompts[0] | prompts[1]) & prompts[2]
    assert any(note.startswith("10 training rows") for note in data.notes)


def test_pairs_are_in_one_split_only(tmp_path: Path) -> None:
    texts = ("sentence1", "sentence2")
    folder = write_local(
        tmp_path / "rte", train=[*pairs(90, texts), *pairs(4, texts, start=90)], validation=pairs(9, texts, start=90)
    )
    data = load("rte", folder)
    assert len(data.train) + len(data.validation) == 90
    assert any(note.startswith("4 training rows") for note in data.notes)


def test_majority_is_the_commonest_of_train_on_test(tmp_path: Path) -> None:
    train = [{**row, "label": 1, "answer": "solution2"} for row in local_rows(80)]
    test = local_rows(8, start=80)
    test[1] |= {"label": 0, "answer": "solution1"}
    assert load("piqa", write_local(tmp_path / "piqa", train=train, test=test)).majority_accuracy() == 3 / 8


def test_the_split_and_the_hash_are_the_same_every_time(tmp_path: Path) -> None:
    folder = write_local(tmp_path / "piqa", train=local_rows(80), test=local_rows(20, start=80))
    one, other = load("piqa", folder), load("piqa", folder, name="letters")
    assert one.hash == load("piqa", folder, name="instruction").hash == load("piqa", folder).hash
    assert one.hash != other.hash
    assert [e.document for e in one.validation] == [e.document for e in other.validation]
    assert load("piqa", folder, name="short", chat=True).hash != load("piqa", folder, name="short").hash


def broken(**change: Any) -> list[dict[str, Any]]:
    rows = local_rows(10)
    rows[3] |= change
    return rows


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (broken(label=2), r"test.parquet, row 3 \(from 0\): the label is 2; accepted are 0, 1"),
        (broken(label=None), "the label is None"),
        (broken(question=" "), "the question is ' '"),
        (broken(question=None), "the question is None"),
        (broken(choices=["one"]), r"the choices are \('one',\): 2 to 26 texts"),
        (broken(choices=["one", None]), "2 to 26 texts"),
        (broken(choices=None), "is not a question with its choices"),
        (broken(answer="answer2"), "the answer is 'answer2', but label 1 is 'solution2': is it of piqa"),
        ([{**row, "choices": ["same", "same"]} for row in local_rows(40)], "are the same text"),
        (
            [{"a": 1, "b": "x"}],
            "has the columns a, b; accepted are question, choices, label; or goal, sol1, sol2, label",
        ),
        (local_rows(4), "1 rows are left for validation, at least 2 are needed"),
    ],
)
def test_unusable_questions(rows: list[dict[str, Any]], part: str, tmp_path: Path) -> None:
    template = {"name": "question"} if "same text" in part else {}
    with pytest.raises(DataError, match=part):
        load("piqa", write_local(tmp_path / "piqa", test=rows), **template)


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("rte", {"label": 2}, r"row 0 \(from 0\): the label is 2; accepted are 0 \(entailment\), 1 \(not_entailment\)"),
        ("rte", {"label": None}, "the label is None"),
        ("rte", {"label": 0.5}, "the label is 0.5"),
        ("rte", {"label": "entailment"}, "the label is 'entailment'"),
        ("stsb", {"label": 5.5}, "accepted are numbers from 0 to 5"),
        ("stsb", {"label": float("nan")}, "the label is nan"),
        ("rte", {"sentence2": None}, "sentence2 is None: a text is needed"),
    ],
)
def test_unusable_labels(name: str, change: dict[str, Any], part: str, tmp_path: Path) -> None:
    texts = ("sentence1", "sentence2")
    rows = [{**pairs(1, texts)[0], **change}]
    with pytest.raises(DataError, match=part):
        load(name, write_local(tmp_path / name, train=rows, validation=pairs(9, texts)))


def test_unknown_layouts_and_files_that_are_not_there(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_local(tmp_path / "rte", train=[{"text": "a", "label": 0}])
    with pytest.raises(DataError, match=r"validation\.parquet: no such file; it is needed, with the columns sentence1"):
        load("rte", folder)
    write_local(folder, validation=pairs(9, ("sentence1", "sentence2")))
    with pytest.raises(DataError, match="has the columns text, label; accepted are sentence1, sentence2, label"):
        load("rte", folder)
    (folder / "train.parquet").write_text("not parquet")
    with pytest.raises(DataError, match=r"train.parquet: cannot be read as Parquet \(.*\): save it again"):
        load("rte", folder)
    with pytest.raises(DataError, match=r'data_dir is ".*", which has no files of piqa: put train.parquet and test'):
        load("piqa", folder)  # another task's folder
    monkeypatch.setenv("LORALAW_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"LORALAW_DATA is .*nowhere"):
        load("piqa")


def test_without_a_network(hub: Path) -> None:
    with pytest.raises(DataError) as caught:
        load("piqa")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("plain_text/train/0000.parquet", "ybisk/piqa", "HF_HUB_OFFLINE", "LORALAW_DATA"):
        assert part in message
    assert str(Path("DIR/commonsense/piqa")) in message


def test_names_that_are_not_tasks() -> None:
    with pytest.raises(DataError, match='Did you mean "arc_easy"') as caught:
        load("arc-easy")
    assert all(name in str(caught.value) for name in TASKS)
    with pytest.raises(DataError, match="no templates"):
        load("stdlib-code", name="question")
    with pytest.raises(DataError, match="read from the running Python"):
        load("stdlib-code", Path())
    with pytest.raises(DataError, match="mrpc is classified by a head on top of the model: it has no templates"):
        load("mrpc", name="question")


def test_the_task_that_the_page_adds(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 40
    names: dict[str, Any] = {}
    exec(code, names)
    rows = [
        {"premise": f"It was {i}.", "question": "cause", "choice1": "a", "choice2": f"b{i}", "label": i % 2}
        for i in range(90)
    ]
    folder = write_local(tmp_path / "copa", train=rows[:80], test=rows[80:])
    data = names["COPA"].load(folder)
    assert data.test[0].completion == "the correct answer is answer1"
    assert "It was 80. What was the cause?" in data.test[0].prompt


def test_the_page_lists_every_task_and_template() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in TASKS)
    for task in TASKS.values():
        assert task.id == "stdlib-code" or task.metric in page


def test_files_are_read_as_written(tmp_path: Path) -> None:
    """A column of the user's beside ours does no harm."""
    rows = [{**row, "note": None, "split": 3} for row in local_rows(50)]
    pl.DataFrame(rows).write_parquet(write_local(tmp_path / "piqa") / "test.parquet")
    assert load("piqa", tmp_path / "piqa").train[0].prompt.count("Choose for case") == 1  # type: ignore[union-attr]
