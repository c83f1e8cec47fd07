"""A study of labelled tasks, from files to the report: heads of the right size, metrics of each task, all methods."""

import gc
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from architectures import save, small
from benchmark_files import pairs, write_local

import loralaw
import loralaw.training.train_solo
from loralaw.report import write_report
from loralaw.spec import StudySpec, TaskSpec, parse_study
from loralaw.store import Study
from loralaw.study import forecast
from loralaw.tasks import load_task

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
# As in solo_cells: the Trainer collects garbage before every training; without what was imported that takes no time.
gc.freeze()
SENTENCES = ("sentence1", "sentence2")
INSIDE = ("miub_nats", "jsd_nats", "gaussian_coordinate_nats", "norm_ratio", "cosine", "effective_rank")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    for name, n_classes, validation in (("mrpc", 2, "validation"), ("mnli", 3, "validation_matched")):
        splits = {
            "train": pairs(30, SENTENCES, n_classes),
            validation: pairs(6, SENTENCES, n_classes, 100),
            "test": pairs(8, SENTENCES, n_classes, 200),
        }
        write_local(home / "glue" / name, **splits)
    return home


@pytest.fixture(scope="module")
def spec(data: Path, tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    model = save(small("bert"), tmp_path_factory.mktemp("model") / "bert")
    settings: dict[str, Any] = {
        "base_models": [str(model)],
        "tasks": [{"name": name, "data_dir": str(data)} for name in ("mrpc", "mnli")],
        "methods": ["lora", {"name": "alpha-lora", "row_scale_share": 0.25}, {"name": "full", "learning_rate": 1e-4}],
        "ranks": [2],
        "sizes": [8],
        "seeds": [0, 1],
        "training": {"steps": 5, "batch_size": 2, "max_length": 9, "dtype": "float32"},
        "evaluation": {"test_examples": 8, "probe_examples": 4, "other_estimators": ["gaussian_coordinate"]},
    }
    return parse_study(settings, "s")


@pytest.fixture(scope="module")
def done(spec: StudySpec, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return loralaw.run(spec, tmp_path_factory.mktemp("out") / "s", executor="inline")


def test_every_cell_has_its_metrics(done: Study) -> None:
    table = done.table()
    assert table["status"].to_list() == ["finished"] * 12
    assert table["path"].unique().to_list() == ["trainer"]
    for column in ("cross_entropy", "cross_entropy_stderr", "accuracy", "accuracy_stderr", "train_loss"):
        assert table[column].is_finite().all(), column
    pairs_of_two = table.filter(task="mrpc")
    for column in ("f1", "f1_stderr"):  # official for paraphrases, not for three classes
        assert pairs_of_two[column].is_finite().all(), column
        assert table.filter(task="mnli")[column].is_null().all(), column
    for column in ("perplexity", "choice_accuracy", "matthews_correlation", "pearson", "mean_squared_error"):
        assert table[column].is_null().all(), column
    full = pl.col("method").str.starts_with("full")
    for column in INSIDE:
        assert table.filter(~full)[column].is_finite().all(), column
        assert table.filter(full)[column].is_null().all(), column


def test_heads_have_the_labels_of_their_task(done: Study) -> None:
    for record in done.records():
        n_labels = {"mrpc": 2, "mnli": 3}[record["cell"]["task"]["name"]]
        assert record["cell"]["n_labels"] == n_labels
        assert record["metrics"]["cross_entropy"] == pytest.approx(math.log(n_labels), abs=0.5)  # hardly trained
        assert record["counts"]["n_test_rows"] == 8
    trainable = done.table().filter(method="lora").select("task", "n_params_trainable").unique().sort("task")
    (_, of_three), (_, of_two) = trainable.rows()
    assert of_three - of_two == 16 + 1  # a row of the head, and its bias


def test_the_commonest_answer_stands_beside_and_no_base_model(done: Study, data: Path) -> None:
    """A new head knows nothing, so that there is no score of a base model."""
    table = done.table()
    for name in ("mrpc", "mnli"):
        n_rows = int(done.settings["evaluation"]["test_examples"])
        expected = load_task(TaskSpec(name=name, data_dir=data)).majority_accuracy(n_rows)
        assert table.filter(task=name)["majority_accuracy"].unique().to_list() == [expected]
    for column in ("base_cross_entropy", "base_accuracy", "base_choice_accuracy"):
        assert table[column].is_null().all(), column


def test_texts_that_are_cut_are_counted(done: Study, spec: StudySpec, tmp_path: Path) -> None:
    """All of them here: two texts of several tokens do not fit into nine."""
    assert done.table()["n_test_rows_cut"].unique().to_list() == [8]
    assert done.table()["n_train_examples_cut"].unique().to_list() == [8]
    told = forecast(spec, tmp_path / "none", jobs=1)
    assert len(told.too_long) == 2
    for name, sentence in zip(("mrpc", "mnli"), told.too_long, strict=True):
        n_train = len(load_task(spec.all_tasks[name == "mnli"]).train)
        assert (
            f"{name}: of those looked at, {n_train} of {n_train} training examples, 8 of 8 test rows are longer than 9"
            in sentence
        )


def test_the_report_is_written(done: Study) -> None:
    page = write_report(done).read_text(encoding="utf-8")
    assert '<h2 id="scores-title">Scores</h2>' in page
    assert "<th scope=" in page
    assert "Accuracy" in page
    for name in ("mrpc", "mnli"):
        assert name in page
    assert "were longer than max_length and were cut" in page
