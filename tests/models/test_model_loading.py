"""How a model is loaded: quantised, from pickles, with code of its own; and as a classifier. All off by default."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from loralaw.errors import ModelError
from loralaw.models import (
    ENCODER,
    Loading,
    check_files,
    find_model,
    is_quantised,
    load_base_model,
    loading,
    skeleton,
)
from loralaw.training.quantised import quantised_bytes

torch.set_num_threads(1)
BITS = pytest.mark.parametrize("bits", ["4bit", "8bit"])
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def pickled(folder: Path) -> Path:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- quantisation ---


@BITS
def test_shapes_and_hash_say_so_before_it_is_loaded(bits: Any, tiny_model: Path) -> None:
    plain, source = find_model(str(tiny_model)), find_model(str(tiny_model), Loading(bits))
    assert source.hash == f"{plain.hash}-{bits}"
    shapes = skeleton(source)
    assert is_quantised(shapes.config)
    pytest.importorskip("bitsandbytes")
    base = load_base_model(source)
    of_weights = sum(p.numel() * p.element_size() for p in base.model.parameters())
    assert quantised_bytes(shapes) == pytest.approx(of_weights, rel=0.05)
    assert not base.model.model.layers[0].mlp.up_proj.weight.is_floating_point()
    assert base.model.lm_head.weight.is_floating_point()
    assert base.n_params_total == sum(p.numel() for p in shapes.parameters())


@BITS
def test_a_head_is_not_quantised(bits: Any) -> None:
    pytest.importorskip("bitsandbytes")
    base = load_base_model(find_model(ENCODER, Loading(bits)), n_labels=3)
    kinds = {name: type(module).__name__ for name, module in base.model.named_modules()}
    assert kinds["classifier"] == kinds["bert.pooler.dense"] == "Linear"
    assert kinds["bert.encoder.layer.0.output.dense"] in ("Linear4bit", "Linear8bitLt")
    assert not base.model.bert.encoder.layer[0].output.dense.weight.is_floating_point()
    assert torch.isfinite(base.model(input_ids=torch.tensor([[5, 6, 7]])).logits).all()


@BITS
def test_not_twice(bits: Any, folder: Path) -> None:
    change_config(folder, quantization_config={"load_in_8bit": True, "quant_method": "bitsandbytes"})
    with pytest.raises(ModelError, match=r"quantised when it was saved: leave loading\.quantisation out"):
        skeleton(find_model(str(folder), Loading(bits)))


@BITS
def test_what_quantises_may_not_be_installed(bits: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        find_model(str(tiny_model), Loading(bits))
    assert is_quantised(skeleton(find_model(str(tiny_model), Loading(bits), dry=True)).config)


def test_an_unknown_quantisation() -> None:
    with pytest.raises(ModelError, match="quantisation is '2bit': accepted are 4bit, 8bit"):
        Loading("2bit")  # type: ignore[arg-type]


# --- pickles and code ---


def test_pickled_weights_are_read_only_where_that_is_allowed(pickled: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights.*pytorch_model.bin is a pickle.*loading.pickled_weights"):
        find_model(str(pickled))
    source = find_model(str(pickled), Loading(pickled_weights=True))
    check_files(source, 4096)
    ids = torch.tensor([[5, 6, 7]])
    expected = load_base_model(find_model(str(tiny_model))).model(ids).logits
    assert torch.equal(load_base_model(source).model(ids).logits, expected)
    (pickled / "pytorch_model.bin").write_bytes(b"other")
    assert find_model(str(pickled), Loading(pickled_weights=True)).hash != source.hash


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({proof!r}).touch()
class C(LlamaConfig):
    model_type = "custom"
class M(LlamaForCausalLM):
    config_class = C
"""


def test_code_of_a_model_is_run_only_where_that_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    proof = tmp_path / "ran"
    change_config(folder, model_type="custom", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    (folder / "own.py").write_text(CODE.format(proof=str(proof)))
    source = find_model(str(folder))
    for use in (skeleton, load_base_model):
        with pytest.raises(ModelError, match=r"code of its own.*loading.trust_remote_code: true it runs here with you"):
            use(source)
    assert not proof.exists()
    trusted = find_model(str(folder), Loading(trust_remote_code=True))
    assert type(skeleton(trusted)).__name__ == "M"
    assert proof.exists()
    assert load_base_model(trusted).n_params_total == skeleton(trusted).num_parameters()
    (folder / "own.py").write_text(CODE.format(proof=str(proof)) + "\n# changed")
    assert find_model(str(folder), Loading(trust_remote_code=True)).hash != trusted.hash


# --- classifiers ---


def test_an_encoder_is_a_classifier_and_no_language_model() -> None:
    source = find_model(ENCODER)
    for use in (skeleton, load_base_model):
        with pytest.raises(ModelError, match=r'"all-minilm-l6-v2" is an encoder \(BertModel\).*labelled tasks'):
            use(source)
    base = load_base_model(source, n_labels=2)
    assert base.model.classifier.weight.shape == (2, 384)
    assert base.tokenizer.pad_token_id == base.model.config.pad_token_id


def test_a_new_head_leaves_the_random_state_alone_and_does_not_depend_on_it(tiny_model: Path) -> None:
    source, heads = find_model(str(tiny_model)), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.random.get_rng_state()
        heads.append(load_base_model(source, n_labels=3).model.score.weight)
        assert torch.equal(torch.random.get_rng_state(), expected)
    assert torch.equal(*heads)
    assert heads[0].std() > 0


def test_a_head_for_other_labels_is_drawn_anew_and_nothing_else_is(folder: Path) -> None:
    load_base_model(find_model(str(folder)), n_labels=3).model.save_pretrained(folder)
    assert load_base_model(find_model(str(folder)), n_labels=5).model.score.weight.shape == (5, 16)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "down_proj" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"missing keys.*down_proj"):
        load_base_model(find_model(str(folder)), n_labels=3)


def test_padding_is_the_end_token_if_there_is_no_other(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    base = load_base_model(find_model(str(folder)), n_labels=2)
    assert base.tokenizer.pad_token == base.tokenizer.eos_token
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    assert load_base_model(find_model(str(folder))).tokenizer.pad_token is None
    with pytest.raises(ModelError, match="has neither a padding nor an end token"):
        load_base_model(find_model(str(folder)), n_labels=2)


# --- what suffices to plan ---


def test_a_configuration_alone_is_enough_to_plan(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    source = find_model(str(tmp_path), dry=True)
    assert source.is_dry
    check_files(source, 1)
    expected = skeleton(find_model(str(tiny_model))).num_parameters()
    assert skeleton(source).num_parameters() == expected
    with pytest.raises(ModelError, match="for its shapes only"):
        load_base_model(source)
    whole = find_model(str(tiny_model), dry=True)
    assert not whole.is_dry
    assert whole == find_model(str(tiny_model))


def test_tokens_for_another_model_of_the_family_may_lie_beyond_the_embedding(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(folder)
    source = find_model(str(folder))
    check_files(source, 4096)
    tokenizer.add_tokens(["sesquipedalian"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="not of one model"):
        check_files(find_model(str(folder)), 4096)
