"""A study that cannot run says why before anything is trained, everything at once."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from loralaw.errors import SpecError
from loralaw.spec import parse_study
from loralaw.study import check, plan_cells, plan_packs
from loralaw.study.cell_needs import Needs
from loralaw.study.check import check_file, check_settings
from loralaw.training import machine


def messages(**settings: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        check(parse_study({"ranks": [1], "sizes": [4], **settings}, "s"), "s")
    return {problem.where: problem.message for problem in caught.value.problems}


def test_models_data_ranks_and_sizes_in_one_list(tiny_model: Path, text_file: Path) -> None:
    found = messages(
        base_models=[str(tiny_model), "micro-7m"],
        task=str(text_file),
        ranks=[1, 17],
        sizes=[4, 10_000],
        methods=[{"name": "lora", "target_modules": ["q_prj"]}, "rslora"],
        training={"max_length": 128},
    )
    assert set(found) == {
        "base_models[1]", "ranks[1]", "sizes[1]", "methods[0].target_modules", "training.max_length",
    }  # fmt: skip
    assert "use at most 16" in found["ranks[1]"]
    assert "10,000 examples asked" in found["sizes[1]"]
    assert 'Did you mean "q_proj"' in found["methods[0].target_modules"]
    assert "at most 64" in found["training.max_length"]


def test_one_base_model_under_two_names(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    found = messages(base_models=[str(tiny_model), str(copy)], task=str(text_file), training={"max_length": 16})
    assert set(found) == {"base_models[1]"}
    assert f'"{copy}" has the same' in found["base_models[1]"]
    assert str(tiny_model) in found["base_models[1]"]


def test_a_task_that_is_not_there(tiny_model: Path, tmp_path: Path) -> None:
    found = messages(base_models=[str(tiny_model)], task=str(tmp_path / "none.csv"))
    assert "no such file" in found["task"]


def test_mistakes_in_the_file_and_in_what_it_names_come_together(tiny_model: Path, text_file: Path) -> None:
    path = text_file.with_name("mine.yaml")
    path.write_text(
        f"base_models: [{tiny_model}, micro-7m]\ntask: {text_file.name}\nranks: [0, 4, 99]\nsizes: [4, -1, 10000]\n"
        "layout: gird\ntraining: {max_length: 16}\n"
    )
    with pytest.raises(SpecError) as caught:
        check_file(path)
    places = [problem.where for problem in caught.value.problems]
    assert set(places) == {"ranks[0]", "sizes[1]", "layout", "base_models[1]", "ranks[2]", "sizes[2]"}
    assert str(caught.value).startswith(f"{path}: 6 problems")


def test_capped_logits_are_refused_before_training(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    capped = tmp_path / "capped"
    shutil.copytree(tiny_model, capped)
    config = {
        "model_type": "gemma2", "vocab_size": 4096, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "final_logit_softcapping": 30.0,
    }  # fmt: skip
    (capped / "config.json").write_text(json.dumps(config))
    found = messages(base_models=[str(capped)], task=str(text_file), training={"max_length": 16})
    assert "caps its logits" in found["base_models"]


def test_one_mistake_in_a_section_does_not_hide_or_invent_others(tiny_model: Path, text_file: Path) -> None:
    path = text_file.with_name("mine.yaml")
    path.write_text(
        f"base_models: [{tiny_model}]\ntask: {text_file.name}\nranks: [1]\nsizes: [4]\n"
        "training: {max_length: 16, learning_rate: .nan}\n"
    )
    with pytest.raises(SpecError) as caught:
        check_file(path)
    assert [problem.where for problem in caught.value.problems] == ["training.learning_rate"]


@pytest.mark.parametrize(
    ("training", "refused"), [({"steps": 3}, True), ({"steps": 4}, False), ({"epochs": 0.5}, False)]
)
def test_examples_that_no_step_would_read(
    training: dict[str, float], refused: bool, tiny_model: Path, text_file: Path
) -> None:
    settings = {"base_models": [str(tiny_model)], "task": str(text_file), "ranks": [1], "sizes": [2, 8]}
    spec = parse_study({**settings, "training": {**training, "batch_size": 2, "max_length": 16}}, "s")
    if not refused:
        check(spec)
        return
    with pytest.raises(
        SpecError, match=r"sizes\[1\]: 8 examples asked, but 3 steps of 2 read only 6.*at least 4 steps"
    ):
        check(spec)


@pytest.mark.parametrize(
    ("method", "steps", "refused"),
    [
        ("lora", 12, None),
        ("lora", 11, "11 steps of 2 read only 22 and"),
        ("alpha-lora", 11, None),  # it learns from 22 of the 24, the row scale from the other 2
        ("alpha-lora", 10, "10 steps of 2 read only 20 of 22 and the others could not matter: give at least 11 steps"),
        ({"name": "alpha-lora", "row_scale_protocol": "joint"}, 11, "11 steps of 2 read only 22 and"),
        ({"name": "alpha-lora", "row_scale_protocol": "authors"}, 11, "11 steps of 2 read only 22 and"),
        ("full", 11, "11 steps of 2 read only 22 and"),
    ],
)
def test_what_the_steps_read_is_counted_by_method(
    method: object, steps: int, refused: str | None, tiny_model: Path, text_file: Path
) -> None:
    settings = {"base_models": [str(tiny_model)], "task": str(text_file), "sizes": [24], "methods": [method]}
    ranks = {} if method == "full" else {"ranks": [1]}
    spec = parse_study({**settings, **ranks, "training": {"steps": steps, "batch_size": 2, "max_length": 16}}, "s")
    if refused is None:
        check(spec)
        return
    with pytest.raises(SpecError) as caught:
        check(spec)
    assert refused in str(caught.value)


@pytest.mark.parametrize(
    ("size", "changes", "refused"),
    [
        (14, {}, True),  # a tenth of it is one row
        (15, {}, False),  # and of this two
        (7, {"row_scale_share": 0.3}, False),
        (4, {"row_scale_share": 0.8}, True),
        (14, {"row_scale_protocol": "authors"}, True),
        (2, {"row_scale_protocol": "joint"}, False),
    ],
)
def test_examples_too_few_to_hold_any_out(
    size: int, changes: dict[str, object], refused: bool, tiny_model: Path, text_file: Path
) -> None:
    method = {"name": "alpha-lora", **changes}
    settings = {"base_models": [str(tiny_model)], "task": str(text_file), "ranks": [1], "sizes": [size]}
    spec = parse_study({**settings, "methods": [method], "training": {"max_length": 16}}, "s")
    if not refused:
        check(spec)
        return
    with pytest.raises(SpecError, match=rf"sizes\[0\]: {size} examples asked, of which alpha-lora .*at least 2"):
        check(spec)


def test_full_fine_tuning_asks_nothing_of_ranks_and_targets(tiny_model: Path, text_file: Path) -> None:
    settings = {"base_models": [str(tiny_model)], "task": str(text_file), "sizes": [4], "training": {"max_length": 16}}
    check(parse_study({**settings, "methods": ["full"]}, "s"))
    with pytest.raises(SpecError) as caught:
        check(parse_study({**settings, "methods": ["full", {"target_modules": ["q_prj"]}], "ranks": [1]}, "s"))
    assert [problem.where for problem in caught.value.problems] == ["methods[1].target_modules"]


def test_settings_that_are_in_no_file_are_checked_as_those_of_a_file(tiny_model: Path, text_file: Path) -> None:
    settings = {"base_models": [str(tiny_model)], "task": str(text_file), "ranks": [99], "sizes": [0]}
    with pytest.raises(SpecError) as caught:
        check_settings({**settings, "training": {"max_length": 16}}, "here")
    assert {problem.where for problem in caught.value.problems} == {"sizes[0]", "ranks[0]"}
    assert str(caught.value).startswith("here: 2 problems")


@pytest.mark.parametrize(("bits", "refused"), [(4, {"full"}), (8, {"dora", "full"})])
def test_a_quantised_model_trains_adapters_alone(
    bits: int, refused: set[str], tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    folder = tmp_path / "quantised"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    names = ["lora", "dora", "alpha-lora", "full"]
    settings = {"base_models": [str(folder)], "task": str(text_file), "methods": names, "ranks": [2], "sizes": [20]}
    settings["training"] = {"max_length": 16}
    with pytest.raises(SpecError) as caught:
        check(parse_study(settings, "s"))
    assert {problem.where for problem in caught.value.problems} == {f"methods[{names.index(name)}]" for name in refused}
    checked = check(parse_study(settings | {"methods": ["lora", "alpha-lora"]}, "s"))
    assert [len(pack) for pack in plan_packs(plan_cells(checked), checked, Needs(checked))] == [1] * 4
