from pathlib import Path

import pytest
from synthetic_study import write_synthetic

from loralaw.report import write_report


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study of 72 cells, two of which failed."""
    failed = {5: ("diverged", "the loss was nan at step 41"), 30: ("out-of-memory", "needed 9 GiB, had 7 GiB")}
    return write_report(write_synthetic(tmp_path_factory.mktemp("study"), failed=failed))
