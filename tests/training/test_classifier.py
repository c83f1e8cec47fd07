"""Cells with a classification head: trained, measured, saved and loaded again, and the base model is left alone."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import save, small
from peft import PeftModel
from safetensors.torch import load_file
from solo_cells import SILENT, Heard, assert_untouched, cell, results, state
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from loralaw.models import BaseModel, find_model, load_base_model
from loralaw.models.weights import no_warnings
from loralaw.spec import Cell
from loralaw.store import table_of
from loralaw.tasks import Labelled, LabelledRows, Target, TaskData
from loralaw.training.classifier import Classifier
from loralaw.training.encoded_labels import EncodedLabels
from loralaw.training.label_metrics import label_metrics
from loralaw.training.targets import n_params_trainable
from loralaw.training.train_solo import train_solo

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MODELS = ("bert", "roberta", "llama as classifier")
METHODS = ("lora", "dora", "alpha-lora", "full")
SOME = pytest.mark.parametrize(  # every method, and every model with an adapter and with all weights or a row scale
    ("name", "method"),
    [*(("bert", method) for method in METHODS), ("roberta", "lora"), ("roberta", "full"),
     ("llama as classifier", "lora"), ("llama as classifier", "alpha-lora")],
)  # fmt: skip
TARGETS = {
    3: Target(("a", "b", "c"), ("accuracy",)),
    2: Target(("no", "yes"), ("matthews_correlation", "f1", "accuracy")),
    1: Target((), ("pearson", "spearman")),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("classifiers")
    return {name: save(small(name), home / name) for name in MODELS}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def base_of(folder: Path, n_labels: int = 3) -> BaseModel:
    return load_base_model(find_model(str(folder)), n_labels=n_labels)


def labelled_cell(method: str, n_labels: int = 3, **changes: Any) -> Cell:
    one = cell(method, **changes)
    return Cell(**{**one.settings(), "n_labels": n_labels})


def encoded(base: BaseModel, one: Cell, n_labels: int = 3) -> EncodedLabels:
    """Pairs of ragged length, whose label can be read off their first word."""

    def rows(split: str, n: int) -> list[Labelled]:
        label = (lambda i: i % n_labels) if n_labels > 1 else (lambda i: i % 7 / 2)
        return [
            Labelled(f"{i % 7} " * (1 + i % 4), "more " * (i % 3), float(label(i)), f"{split} {i}") for i in range(n)
        ]

    data = TaskData("t", rows("train", 24), rows("validation", 6), rows("test", 9), target=TARGETS[n_labels])
    return EncodedLabels(data, base, one, 24)


def loaded(folder: Path, base: BaseModel, n_labels: int = 3) -> Any:
    """What anyone loads with transformers and PEFT from what a cell left; the base has no head for the task yet."""
    if (folder / "model").exists():
        return AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    with no_warnings():
        model = AutoModelForSequenceClassification.from_pretrained(
            base.source.location, num_labels=n_labels, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    model.config.pad_token_id = base.tokenizer.pad_token_id
    return PeftModel.from_pretrained(model, folder / "adapter").eval()


@torch.no_grad()
def logits_row_by_row(model: Any, rows: LabelledRows) -> Tensor:
    """Without any padding."""
    return torch.cat([model(**rows.trimmed([i])).logits for i in range(len(rows))])


@SOME
def test_a_cell_trains_and_what_it_leaves_is_what_was_measured(
    name: str, method: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    base, one, heard = base_of(folders[name]), labelled_cell(method), Heard()
    task, before = encoded(base, one), state(base.model)
    random_state = torch.get_rng_state()
    record = train_solo(base, task, one, tmp_path, heard.events)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (record["status"], heard.n_steps) == ("finished", 12)
    assert_untouched(base.model, before)
    assert [path.name for path in tmp_path.iterdir()] == ["model" if method == "full" else "adapter"]
    if method == "full":
        inside = {"miub_nats", "jsd_nats", "norm_ratio", "cosine", "effective_rank"}
        assert record["layers"] == []
        assert not inside & record["metrics"].keys()
        assert inside == record["absent_metrics"].keys()
    else:
        assert all(math.isfinite(record["metrics"][m]) for m in ("miub_nats", "jsd_nats", "effective_rank"))
        assert not any(head in layer["layer"] for layer in record["layers"] for head in ("classifier", "score"))
        assert all(layer["miub_nats"] >= 0 for layer in record["layers"])
    assert not {"perplexity", "choice_accuracy"} & record["metrics"].keys()  # the task has no such things

    outputs = logits_row_by_row(loaded(tmp_path, base), task.test).double().numpy()
    expected = label_metrics(outputs, task.test.labels.numpy(), TARGETS[3], np.arange(9))
    assert {m: record["metrics"][m] for m in expected} == pytest.approx(expected, abs=1e-5)
    assert table_of([record])["accuracy"].to_list() == [record["metrics"]["accuracy"]]
    if method == "lora":
        saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        assert record["counts"]["n_params_trainable"] == sum(tensor.numel() for tensor in saved.values())
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_learn_are_those_that_are_counted(name: str, method: str, folders: dict[str, Path]) -> None:
    """As the trained model itself has them, its head among them."""
    base, one = base_of(folders[name]), labelled_cell(method)
    trained = Classifier(base, one).trained
    learning = [n for n, p in trained.named_parameters() if p.requires_grad]
    n_learning = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert n_learning == n_params_trainable(base.model, one.method, one.rank)
    assert any("classifier" in n or "score" in n for n in learning)
    if method == "full":
        assert n_learning == base.n_params_total
    else:
        assert trained.get_nb_trainable_parameters()[0] == n_learning
        assert not any("pooler" in n for n in learning)


def test_a_seed_draws_the_head(name: str, folders: dict[str, Path]) -> None:
    base = base_of(folders[name], 5)  # the folders have heads of fewer labels
    assert base.has_new_head

    def heads(seed: int, method: str) -> dict[str, Tensor]:
        state = Classifier(base, labelled_cell(method, 5, seed=seed)).trained.state_dict()
        pick = {n: t for n, t in state.items() if ("classifier" in n or "score" in n) and "original" not in n}
        return {n.removeprefix("base_model.model.").replace("modules_to_save.default.", ""): t for n, t in pick.items()}

    first = heads(1, "lora")
    weights = [n for n in first if n.endswith("weight")]
    assert weights
    for method in ("lora", "dora", "full"):  # the same beginning for every method
        again = heads(1, method)
        assert again.keys() == first.keys()
        assert all(torch.equal(again[n], first[n]) for n in first)
    other, of_base = heads(2, "lora"), base.model.state_dict()
    assert not any(torch.equal(other[n], first[n]) or torch.equal(of_base[n], first[n]) for n in weights)
    assert all(not first[n].any() for n in first if n.endswith("bias"))
    spread = torch.cat([first[n].flatten() for n in weights])
    assert float(spread.std()) == pytest.approx(0.02, rel=0.25)


def test_a_head_that_came_trained_begins_as_it_came(folders: dict[str, Path]) -> None:
    base = base_of(folders["bert"])
    assert not base.has_new_head
    came = base.model.classifier.weight
    for seed in (1, 2):
        trained = Classifier(base, labelled_cell("lora", seed=seed)).trained
        assert torch.equal(trained.base_model.model.classifier.modules_to_save["default"].weight, came)


@pytest.mark.parametrize("method", METHODS)
def test_two_trainings_are_equal_to_the_last_bit(method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    base, one = base_of(folders["roberta"]), labelled_cell(method, steps=6)
    task = encoded(base, one)
    first, second = (train_solo(base, task, one, tmp_path / at, SILENT) for at in ("a", "b"))
    assert results(first) == results(second)
    [a], [b] = ([*(tmp_path / at).rglob("*.safetensors")] for at in ("a", "b"))
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize(("method", "n_labels"), [("lora", 1), ("alpha-lora", 3)])
def test_parts_of_a_batch_add_up(method: str, n_labels: int, folders: dict[str, Path], tmp_path: Path) -> None:
    """Also where their rows are of other lengths, so that each part is padded otherwise."""
    base, one = base_of(folders["bert"], n_labels), labelled_cell(method, n_labels, batch_size=4, steps=6)
    task = encoded(base, one, n_labels)
    whole, parts = (train_solo(base, task, one, tmp_path / str(n), SILENT, n) for n in (1, 2))
    assert parts["provenance"]["n_micro_batches"] == 2
    assert parts["metrics"] == pytest.approx(whole["metrics"], rel=1e-3, abs=1e-5)
    assert parts["metrics"]["train_loss"] == pytest.approx(whole["metrics"]["train_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "method"), [("bert", "lora"), ("roberta", "full"), ("llama as classifier", "alpha-lora")]
)
def test_regression(name: str, method: str, folders: dict[str, Path], tmp_path: Path) -> None:
    base = base_of(folders[name], 1)
    one = labelled_cell(method, 1, steps=25, learning_rate=2e-2, n=20)
    task = encoded(base, one, 1)
    record = train_solo(base, task, one, tmp_path, SILENT)
    metrics = record["metrics"]
    assert record["status"] == "finished"
    assert "accuracy" not in metrics
    assert "cross_entropy" not in metrics
    # Better than the value 0 for all, which the new head begins near.
    assert metrics["mean_squared_error"] < float(task.test.labels.square().mean())
    assert all(-1 <= metrics[m] <= 1 and metrics[f"{m}_stderr"] >= 0 for m in ("pearson", "spearman"))
    outputs = logits_row_by_row(loaded(tmp_path, base, 1), task.test)
    expected = (outputs[:, 0] - task.test.labels).square().mean()
    assert metrics["mean_squared_error"] == pytest.approx(float(expected), rel=1e-4)


def test_it_learns_what_can_be_learned(folders: dict[str, Path], tmp_path: Path) -> None:
    """The label is the first word's number modulo 7: three classes of rows that were read are told apart."""
    base = base_of(folders["bert"], 2)
    one = labelled_cell("full", 2, steps=80, n=14, learning_rate=1e-2)
    task = encoded(base, one, 2)
    train_solo(base, task, one, tmp_path, SILENT)
    train, model = task.train(one.seed), loaded(tmp_path, base, 2)
    found = logits_row_by_row(model, train)[:14].argmax(1)
    assert float((found == train.labels[:14]).float().mean()) > 0.85


def test_padding_is_not_seen(name: str, folders: dict[str, Path]) -> None:
    """One call for all rows, to the right of which most are padding, or one call a row without any."""
    base = base_of(folders[name])
    one = labelled_cell("lora")
    task, solo = encoded(base, one), Classifier(base, one)
    for rows in (task.test, task.train(1)):
        assert len(set(rows.n_tokens.tolist())) > 3
        assert torch.allclose(solo.outputs(rows), logits_row_by_row(solo.trained, rows), atol=1e-6)
        wide = {n: torch.nn.functional.pad(t, (0, 9), value=base.tokenizer.pad_token_id if n == "input_ids" else 0)
                for n, t in rows.inputs.items()}  # fmt: skip
        with torch.no_grad():
            assert torch.allclose(solo.trained(**wide).logits, solo.outputs(rows), atol=1e-6)


def test_the_end_token_as_padding_hides_no_row_that_ends_with_it(folders: dict[str, Path]) -> None:
    """A causal classifier reads its answer at the last token that is no padding."""
    base = base_of(folders["llama as classifier"])
    base.tokenizer.pad_token = base.tokenizer.eos_token
    base.model.config.pad_token_id = base.tokenizer.eos_token_id
    one = labelled_cell("lora")
    task, solo = encoded(base, one), Classifier(base, one)
    assert torch.allclose(solo.outputs(task.test), logits_row_by_row(solo.trained, task.test), atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_layers_are_probed_at_real_tokens_only(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """What stands in the padding of the validation rows changes no measure inside the adapter."""
    base, one = base_of(folders[name]), labelled_cell("lora")
    task = encoded(base, one)
    plain = train_solo(base, task, one, tmp_path / "a", SILENT)
    padding = task.probe.inputs["attention_mask"] == 0
    assert padding.any()
    task.probe.inputs["input_ids"][padding] = 77
    again = train_solo(base, task, one, tmp_path / "b", SILENT)
    for layer, expected in zip(again["layers"], plain["layers"], strict=True):
        assert layer.pop("layer") == expected.pop("layer")
        assert layer == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_bfloat16_measures_in_what_it_trains(folders: dict[str, Path], tmp_path: Path) -> None:
    base, one = base_of(folders["bert"]), labelled_cell("lora", dtype="bfloat16")
    task, exact = encoded(base, one), labelled_cell("lora")
    rounded = train_solo(base, task, one, tmp_path / "a", SILENT)["metrics"]
    precise = train_solo(base, task, exact, tmp_path / "b", SILENT)["metrics"]
    assert 0 < abs(rounded["cross_entropy"] - precise["cross_entropy"]) < 0.03


@pytest.mark.parametrize("n_labels", [1, 3])
@pytest.mark.parametrize(("method", "steps"), [("lora", 12), ("lora", 1), ("full", 1)])
def test_divergence_ends_a_cell(
    method: str, steps: int, n_labels: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Also by its last step, whose loss was still a number."""
    base = base_of(folders["roberta"], n_labels)
    one = labelled_cell(method, n_labels, learning_rate=1e38, steps=steps, warmup_steps=0)
    record = train_solo(base, encoded(base, one, n_labels), one, tmp_path, SILENT)
    assert record["status"] == "diverged"
    assert "lower learning_rate" in record["reason"]
    assert not list(tmp_path.iterdir())
    json.dumps(record, allow_nan=False)


def test_rows_beyond_the_cell_do_not_matter(folders: dict[str, Path], tmp_path: Path) -> None:
    base, one = base_of(folders["bert"]), labelled_cell("alpha-lora", steps=5)
    task = encoded(base, one)
    whole = train_solo(base, task, one, tmp_path / "a", SILENT)
    task.train(one.seed).labels[16:] = 0
    task.train(one.seed).inputs["input_ids"][16:] = 7
    assert results(train_solo(base, task, one, tmp_path / "b", SILENT)) == results(whole)
