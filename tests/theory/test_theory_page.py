"""The Python of docs/theory.md, block after block as a reader would type it."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out.startswith("α = ")
    assert names["best"].accuracy_best > names["best"].accuracy_at_1
    assert names["advice"].start == "source"
