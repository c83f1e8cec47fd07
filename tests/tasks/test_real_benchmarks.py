"""The published data sets, where they lie beside the repository: the texts are those that others compare with."""

from pathlib import Path

import polars as pl
import pytest

from loralaw.spec import TaskSpec, TemplateSpec
from loralaw.tasks import TASKS, load_task
from loralaw.tasks.choice_task import ChoiceTask
from loralaw.tasks.commonsense import COMMONSENSE
from loralaw.tasks.glue import GLUE

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "glue").is_dir(), reason="the data sets are not beside the repository")

LOST_BLANKS = {"piqa": 118}
"""Rows of which an option begins or ends with blanks in the published instruction, and not in its own column."""


@pytest.mark.parametrize("task", COMMONSENSE, ids=lambda task: task.id)
def test_built_instructions_are_the_published_ones(task: ChoiceTask) -> None:
    n_different = 0
    for path in (DATA / "commonsense" / task.id).glob("*.parquet"):
        for row in pl.read_parquet(path).iter_rows(named=True):
            built = task.instruct(row["question"], row["choices"])
            n_different += built != row["instruction"]
            assert built.split() == row["instruction"].split()
            assert row["output"] == f"the correct answer is {task.answer_names(len(row['choices']))[row['label']]}"
    assert n_different == LOST_BLANKS.get(task.id, 0)


N_ROWS = {  # train with validation, test
    "boolq": (9427, 3270),
    "piqa": (1461, 367),
    "social_i_qa": (10000, 1954),
    "hellaswag": (8025, 2008),
    "winogrande": (1014, 253),
    "arc_easy": (2243, 2376),
    "arc_challenge": (1113, 1172),
    "openbookqa": (4935, 500),
    "mnli": (20000, 1000),
    "qnli": (18869, 5463),
    "mrpc": (4076, 1725),
    "rte": (2490, 277),
    "sst2": (20000, 872),
    "qqp": (19833, 1000),
    "cola": (8535, 1043),
    "stsb": (5743, 1500),
}


@pytest.mark.parametrize("name", [task.id for task in (*COMMONSENSE, *GLUE)])
def test_every_data_set_loads(name: str) -> None:
    template = TemplateSpec(name="question") if isinstance(TASKS[name], ChoiceTask) else None
    data = load_task(TaskSpec(name=name, data_dir=DATA), template)
    assert (len(data.train) + len(data.validation), len(data.test)) == N_ROWS[name]
    texts = [{getattr(row, "prompt", None) or (row.text, row.other_text) for row in rows}  # type: ignore[union-attr]
             for rows in (data.train, data.validation, data.test)]  # fmt: skip
    assert not texts[0] & texts[1]
    assert not (texts[0] | texts[1]) & texts[2]
    if data.majority_accuracy() is not None:
        assert 0.2 < data.majority_accuracy() < 0.7
