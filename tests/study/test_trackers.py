"""Trackers: TensorBoard by reading its files back, the others by modules with their calls."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loralaw.errors import SpecError
from loralaw.spec import parse_study
from loralaw.study import Trackers, plan_cells
from loralaw.study.check import check
from loralaw.study.trackers import missing_trackers

KEY = "0123456789abcdef"
RECORD: dict[str, Any] = {
    "key": KEY,
    "status": "finished",
    "cell": {
        "base_model": "models/Llama 3",
        "method": {"name": "lora", "lora_alpha": 32.0, "lora_dropout": 0.0, "target_modules": "all-linear"},
        "rank": 8,
        "n_train_examples": 60,
        "seed": 1,
        "training": {"steps": 20, "epochs": None, "learning_rate": 2e-3, "schedule": "linear"},
    },
    "counts": {"n_steps": 20, "n_params_trainable": 1000},
    "metrics": {"cross_entropy": 2.5, "accuracy": 0.5},
    "cost": {"train_seconds": 1.5, "evaluate_seconds": None, "path": "packed"},
}
EVENTS = [{"step": 10, "train_loss": 3.0}, {"step": 20, "train_loss": 2.0, "row_scale_rms_change": 0.1, "note": "x"}]
NAME = f"Llama_3-lora-r8-n60-s1-{KEY}"


class FakeProject(ModuleType):
    """The calls of Trackio 0.43 and wandb 0.31 that are the same in both, and what each takes besides."""

    def __init__(self, name: str, fail_at: str = "") -> None:
        super().__init__(name)
        self.calls: list[Any] = []
        self._fail_at, self._running = fail_at, False

    def init(
        self, project: str | None = None, name: str | None = None, config: dict[str, Any] | None = None, **other: Any
    ) -> None:
        known = {"trackio": {"auto_log_cpu", "auto_log_gpu", "embed"}, "wandb": {"dir", "mode", "settings"}}
        assert set(other) <= known[self.__name__]
        print("a greeting")
        self._note("init", project, name, config, other)
        self._running = True

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        assert self._running
        self._note("log", metrics, step)

    def finish(self) -> None:
        self._running = False
        self._note("finish")

    def _note(self, *call: Any) -> None:
        if call[0] == self._fail_at:
            raise ConnectionError("no host\nand a long story")
        self.calls.append(call)


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeProject:
    fake = FakeProject(*request.param.split(":"))
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return fake


def began(folder: Path, *names: str) -> tuple[Trackers, list[str]]:
    warnings: list[str] = []
    trackers = Trackers(names)
    trackers.begin("study", folder, warnings.append)
    return trackers, warnings


def test_tensorboard_has_curve_results_and_settings(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers, warnings = began(tmp_path, "tensorboard")
    trackers.cell_ended(RECORD, [{"step": 10, "train_loss": 9.0}])
    trackers.cell_ended(RECORD, EVENTS)  # trained again: only the last attempt is shown
    trackers.close()
    assert warnings == []
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == NAME
    read = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("train_loss")] == [(10, 3.0), (20, 2.0)]
    assert [(e.step, e.value) for e in read.Scalars("final/cross_entropy")] == [(20, 2.5)]
    assert set(read.Tags()["scalars"]) == {
        "train_loss", "row_scale_rms_change", "final/cross_entropy", "final/accuracy", "final/train_seconds",
    }  # fmt: skip
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["rank"].number_value == 8
    assert told["method"].string_value == "lora(lora_alpha=32)"
    assert told["learning_rate"].number_value == 2e-3
    assert told["key"].string_value == KEY
    assert "epochs" not in told


@pytest.mark.parametrize("module", ["trackio", "wandb"], indirect=True)
def test_projects_get_a_run_a_cell(
    module: FakeProject, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trackers, warnings = began(tmp_path, module.__name__)
    trackers.cell_ended(RECORD, EVENTS)
    (_, project, name, config, other), *logs, last = module.calls
    assert (project, name, config["rank"], config["status"]) == ("study", NAME, 8, "finished")
    assert logs == [
        ("log", {"train_loss": 3.0}, 10),
        ("log", {"train_loss": 2.0, "row_scale_rms_change": 0.1}, 20),
        ("log", {"final/cross_entropy": 2.5, "final/accuracy": 0.5, "final/train_seconds": 1.5}, 21),
    ]
    assert last == ("finish",)
    json.dumps(module.calls)
    assert warnings == []
    assert capsys.readouterr().out == ""
    if module.__name__ == "wandb":
        assert other["mode"] == "offline"
        monkeypatch.setenv("WANDB_MODE", "online")
        began(tmp_path, "wandb")[0].cell_ended(RECORD, [])
        assert "mode" not in next(call for call in reversed(module.calls) if call[0] == "init")[4]


@pytest.mark.parametrize("module", ["trackio:init", "wandb:log", "wandb:finish"], indirect=True)
def test_a_tracker_that_fails_is_switched_off_alone(module: FakeProject, tmp_path: Path) -> None:
    trackers, warnings = began(tmp_path, module.__name__, "tensorboard")
    trackers.cell_ended(RECORD, EVENTS)
    n_calls = len(module.calls)
    trackers.cell_ended({**RECORD, "key": "f" * 16}, EVENTS)
    trackers.close()
    assert warnings == [f"{module.__name__} failed and is switched off for this run (ConnectionError: no host)"]
    assert len(module.calls) == n_calls
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_tracker_that_cannot_even_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it raises
    trackers, warnings = began(tmp_path, "wandb")
    trackers.cell_ended(RECORD, EVENTS)
    assert len(warnings) == 1
    assert warnings[0].startswith("wandb failed")


def test_a_cell_without_rank_or_metrics(tmp_path: Path) -> None:
    trackers, warnings = began(tmp_path, "tensorboard")
    cell = {**RECORD["cell"], "method": {"name": "full"}, "rank": None}
    trackers.cell_ended({**RECORD, "status": "error", "cell": cell, "counts": {}, "metrics": {}, "cost": {}}, [])
    assert warnings == []
    assert [folder.name for folder in (tmp_path / "tensorboard").iterdir()] == [f"Llama_3-full-n60-s1-{KEY}"]


def study(model: Path, text_file: Path, **changes: Any) -> Any:
    settings = {
        "base_models": [str(model)],
        "task": str(text_file),
        "ranks": [1],
        "sizes": [8],
        "training": {"steps": 20, "max_length": 16},
    }
    return parse_study({**settings, **changes}, "s")


def test_mistakes_are_told_before_training(tiny_model: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as wrong:
        study(tiny_model, text_file, trackers=["tensorbord"])
    assert 'Did you mean "tensorboard"' in str(wrong.value)
    assert "trackers[0]" in str(wrong.value)
    with pytest.raises(SpecError, match="stands twice"):
        study(tiny_model, text_file, trackers=["wandb", "wandb"])
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # as if not installed
    with pytest.raises(SpecError) as missing:
        check(study(tiny_model, text_file, trackers=["trackio", "wandb"], ranks=[99]))
    problems = {problem.where: problem.message for problem in missing.value.problems}
    assert set(problems) == {"trackers[0]", "trackers[1]", "ranks[0]"}
    assert "loralaw[trackers]" in problems["trackers[0]"]
    assert "pip install wandb" in problems["trackers[1]"]


def test_trackers_are_no_part_of_a_cell(tiny_model: Path, text_file: Path) -> None:
    keys = [
        [cell.key for cell in plan_cells(check(study(tiny_model, text_file, trackers=names)))]
        for names in ([], ["tensorboard"])
    ]
    assert keys[0] == keys[1]
    assert missing_trackers(["tensorboard"]) == []
