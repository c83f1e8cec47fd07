"""The README's commands: each exists, and the main one does on a small study what the README says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
LORALAW = Path(sys.executable).with_name("loralaw")


def commands() -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_exists() -> None:
    found = commands()
    assert "make demo" in found
    assert "make test" in found
    targets = (ROOT / "Makefile").read_text()
    help_text = subprocess.run([str(LORALAW), "--help"], capture_output=True, text=True, check=True).stdout
    for command in found:
        words = command.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in targets, command
        elif words[0] == "loralaw":
            assert f" {words[1]} " in help_text, command


def test_the_python_of_the_readme(tiny_model: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text_file.with_name("mine.yaml").write_text(
        f"base_models: [{tiny_model}]\ntask: {text_file.name}\nranks: [1, 2, 4]\nsizes: [8]\n"
        "training: {steps: 4, batch_size: 2, max_length: 16}\nevaluation: {test_examples: 4, probe_examples: 4}\n"
    )
    monkeypatch.chdir(text_file.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["table"].height == 6
    assert names["law"].axis == "rank"


def test_the_quickstart_study_on_a_smaller_grid(tmp_path: Path) -> None:
    """`loralaw run` on the quickstart file itself, cut to the smallest base and a few steps."""
    text = (ROOT / "studies" / "quickstart.yaml").read_text()
    for old, new in (
        (r"base_models: .*", "base_models: [micro-0.4m]"),
        (r"sizes: .*", "sizes: [16, 120]"),
        (r"steps: .*", "steps: 30"),
    ):
        text, count = re.subn(old, new, text)
        assert count == 1, old
    (tmp_path / "quickstart.yaml").write_text(text)
    result = subprocess.run(
        [str(LORALAW), "run", "quickstart.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "studies" / "quickstart"
    assert (folder / "report.html").stat().st_size < 6e6
    printed = subprocess.run([str(LORALAW), "table", str(folder)], capture_output=True, text=True, check=True).stdout
    table = pl.read_csv(printed.encode())
    assert table.shape[0] == 4 * 2 * 2
    assert set(table["status"]) == {"finished"}
    assert table["choice_accuracy"].is_not_null().all()
    by_size = table.group_by("n_train_examples").agg(pl.col("cross_entropy").mean()).sort("n_train_examples")
    assert by_size["cross_entropy"][0] > by_size["cross_entropy"][1]
