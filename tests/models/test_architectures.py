"""Every architecture that the documentation names is trained, measured, reported and loaded again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import CAUSAL, CLASSIFIERS, DECODERS_AS_CLASSIFIERS, save, small, soft_capped
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import loralaw
from loralaw.errors import SpecError
from loralaw.models import BaseModel, find_model, load_base_model, skeleton
from loralaw.report import write_report
from loralaw.spec import Cell, StudySpec, TaskSpec, parse_study
from loralaw.store import Study
from loralaw.tasks import NOT_SCORED, load_task
from loralaw.training import EncodedTask

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
]


def study(model: Path, text_file: Path) -> StudySpec:
    settings = {
        "base_models": [str(model)],
        "task": str(text_file),
        "methods": ["lora", {"name": "dora", "target_modules": "attention"}],
        "ranks": [1, 2],
        "sizes": [8],
        "seeds": [0],
        "training": {"steps": 4, "batch_size": 2, "max_length": 16, "dtype": "float32"},
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study(settings, "s")


def loss_of_loaded(done: Study, key: str, base: BaseModel) -> float:
    """Cross-entropy of the test rows, in nats a token, of the adapter as PEFT loads it."""
    cell = Cell(**records(done)[key]["cell"])
    task = EncodedTask(load_task(TaskSpec.model_validate(cell.task)), base, cell, 8)
    model = AutoModelForCausalLM.from_pretrained(base.source.location, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, done.cell_folder(key) / "adapter").eval()
    with torch.no_grad():
        logits = adapted(input_ids=task.test.ids).logits[:, :-1]
    labels = task.test.labels[:, 1:]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_SCORED))


def records(done: Study) -> dict[str, dict[str, Any]]:
    return {record["key"]: record for record in done.records()}


@pytest.mark.parametrize("name", CAUSAL)
def test_an_architecture_from_weights_to_report(name: str, text_file: Path, tmp_path: Path) -> None:
    folder = save(small(name), tmp_path / name)
    done = loralaw.run(study(folder, text_file), tmp_path / "out", executor="inline")
    table = done.table()
    assert table["status"].to_list() == ["finished"] * 4
    for column in ("cross_entropy", "accuracy", "miub_nats", "train_loss"):
        assert table[column].is_finite().all(), column
    assert (table["miub_nats"] >= 0).all()
    assert write_report(done).read_text().count("cross_entropy")
    base = load_base_model(find_model(str(folder)))
    for row in table.filter(rank=2).iter_rows(named=True):
        assert loss_of_loaded(done, row["key"], base) == pytest.approx(row["cross_entropy"], abs=1e-5)


def test_a_soft_cap_is_refused_by_its_name(text_file: Path, tmp_path: Path) -> None:
    folder = save(soft_capped(), tmp_path / "gemma2")
    with pytest.raises(SpecError, match="caps its logits after the head, which training here cannot do"):
        loralaw.run(study(folder, text_file), tmp_path / "out", executor="inline")


@pytest.mark.parametrize("name", [*CLASSIFIERS, *DECODERS_AS_CLASSIFIERS])
@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_a_classifier_has_the_labels_that_are_asked_for(name: str, n_labels: int, tmp_path: Path) -> None:
    saved = small(name)
    source = find_model(str(save(saved, tmp_path / "model")))
    shapes, base = skeleton(source, n_labels=n_labels), load_base_model(source, n_labels=n_labels)
    again = load_base_model(source, n_labels=n_labels)
    assert {k: v.shape for k, v in shapes.state_dict().items()} == {
        k: v.shape for k, v in base.model.state_dict().items()
    }
    assert base.n_params_total == shapes.num_parameters()
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 1]])
    logits = base.model(input_ids=ids, attention_mask=(ids != 1).long()).logits
    assert logits.shape == (2, n_labels)
    assert torch.equal(logits, again.model(input_ids=ids, attention_mask=(ids != 1).long()).logits)
    assert base.model.config.problem_type == ("regression" if n_labels == 1 else "single_label_classification")
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id == 1


def test_a_saved_head_for_as_many_labels_is_kept(tmp_path: Path) -> None:
    saved = small("roberta")
    base = load_base_model(find_model(str(save(saved, tmp_path / "model"))), n_labels=3)
    assert torch.equal(base.model.classifier.out_proj.weight, saved.classifier.out_proj.weight)
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == base.model.state_dict().keys()


def test_layers_are_named_in_the_record(text_file: Path, tmp_path: Path) -> None:
    """Fused layers are measured as what they are: one layer."""
    done = loralaw.run(study(save(small("phi3"), tmp_path / "m"), text_file), tmp_path / "out", executor="inline")
    for record in records(done).values():
        layers = [one["layer"].partition("layers.")[2] for one in record["layers"]]
        ends = ["self_attn.o_proj", "self_attn.qkv_proj"]
        if record["cell"]["method"]["name"] == "lora":
            ends += ["mlp.down_proj", "mlp.gate_up_proj"]
        assert sorted(layers) == sorted(f"{block}.{end}" for block in (0, 1) for end in ends)
