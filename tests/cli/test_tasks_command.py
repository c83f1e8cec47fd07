"""`loralaw tasks`: every task in a list, and what one of them is made of."""

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from loralaw.cli.app import app
from loralaw.errors import DataError
from loralaw.tasks import TASKS

RUNNER = CliRunner()


def tasks(*words: object) -> str:
    result = RUNNER.invoke(app, ["tasks", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_list() -> None:
    lines = tasks().splitlines()
    assert {line.split()[0] for line in lines[1:]} == set(TASKS)
    assert any("nyu-mll/glue mrpc" in line and "accuracy, f1" in line for line in lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows with what a terminal would obey, and what rich would take for markup."""
    rows = [
        {"question": f"[bold]why[/] \x1b[31m{i}?", "choices": ["[red]a", "b"], "label": 0, "answer": "solution1"}
        for i in range(100)
    ]
    (tmp_path / "piqa").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "piqa" / "test.parquet")
    return tmp_path


def test_one_task(folder: Path) -> None:
    said = tasks("--check", "piqa", "--data-dir", folder, "--template", "question")
    for part in ("20 rows", "questions", "accuracy 1.00", "every fifth row", r"[bold]why[/] \x1b[31m", '" [red]a"'):
        assert part in said
    assert "\x1b" not in said


def test_one_labelled_task(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    table = pl.DataFrame({"sentence": [f"film {i}" for i in range(60)], "label": [1] * 60})
    table[:50].write_parquet(tmp_path / "sst2" / "train.parquet")
    table[50:].write_parquet(tmp_path / "sst2" / "validation.parquet")
    said = tasks("--check", "sst2", "--data-dir", tmp_path)
    assert '"film 0"' in said
    assert "1 (positive)" in said
    assert "questions" not in said


def test_mistakes(folder: Path) -> None:
    with pytest.raises(DataError, match="--check TASK"):
        tasks("--data-dir", folder)
    with pytest.raises(DataError, match='Did you mean "piqa"'):
        tasks("--check", "pica")
    with pytest.raises(DataError, match="a name is letters"):
        tasks("--check", "piqa", "--template", "[no]")
    with pytest.raises(DataError, match='Did you mean "letters"'):
        tasks("--check", "piqa", "--data-dir", folder, "--template", "leters")
