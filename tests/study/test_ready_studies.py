"""The study files that come with the project: each can be read, and planned without weights and without a hub."""

from pathlib import Path

import pytest

from loralaw.spec import load_study
from loralaw.study import forecast

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
STUDIES = sorted((REPOSITORY / "studies").glob("*.yaml"))
TO_PLAN = [path for path in STUDIES if path.stem != "quickstart" and not path.stem.startswith("evidence_")]
"""Those of the evidence are held to their tables, once they have been run: tests/evidence/test_evidence.py."""
NEEDS_DATA = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmarks' data are not beside the repository")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_it_can_be_read(path: Path) -> None:
    spec = load_study(path)
    assert spec.name == path.stem
    assert spec.all_tasks


@NEEDS_DATA
@pytest.mark.parametrize("path", TO_PLAN, ids=lambda path: path.stem)
def test_it_can_be_planned(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORALAW_DATA", str(DATA))
    told = forecast(path, tmp_path, flops_per_second=2e14)
    assert told.n_cells == sum(group.n_cells for group in told.groups) > 0
    assert all(group.flops > 0 and group.memory_bytes > 0 for group in told.groups)


def test_a_twin_has_the_design_of_its_study() -> None:
    """The same layout, the same axes with more than one entry, methods of the same kinds in the same order."""
    pairs = {
        "miub_llama3_phi3": "miub_twin",
        "alpha_lora_glue_roberta": "alpha_lora_glue_twin",
        "rank_llama": "rank_twin",
    }
    for name, twin in pairs.items():
        mine, small = (load_study(REPOSITORY / "studies" / f"{each}.yaml") for each in (name, twin))
        assert small.layout == mine.layout
        assert [m.name for m in small.methods] == [m.name for m in mine.methods]
        assert [t.name for t in small.templates] == [t.name for t in mine.templates]
        assert {t.label for t in small.all_tasks} <= {t.label for t in mine.all_tasks} | {"openbookqa"}
