"""Studies of several tasks and templates: what is refused, which cells there are, and what a run tells of them."""

import gc
import itertools
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from architectures import save, small
from benchmark_files import local_rows, pairs, write_local
from polars.testing import assert_frame_equal
from transformers import AutoTokenizer

import loralaw
from loralaw.cli import main
from loralaw.errors import SpecError
from loralaw.models import find_model, load_base_model
from loralaw.report import write_report
from loralaw.spec import TaskSpec, TemplateSpec, parse_study
from loralaw.store import Study, open_study
from loralaw.study import RunProgress, check, plan_cells
from loralaw.study.check import CheckedStudy
from loralaw.tasks import load_task, sample
from loralaw.training import EncodedTask
from loralaw.training.measure import measure
from loralaw.training.plain_model import KEY, PlainModel

gc.freeze()  # garbage is collected before every pack; without what was imported that takes no time
TEMPLATES = ["question", {"name": "mine", "prompt": "Q {question}", "completion": " A {choice}"}]
TRAINING = {"steps": 8, "batch_size": 2, "max_length": 48, "dtype": "float32", "learning_rate": 5e-3}


@pytest.fixture(autouse=True)
def no_folder_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORALAW_DATA", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of questions and two with labels, each with rows of its own and another number of them."""
    home = tmp_path_factory.mktemp("data")
    write_local(home / "commonsense" / "piqa", train=local_rows(44), test=local_rows(12, start=100))
    write_local(
        home / "commonsense" / "arc_easy",
        train=local_rows(34, 4, "answer", 200),
        test=local_rows(8, 4, "answer", 300),
    )
    write_local(
        home / "commonsense" / "hellaswag",
        train=local_rows(30, 4, "ending", 400),
        test=local_rows(9, 4, "ending", 500),
    )
    sentences = ("sentence1", "sentence2")
    for name, n_classes in (("mrpc", 2), ("mnli", 3)):
        validation = "validation_matched" if name == "mnli" else "validation"
        write_local(
            home / "glue" / name,
            **{
                "train": pairs(40, sentences, n_classes),
                validation: pairs(9, sentences, n_classes, 100),
                "test": pairs(9, sentences, n_classes, 200),
            },
        )
    return home


def task(name: str, data: Path) -> dict[str, str]:
    return {"name": name, "data_dir": str(data)}


def settings(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    return {
        "base_models": [str(model)],
        "tasks": [task("piqa", data), task("arc_easy", data)],
        "templates": TEMPLATES,
        "ranks": [1, 2],
        "sizes": [8, 16],
        "seeds": [0],
        "training": TRAINING,
        "evaluation": {"test_examples": 5, "probe_examples": 3, "choice_questions": 6, "other_tasks": ["hellaswag"]},
        **changes,
    }


def checked(model: Path, data: Path, **changes: Any) -> CheckedStudy:
    given = {name: value for name, value in settings(model, data, **changes).items() if value is not None}
    return check(parse_study(given, "s"), "s")


def problems(model: Path, data: Path, **changes: Any) -> dict[str, str]:
    """Messages by place; what several tasks or templates say of one place stands in one text."""
    with pytest.raises(SpecError) as caught:
        checked(model, data, **changes)
    found = caught.value.problems
    assert len(set(found)) == len(found)
    return {p.where: "; ".join(o.message for o in found if o.where == p.where) for p in found}


def label(entry: Any) -> str:
    return str(entry["name"])


def test_every_task_and_template_has_every_combination(tiny_model: Path, data: Path) -> None:
    found = checked(tiny_model, data)
    cells = plan_cells(found)
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 2 * 2 * 2
    per_text = Counter((label(cell.task), cell.template) for cell in cells)
    assert per_text == {(t, p): 4 for t in ("piqa", "arc_easy") for p in ("question", "mine")}
    assert len({cell.data_hash for cell in cells}) == 4
    for cell in cells:
        rows = found.data_of(cell)
        assert rows.name == label(cell.task)
        assert (" A " in rows.choices[0].options[0]) == (cell.template == "mine")
        assert rows.other_questions.keys() == {"hellaswag"}


def test_what_is_scored_is_part_of_a_cell(tiny_model: Path, data: Path) -> None:
    """So that a study that asks more does not take a record without it for its own."""
    keys = {cell.key for cell in plan_cells(checked(tiny_model, data))}
    asks_less = checked(tiny_model, data, evaluation={**settings(tiny_model, data)["evaluation"], "other_tasks": []})
    assert not keys & {cell.key for cell in plan_cells(asks_less)}
    fewer = checked(tiny_model, data, tasks=[task("arc_easy", data)], templates=[TEMPLATES[1]])
    assert {cell.key for cell in plan_cells(fewer)} < keys


def test_a_task_without_its_data_says_nothing_wrong_of_the_model(tmp_path: Path, data: Path) -> None:
    """An encoder is right for labelled tasks, whether or not their rows can be had."""
    encoder = save(small("bert"), tmp_path / "encoder")
    found = problems(encoder, data, tasks=[task("mrpc", tmp_path)], templates=[], evaluation={})
    assert found.keys() == {"tasks[0]"}


def test_settings_are_chosen_on_validation_rows(tiny_model: Path, data: Path) -> None:
    """No row of the test split is left in what cells are scored on, and no question, which are of that split."""
    found = checked(tiny_model, data, evaluation={"split": "validation"})
    for (task_spec, template), rows in found.data.items():
        own = load_task(task_spec, template)
        assert list(rows.test) == list(own.validation)
        assert rows.train == own.train
        assert rows.choices == []
        assert rows.majority_accuracy() is None
    on_test = checked(tiny_model, data, evaluation={})
    keys = [{cell.key for cell in plan_cells(each)} for each in (found, on_test)]
    assert not keys[0] & keys[1]
    labelled = [task("mrpc", data), task("mnli", data)]
    for (task_spec, _), rows in checked(
        tiny_model, data, tasks=labelled, templates=[], evaluation={"split": "validation"}
    ).data.items():
        own = load_task(task_spec)
        assert list(rows.test) == list(own.validation)
        right = [row.label == own.commonest_answer for row in own.validation]
        assert rows.majority_accuracy() == sum(right) / len(right)
    asked = problems(tiny_model, data, evaluation={"split": "validation", "other_tasks": ["hellaswag"]})
    assert "test questions" in asked["evaluation.other_tasks"]


def test_one_task_or_a_list_of_one_are_the_same_cells(tiny_model: Path, data: Path) -> None:
    one = plan_cells(checked(tiny_model, data, tasks=None, task=task("piqa", data)))
    listed = plan_cells(checked(tiny_model, data, tasks=[task("piqa", data)]))
    assert [cell.key for cell in one] == [cell.key for cell in listed]


def test_all_is_what_each_task_has(tiny_model: Path, data: Path) -> None:
    found = checked(tiny_model, data, sizes=[8, "all"], training={**TRAINING, "steps": 40})
    sizes = {(label(cell.task), cell.n_train_examples) for cell in plan_cells(found)}
    n_rows = {t: len(load_task(TaskSpec(**task(t, data))).train) for t in ("piqa", "arc_easy")}
    assert n_rows["piqa"] > n_rows["arc_easy"] > 8
    assert sizes == {(t, n) for t, n_all in n_rows.items() for n in (8, n_all)}
    assert found.spec.settings()["sizes"] == [8, "all"]


def test_all_is_checked_against_the_steps_of_the_largest_task(tiny_model: Path, data: Path) -> None:
    n_rows = len(load_task(TaskSpec(**task("piqa", data))).train)
    found = problems(tiny_model, data, sizes=["all"], training={**TRAINING, "steps": 17})
    assert found.keys() == {"sizes[0]"}
    assert f"{n_rows} examples asked, but 17 steps of 2 read only 34" in found["sizes[0]"]


def test_a_size_that_one_of_the_tasks_does_not_have(tiny_model: Path, data: Path) -> None:
    n_rows = [len(load_task(TaskSpec(**task(t, data))).train) for t in ("piqa", "arc_easy")]
    found = problems(tiny_model, data, sizes=[8, n_rows[0]], training={**TRAINING, "steps": 40})
    assert found.keys() == {"sizes[1]"}
    assert f'{n_rows[0]} examples asked, the task "arc_easy" has {n_rows[1]}' in found["sizes[1]"]


def test_what_a_study_of_one_task_needs_too(tiny_model: Path, data: Path) -> None:
    """A single task is placed by its own name in the file."""
    found = problems(tiny_model, data, tasks=None, task=task("boolq", data))
    assert found.keys() == {"task"}
    found = problems(tiny_model, data, tasks=[task("piqa", data), task("boolq", data)])
    assert found.keys() == {"tasks[1]"}


def test_the_star_stands_in_every_task_and_template(tiny_model: Path, data: Path) -> None:
    found = checked(tiny_model, data, layout="star", ranks=[1, 2, 4], sizes=[4, 8, 16], methods=["lora", "rslora"])
    stars = dict[tuple[str, str | None], set[tuple[str, int | None, int]]]()
    for cell in plan_cells(found):
        settings_of = cell.method["name"], cell.rank, cell.n_train_examples
        stars.setdefault((label(cell.task), cell.template), set()).add(settings_of)
    assert len(stars) == 4
    star = {("rslora", 2, 8), ("lora", 2, 8), ("rslora", 1, 8), ("rslora", 4, 8), ("rslora", 2, 4), ("rslora", 2, 16)}
    assert all(found == star for found in stars.values())


def test_what_cannot_be_together(tiny_model: Path, data: Path) -> None:
    mixed = problems(tiny_model, data, tasks=[task("piqa", data), task("mrpc", data)], templates=[], evaluation={})
    assert mixed.keys() == {"tasks"}
    assert "give each kind a study of its own" in mixed["tasks"]
    both = problems(tiny_model, data, task=task("piqa", data))
    assert both == {"task": "give task or tasks, not both"}
    neither = problems(tiny_model, data, tasks=None)
    assert neither == {"task": "is required and missing"}
    twice = problems(tiny_model, data, tasks=[task("piqa", data), task("piqa", data)])
    assert "piqa stands twice" in twice["tasks"]
    same_name = problems(tiny_model, data, templates=["question", {**TEMPLATES[1], "name": "question"}])
    assert "question stands twice" in same_name["templates"]


def test_labelled_tasks_have_no_templates_and_no_other_tasks(tiny_model: Path, data: Path) -> None:
    labelled = [task("mrpc", data), task("mnli", data)]
    others = problems(tiny_model, data, tasks=labelled, templates=[])
    assert others.keys() == {"evaluation.other_tasks"}
    assert "answers no other questions" in others["evaluation.other_tasks"]
    found = problems(tiny_model, data, tasks=labelled, templates=["question"], evaluation={})
    assert found.keys() == {"templates[0]"}
    assert found["templates[0]"].count("it has no templates") == 2
    cells = plan_cells(checked(tiny_model, data, tasks=labelled, templates=[], evaluation={}))
    assert {(label(cell.task), cell.n_labels) for cell in cells} == {("mrpc", 2), ("mnli", 3)}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("hellasvag", 'Did you mean "hellaswag"'),
        ("mrpc", "it has no templates"),
        ("boolq", "which has no files of boolq"),
    ],
)
def test_other_tasks_that_cannot_be_asked(name: str, part: str, tiny_model: Path, data: Path) -> None:
    found = problems(tiny_model, data, evaluation={"other_tasks": ["hellaswag", name]})
    assert found.keys() == {"evaluation.other_tasks[1]"}
    assert part in found["evaluation.other_tasks[1]"]


def test_a_task_without_questions_is_no_other_task(tiny_model: Path, data: Path) -> None:
    found = problems(tiny_model, data, templates=[], evaluation={"other_tasks": ["mrpc"]})
    assert found.keys() == {"evaluation.other_tasks[0]"}
    assert '"mrpc" has no questions to score' in found["evaluation.other_tasks[0]"]


def test_the_own_task_is_not_another(tiny_model: Path, data: Path) -> None:
    """Each is asked what the others are; its own questions are asked anyway."""
    found = checked(tiny_model, data, evaluation={"other_tasks": ["piqa", "arc_easy"]})
    of_tasks = {text[0].label: set(rows.other_questions) for text, rows in found.data.items()}
    assert of_tasks == {"piqa": {"arc_easy"}, "arc_easy": {"piqa"}}


def test_templates_that_do_not_fit(tiny_model: Path, data: Path) -> None:
    wrong = {"name": "wrong", "prompt": "{queston}", "completion": "{choice}"}
    found = problems(tiny_model, data, templates=["question", wrong, "letter"])
    assert found.keys() == {"templates[1]", "templates[2]"}
    assert 'Did you mean "question"' in found["templates[1]"]
    assert 'Did you mean "letters"' in found["templates[2]"]


def test_a_chat_needs_the_tokenizers_template(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    chat = [{"name": "question", "chat": True}]
    found = problems(tiny_model, data, templates=chat)
    assert found.keys() == {"base_models[0]"}
    assert "chat template" in found["base_models[0]"]
    folder = shutil.copytree(tiny_model, tmp_path / "chatty")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokenizer.save_pretrained(folder)
    plain = plan_cells(checked(folder, data, templates=["question"]))
    chatty = plan_cells(checked(folder, data, templates=chat))
    assert not {cell.key for cell in plain} & {cell.key for cell in chatty}


def test_a_copy_of_a_file_is_a_task_of_its_own(tiny_model: Path, text_file: Path, data: Path) -> None:
    """Or the two would have the same cells, and one name in the table."""
    shutil.copy(text_file, text_file.with_name("copy.jsonl"))
    files = [str(text_file), str(text_file.with_name("copy.jsonl"))]
    cells = plan_cells(checked(tiny_model, data, tasks=files, templates=[], evaluation={}))
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 2 * 2


@dataclass(frozen=True)
class Done:
    """A finished study, and how often it trained."""

    folder: Path
    given: dict[str, Any]
    n_trained: tuple[int, int]

    @property
    def study(self) -> Study:
        return open_study(self.folder)


class Counted(RunProgress):
    def __init__(self) -> None:
        self.n_trained = 0

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self.n_trained += 1


@pytest.fixture(scope="module")
def done(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two tasks and two templates, with a third task beside, run twice."""
    folder = tmp_path_factory.mktemp("done") / "s"
    given = settings(tiny_model, data, seeds=[0, 1], sizes=[4, 8], training={**TRAINING, "steps": 4})
    first, second = Counted(), Counted()
    for progress in (first, second):
        loralaw.run(parse_study(given, "s"), folder, progress, executor="inline")
    return Done(folder, given, (first.n_trained, second.n_trained))


def test_a_run_trains_all_once(done: Done) -> None:
    table = done.study.table()
    assert done.n_trained == (32, 0)
    assert table["status"].unique().to_list() == ["finished"]
    counts = table.group_by("task", "template").len().sort("task", "template").rows()
    assert counts == [(t, p, 8) for t in ("arc_easy", "piqa") for p in ("mine", "question")]


def test_a_grown_study_trains_what_is_new(done: Done, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done.folder, tmp_path / "s")
    short = {"name": "short"}
    more, counted = {**done.given, "templates": [*TEMPLATES, short]}, Counted()
    grown = loralaw.run(parse_study(more, "s"), folder, counted, executor="inline").table()
    assert counted.n_trained == 16
    before = done.study.table().sort("key")
    assert_frame_equal(grown.filter(pl.col("template") != "short").sort("key"), before, check_exact=True)


def test_beside_each_cell_stands_its_base_model(done: Done, data: Path) -> None:
    """As the model scores that transformers loads, on the rows of the cell's own task and template."""
    table = done.study.table()
    base = load_base_model(find_model(done.given["base_models"][0]))
    for (name, template), part in table.group_by("task", "template"):
        spec = next(t for t in parse_study(done.given, "s").templates if t.name == template)
        rows = load_task(TaskSpec(**task(str(name), data)), spec)
        others = load_task(TaskSpec(**task("hellaswag", data)), spec).choices
        (cell, *_) = (c for c in plan_cells(check(parse_study(done.given, "s"))) if c.key == part["key"][0])
        rows.other_questions["hellaswag"] = others
        with PlainModel(base.model, torch.float32) as plain:
            expected = measure(plain, EncodedTask(rows, base, cell, 8))[KEY]["metrics"]
        for metric in ("cross_entropy", "accuracy", "choice_accuracy", "other_choice_accuracy"):
            assert part[f"base_{metric}"].unique().to_list() == [expected[metric]], metric
        asked = cell.evaluation["choice_questions"]
        assert part["majority_accuracy"].unique().to_list() == [rows.majority_accuracy(asked)]
        assert (part["cross_entropy"] != part["base_cross_entropy"]).all()
    assert table["base_cross_entropy"].n_unique() == 4


def test_the_commonest_answer_by_hand(done: Done, data: Path) -> None:
    """On the questions that the cells are asked, not on all."""
    n_asked = parse_study(done.given, "s").evaluation.choice_questions
    for row in done.study.table().iter_rows(named=True):
        rows = load_task(TaskSpec(**task(row["task"], data)))
        labels = [choice.label for choice in sample(rows.choices, n_asked)]
        assert row["majority_accuracy"] == labels.count(rows.commonest_answer or 0) / len(labels)


def test_other_tasks_of_the_records(done: Done) -> None:
    table = {row["key"]: row for row in done.study.table().iter_rows(named=True)}
    for record in done.study.records():
        assert record["other_tasks"].keys() == record["baseline"]["other_tasks"].keys() == {"hellaswag"}
        scores = [other["choice_accuracy"] for other in record["other_tasks"].values()]
        assert table[record["key"]]["other_choice_accuracy"] == pytest.approx(sum(scores) / len(scores))
        before = record["baseline"]["other_tasks"]["hellaswag"]["choice_accuracy"]
        assert table[record["key"]]["base_other_choice_accuracy"] == before
        assert 0 <= scores[0] <= 1
        assert record["other_tasks"]["hellaswag"]["choice_accuracy_stderr"] is not None


def test_several_other_tasks_are_averaged(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    evaluation = {"test_examples": 5, "probe_examples": 3, "choice_questions": 9}
    given = settings(
        tiny_model, data, tasks=[task("piqa", data)], ranks=[1], sizes=[8], templates=["question"],
        evaluation={**evaluation, "other_tasks": ["arc_easy", "hellaswag", "piqa"]},
    )  # fmt: skip
    done = loralaw.run(parse_study(given, "s"), tmp_path / "s", executor="inline")
    (record,) = done.records()
    assert list(record["other_tasks"]) == ["arc_easy", "hellaswag"]
    scores = [other["choice_accuracy"] for other in record["other_tasks"].values()]
    assert done.table()["other_choice_accuracy"].to_list() == [sum(scores) / 2]


def test_a_report_has_its_sections(done: Done) -> None:
    page = write_report(done.study).read_text(encoding="utf-8")
    assert '<h2 id="scores-title">Scores</h2>' in page
    assert "hellaswag" in page
    for task, template in itertools.product(("piqa", "arc_easy"), ("mine", "question")):
        assert f'<h3 class="name">{task}, {template}</h3>' in page
    assert "mine 0" in page  # of the templates' means
    assert "2 tasks" in page
    assert "2 templates" in page


def said(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "argv", ["loralaw", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, " ".join("".join(capsys.readouterr()).split())


@pytest.mark.parametrize("command", ["recommend", "judge"])
def test_commands_want_one_task(
    command: str, done: Done, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, str(done.folder)]
    code, text = said(words, monkeypatch, capsys)
    assert code == 2
    assert "the table has 2 tasks (arc_easy, piqa)" in text
    assert "--task" in text
    code, text = said([*words, "--task", "piqa"], monkeypatch, capsys)
    assert code == 2
    assert "the table has 2 templates (mine, question)" in text
    code, text = said([*words, "--task", "piqa", "--template", "mine"], monkeypatch, capsys)
    assert code == 0, text
    code, text = said([*words, "--task", "piqua"], monkeypatch, capsys)
    assert code == 2
    assert 'Did you mean "piqa"' in text


def test_a_template_of_the_users_is_stored_by_its_texts(tiny_model: Path, data: Path) -> None:
    """Another text under the same name is another cell."""
    mine = TemplateSpec(name="mine", prompt="Q {question}", completion=" A {choice}")
    other = mine.model_copy(update={"completion": " B {choice}"})
    keys = [
        {cell.key for cell in plan_cells(checked(tiny_model, data, templates=[each.model_dump()]))}
        for each in (mine, other)
    ]
    assert not keys[0] & keys[1]
