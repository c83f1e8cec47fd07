"""What a study will take, against what it then took, and what the settings say."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from architectures import save, small
from benchmark_files import pairs, write_local

import loralaw
from loralaw.errors import InputError, SpecError
from loralaw.laws import CostModel
from loralaw.spec import StudySpec, parse_study
from loralaw.store import Study, write_json
from loralaw.study import Forecast, cell_needs, forecast, plan_cells, plan_packs
from loralaw.study.cell_times import CellTimes
from loralaw.study.check import check
from loralaw.study.forecast import groups_of
from loralaw.study.time_left import TimeLeft
from loralaw.training import machine

TRAINING = {"steps": 20, "batch_size": 2, "max_length": 16, "dtype": "float32"}


def spec(model: Path, text_file: Path, **changes: Any) -> StudySpec:
    settings = {
        "name": "s",
        "base_models": [str(model)],
        "task": str(text_file),
        "methods": ["lora", "full"],
        "ranks": [1, 4],
        "sizes": [16],
        "seeds": [0, 1],
        "training": TRAINING,
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study({**settings, **changes}, "s")


def groups(told: Forecast) -> dict[str, Any]:
    return {group.path: group for group in told.groups}


def bytes_of(study: Study) -> int:
    return sum(file.stat().st_size for file in study.path.rglob("cells/*/**/*") if file.is_file())


def test_it_says_what_then_comes(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    study, out = spec(tiny_model, text_file), tmp_path / "out"
    told = forecast(study, out, jobs=1)
    assert not out.exists()
    assert (told.n_cells, told.n_ended, told.dtype) == (6, 0, "float32")
    packed, alone = groups(told)["packed"], groups(told)["trainer"]
    assert (packed.n_cells, packed.n_packs, packed.n_cells_largest) == (4, 1, 4)
    assert (alone.n_cells, alone.n_packs, alone.n_cells_largest) == (2, 2, 1)
    assert packed.n_tokens == 4 * 20 * 2 * 16
    for group in told.groups:
        assert group.seconds > 0
        assert group.relative_error is None
        assert "rough" in group.basis
        assert "GFLOP/s" in group.basis

    done = loralaw.run(study, out, executor="inline")
    table = done.table()
    assert sum(group.n_tokens for group in told.groups) == table["n_tokens_processed"].sum()
    assert sum(g.flops for g in told.groups) == table["train_flops"].sum() + table["evaluate_flops"].sum()
    assert told.disk_bytes == pytest.approx(bytes_of(done), rel=0.2)
    again = forecast(study, out, jobs=1)
    assert (again.n_ended, again.groups, again.seconds, again.memory_bytes, again.disk_bytes) == (6, [], 0, 0, 0)


def test_what_has_ended_tells_how_long_the_rest_takes(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    """Three times the seeds: three times the time of the same cells, whatever this machine's products do."""
    one, out = spec(tiny_model, text_file), tmp_path / "out"
    took = loralaw.run(one, out, executor="inline").table()
    more = spec(tiny_model, text_file, seeds=[0, 1, 2, 3, 4, 5, 6, 7])
    told = forecast(more, out, jobs=1)
    assert (told.n_cells, told.n_ended) == (24, 6)
    for path, group in groups(told).items():
        mine = took.filter(took["path"] == path)
        assert group.n_cells == 3 * mine.height
        assert group.basis.startswith(f"from {mine.height} cells")
        measured = 3 * (mine["train_seconds"].sum() + mine["evaluate_seconds"].sum())
        assert group.seconds == pytest.approx(measured, rel=0.05)


def test_records_of_another_machine_tell_no_time(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    done = loralaw.run(spec(tiny_model, text_file, methods=["lora"]), tmp_path, executor="inline")
    for record in done.records():
        record["provenance"]["device"] = "another"
        write_json(done.cell_folder(record["key"]) / "record.json", record)
    told = forecast(spec(tiny_model, text_file, methods=["lora"], seeds=[0, 1, 2]), tmp_path, jobs=1)
    assert told.n_ended == 4
    assert "rough" in told.groups[0].basis


def test_failed_cells_are_counted_again(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    study = spec(tiny_model, text_file, methods=["lora"])
    done = loralaw.run(study, tmp_path, executor="inline")
    failed, diverged = done.records()[:2]
    write_json(done.cell_folder(failed["key"]) / "record.json", {**failed, "status": "out-of-memory"})
    write_json(done.cell_folder(diverged["key"]) / "record.json", {**diverged, "status": "diverged"})
    told = forecast(study, tmp_path, jobs=1)
    assert (told.n_cells, told.n_ended, told.groups[0].n_cells) == (4, 3, 1)
    assert told.groups[0].basis.startswith("from 2 cells")


def test_memory_of_a_pack_grows_with_its_cells(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def largest(**changes: Any) -> Any:
        (group,) = forecast(spec(tiny_model, text_file, methods=["lora"], **changes), tmp_path / "none", jobs=1).groups
        return group

    together, alone = largest(), largest(packing=False)
    assert (alone.n_packs, alone.n_cells_largest) == (4, 1)
    base = machine.PROCESS_BYTES + 4 * check(spec(tiny_model, text_file)).models[str(tiny_model)].n_params
    assert together.memory_bytes - base > 3.5 * (alone.memory_bytes - base) > 0
    monkeypatch.setattr(machine, "available_bytes", lambda: 10**6)
    assert largest().n_cells_largest < 4


def test_all_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("base_models: [micro-9m]\ntask: stdlib-code\nranks: [0]\nsizes: [8]\n")
    with pytest.raises(SpecError, match="2 problems"):
        forecast(tmp_path / "s.yaml")


def test_the_work_is_for_kinds_of_cells(tiny_model: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked up in the model's shapes is looked up once a kind, and the rest is far below 1 ms a cell."""
    checked = check(spec(tiny_model, text_file, ranks=[1, 2, 4], sizes=[8, 16], seeds=[0]))
    asked, real = [], cell_needs.n_params_trainable
    monkeypatch.setattr(cell_needs, "n_params_trainable", lambda *of: asked.append(of) or real(*of))
    cells = plan_cells(checked)
    many = [replace(cell, seed=seed) for seed in range(250) for cell in cells]
    needs = cell_needs.Needs(checked)
    packs = plan_packs(many, checked, needs)
    started = time.process_time()
    told = groups_of(packs, needs, CellTimes(checked, CostModel({}), 1))
    assert sum(group.n_cells for group in told) == len(many) == 2000
    assert len(asked) == len(cells) == 8
    assert time.process_time() - started < 1.0


def test_a_last_pack_has_one_worker_whatever_their_number(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    """Half of its steps are done: half of its time is left, not half of that."""
    checked = check(spec(tiny_model, text_file, methods=["lora"]))
    cells = tuple(plan_cells(checked))
    done = loralaw.run(checked.spec, tmp_path, executor="inline").table()
    seconds = {}
    for n_workers in (1, 2):
        left = TimeLeft(checked, cell_needs.Needs(checked), [cells], n_workers, 1)
        left.learn(done)
        seconds[n_workers] = [left.seconds([]), left.seconds([(cells, 0.5)])]
    whole, half = seconds[1]
    assert whole is not None
    assert half is not None
    assert 0 < half < whole
    assert seconds[2] == pytest.approx([whole / 2, half], rel=1e-12)  # added up in another order


def test_a_study_is_not_kept_in_a_file(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for work in (forecast, loralaw.run):
        with pytest.raises(InputError, match="file is a file: give the folder"):
            work(spec(tiny_model, text_file), tmp_path / "file")  # type: ignore[operator]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("long_rows", [0, 9])
def test_texts_that_will_be_cut_are_told_and_then_counted(long_rows: int, tiny_model: Path, tmp_path: Path) -> None:
    """The sentence is of all training rows; a cell's own are a part of them."""
    words = [f"{i} " + "the cat sat on the mat " * (9 if i < long_rows else 0) for i in range(40)]
    for name, rows in (("train", words), ("test", words[:12][::-1]), ("validation", words[20:])):
        lines = (f'{{"text": "{name} {row}"}}\n' for row in rows)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    files = {"file": "train", "test_file": "test", "validation_file": "validation"}
    task = {name: str(tmp_path / f"{of}.jsonl") for name, of in files.items()}
    settings = {
        "task": task,
        "methods": ["lora"],
        "ranks": [1],
        "sizes": ["all"],
        "training": {**TRAINING, "steps": 20},
    }
    study = spec(tiny_model, tmp_path, **settings, evaluation={"test_examples": 12, "probe_examples": 4})
    told = forecast(study, tmp_path / "out", jobs=1)
    done = loralaw.run(study, tmp_path / "out", executor="inline")
    table, records = done.table(), done.records()
    assert table["n_train_examples_cut"].to_list() == [long_rows] * 2
    assert table["n_test_rows_cut"].to_list() == [long_rows] * 2
    assert {record["counts"]["n_questions_cut"] for record in records} == {0}
    if not long_rows:
        assert told.too_long == []
        return
    (sentence,) = told.too_long
    assert sentence.startswith(f"{tiny_model}, train.jsonl: ")
    assert "9 of 40 training examples, 9 of 12 test rows are longer than 16 tokens" in sentence


def test_a_study_that_is_only_planned_counts_the_texts_of_models_that_are_here(text_file: Path, tmp_path: Path) -> None:
    """A published model's shapes are known; its tokenizer is not here."""
    study = parse_study(
        {"base_models": ["openai-community/gpt2"], "task": str(text_file), "ranks": [1], "sizes": [4],
         "training": {"max_length": 8}}, "s",
    )  # fmt: skip
    assert forecast(study, tmp_path / "out", jobs=1).too_long == []


def test_a_tokenizer_without_padding_can_be_planned_with(tmp_path: Path) -> None:
    """Of a causal model with labels: its end token will pad, as when it is loaded."""
    folder = save(small("llama as classifier"), tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    rows = pairs(30, ("sentence1", "sentence2"))
    place = {"train": rows, "validation": rows[:9], "test": pairs(9, ("sentence1", "sentence2"), start=50)}
    write_local(tmp_path / "glue" / "mrpc", **place)
    task = {"name": "mrpc", "data_dir": str(tmp_path)}
    study = spec(folder, tmp_path, task=task, methods=["lora"], ranks=[1], seeds=[0], sizes=[4])
    told = forecast(study, tmp_path / "out", jobs=1)
    done = loralaw.run(study, tmp_path / "out", executor="inline")
    assert done.table()["status"].to_list() == ["finished"]
    assert bool(told.too_long) == bool(done.table()["n_test_rows_cut"].sum())
