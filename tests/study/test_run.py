"""Running a study: resume, growth, failures, and the same table whatever happens in between."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from safetensors.torch import load_file, save_file

import loralaw
from loralaw.errors import StorageError
from loralaw.report import PackState
from loralaw.spec import StudySpec, parse_study
from loralaw.store import COSTS_OF_A_RUN, CellFolder, Study, open_study
from loralaw.study import RunProgress, pack_job


def study(model: Path, text_file: Path, **changes: Any) -> StudySpec:
    settings = {
        "name": "s",
        "base_models": [str(model)],
        "task": str(text_file),
        "ranks": [1, 4],
        "sizes": [8, 16],
        "seeds": [0],
        "training": {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "float32"},
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study({**settings, **changes}, "s")


def run(spec: StudySpec, out: Path, progress: RunProgress | None = None) -> Study:
    """In this process, so that tests can reach into it; what executors have in common is in test_executors.py."""
    return loralaw.run(spec, out, progress, executor="inline")


def results(done: Study) -> pl.DataFrame:
    return done.table().drop(COSTS_OF_A_RUN).sort("key")


class Recorder(RunProgress):
    """Counts the cells that were trained; can interrupt after the first packs."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.n_trained, self._interrupt_at, self.n_packs = 0, interrupt_at, 0

    def pack_began(self, pack: PackState) -> None:
        if self.n_packs == self._interrupt_at:
            raise KeyboardInterrupt
        self.n_packs += 1

    def cell_ended(self, title: str, status: str, reason: str | None) -> None:
        self.n_trained += 1


def test_a_study_is_trained_once(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    done = run(study(tiny_model, text_file), tmp_path / "out", first)
    again = run(study(tiny_model, text_file), tmp_path / "out", second)
    table = done.table()
    assert (first.n_trained, second.n_trained) == (4, 0)
    assert table["status"].to_list() == ["finished"] * 4
    assert_frame_equal(table, again.table())
    for column in ("cross_entropy", "perplexity", "accuracy", "miub_nats", "jsd_nats", "norm_ratio", "train_seconds"):
        assert table[column].is_not_null().all(), column
    assert table["choice_accuracy"].is_null().all()
    record = done.records()[0]
    assert record["absent_metrics"]["choice_accuracy"]
    assert {layer["layer"].rpartition(".")[2] for layer in record["layers"]} >= {"q_proj", "down_proj"}
    assert (done.cell_folder(record["key"]) / "adapter" / "adapter_model.safetensors").exists()


def test_the_table_does_not_depend_on_packing_or_interruption(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    whole = run(study(tiny_model, text_file), tmp_path / "whole")
    solo_spec = study(tiny_model, text_file, packing=False)
    with pytest.raises(KeyboardInterrupt):
        run(solo_spec, tmp_path / "solo", Recorder(interrupt_at=2))
    assert len(open_study(tmp_path / "solo").records()) == 2
    counted = Recorder()
    solo = run(solo_spec, tmp_path / "solo", counted)
    assert counted.n_trained == 2
    assert_frame_equal(results(whole), results(solo), check_exact=True)


def test_methods_that_train_alone_go_on_where_they_stopped(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    alpha_lora = {"name": "alpha-lora", "row_scale_share": 0.25}  # of 8 rows
    spec = study(tiny_model, text_file, methods=["lora", "dora", alpha_lora, {"name": "full", "learning_rate": 1e-4}])
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "stopped", Recorder(interrupt_at=4))
    counted = Recorder()
    resumed = run(spec, tmp_path / "stopped", counted)
    assert counted.n_trained == 3 * 2 * 2 + 2 - (8 + 3)  # a pack of all of lora and alpha-lora, and three of dora's
    assert_frame_equal(results(whole), results(resumed), check_exact=True)
    table = whole.table()
    assert table["status"].to_list() == ["finished"] * (3 * 2 * 2 + 2)
    assert table.filter(pl.col("rank").is_null())["method"].to_list() == ["full(learning_rate=0.0001)"] * 2
    for record in whole.records():
        is_full = record["cell"]["method"]["name"] == "full"
        folder = whole.cell_folder(record["key"])
        assert ((folder / "model" / "model.safetensors").exists(), (folder / "adapter").exists()) == (
            is_full,
            not is_full,
        )


def test_a_grown_study_trains_only_its_new_cells(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    small = results(run(study(tiny_model, text_file), tmp_path))
    counted = Recorder()
    grown = run(study(tiny_model, text_file, ranks=[1, 2, 4]), tmp_path, counted)
    assert counted.n_trained == 2
    assert_frame_equal(results(grown).filter(pl.col("rank") != 2), small, check_exact=True)


def test_divergence_is_a_result_and_harms_nobody(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    wild = {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "float32", "learning_rate": 1e30}
    done = run(study(tiny_model, text_file, training=wild), tmp_path)
    table = done.table()
    assert set(table["status"]) == {"diverged"}
    assert table["cross_entropy"].is_null().all()
    assert "learning_rate" in done.records()[0]["reason"]
    assert done.pending_keys() == []


def test_a_failing_cell_costs_only_itself_and_is_tried_again(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pack_job.train_cells

    def broken(base: Any, task: Any, cells: Any, *rest: Any) -> Any:
        if any(cell.rank == 4 and cell.n_train_examples == 16 for cell in cells):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return real(base, task, cells, *rest)

    monkeypatch.setattr(pack_job, "train_cells", broken)
    done = run(study(tiny_model, text_file), tmp_path)
    assert sorted(done.table()["status"]) == ["finished"] * 3 + ["out-of-memory"]
    (key,) = done.pending_keys()
    assert "can't allocate memory" in (done.cell_folder(key) / "error.txt").read_text()
    monkeypatch.setattr(pack_job, "train_cells", real)
    counted = Recorder()
    mended = run(study(tiny_model, text_file), tmp_path, counted)
    assert counted.n_trained == 1
    assert set(mended.table()["status"]) == {"finished"}


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, n_records = CellFolder.finish, 0

    def full(self: CellFolder, record: dict[str, Any], traceback: str | None = None) -> None:
        nonlocal n_records
        n_records += 1
        if n_records == 3:
            raise StorageError("no space left")
        real(self, record, traceback)

    monkeypatch.setattr(CellFolder, "finish", full)
    with pytest.raises(StorageError, match="no space left"):
        run(study(tiny_model, text_file), tmp_path)
    monkeypatch.setattr(CellFolder, "finish", real)
    assert len(open_study(tmp_path).records()) == 2
    counted = Recorder()
    run(study(tiny_model, text_file), tmp_path, counted)
    assert counted.n_trained == 2


def test_auto_dtype_stays_what_the_folder_was_trained_in(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    run(study(tiny_model, text_file), tmp_path)
    auto = {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "auto"}
    counted = Recorder()
    run(study(tiny_model, text_file, training=auto), tmp_path, counted)
    assert counted.n_trained == 0


def test_a_base_that_cannot_be_trained_costs_its_own_cells_only(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    """Weights that are not all there show only when they are loaded."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "mlp" not in k}, broken / "model.safetensors", {"format": "pt"})
    spec = study(tiny_model, text_file, base_models=[str(broken), str(tiny_model)], ranks=[1])
    done = run(spec, tmp_path / "out")
    statuses = dict(done.table().group_by("base_model").agg("status").iter_rows())
    assert statuses == {str(broken): ["error"] * 2, str(tiny_model): ["finished"] * 2}
    assert "missing keys" in done.records()[0]["reason"]
    assert len(done.pending_keys()) == 2


def test_divergence_in_the_last_step_is_divergence(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    """One step at an absurd rate: its loss is finite, what it leaves is not."""
    wild = {
        "steps": 1,
        "batch_size": 16,
        "max_length": 16,
        "dtype": "float32",
        "learning_rate": 1e38,
        "warmup_steps": 0,
    }
    done = run(study(tiny_model, text_file, training=wild), tmp_path)
    assert set(done.table()["status"]) == {"diverged"}
    assert "test rows" in done.records()[0]["reason"]
