"""Base models: the embedded family as it ships, folders in the hub's layout, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from loralaw.errors import ModelError
from loralaw.models import EMBEDDED, check_files, find_model, load_base_model, skeleton
from loralaw.models.source import EMBEDDED_FOLDER


def card(name: str) -> dict[str, float]:
    return json.loads((EMBEDDED_FOLDER / name / "pretraining.json").read_text())


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models_load_plainly(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER / name)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / name)
    ids = tokenizer("It was a dark and stormy night", return_tensors="pt").input_ids
    assert model.config.model_type == "llama"
    assert sum(p.numel() for p in model.parameters()) == card(name)["n_params"]
    assert torch.isfinite(model(ids).logits).all()
    with safe_open(EMBEDDED_FOLDER / name / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_the_family_is_small_and_larger_is_better() -> None:
    size = sum(path.stat().st_size for path in EMBEDDED_FOLDER.rglob("*") if path.is_file())
    assert size <= 20e6
    assert all(card(name)["n_tokens_seen"] > 1e6 for name in EMBEDDED)
    losses = [card(name)["validation_loss_nats_per_token"] for name in EMBEDDED]
    assert losses[0] - losses[1] >= 0.10
    assert losses[1] - losses[2] >= 0.10


def test_the_model_card_says_what_was_recorded() -> None:
    text = (EMBEDDED_FOLDER / "README.md").read_text()
    for name in EMBEDDED:
        recorded = card(name)
        assert f"{recorded['n_params']:,}" in text
        assert f"{recorded['n_tokens_seen']:,}" in text
        assert f"{recorded['validation_loss_nats_per_token']:.3f}" in text


def test_the_family_shares_one_tokenizer() -> None:
    assert len({(EMBEDDED_FOLDER / name / "tokenizer.json").read_bytes() for name in EMBEDDED}) == 1


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_weights_have_learned_english(name: str) -> None:
    """They prefer a sentence to its words in another order."""
    base = load_base_model(find_model(name))

    def loss(text: str) -> float:
        ids = base.tokenizer(text, return_tensors="pt").input_ids
        return float(base.model(ids, labels=ids).loss)

    assert loss("She looked at him for a moment, and then she went out of the room.") < loss(
        "Moment the of, and out room she at looked him a for then she went."
    )


def test_a_folder_is_identified_by_its_contents(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert find_model(str(copy)).hash == find_model(str(tiny_model)).hash
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert find_model(str(copy)).hash != find_model(str(tiny_model)).hash


def test_skeletons_have_shapes_and_no_weights(tiny_model: Path) -> None:
    model = skeleton(find_model(str(tiny_model)))
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_folders_that_cannot_be_used(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_model(str(tmp_path))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, tmp_path)
    with pytest.raises(ModelError, match="no weights"):
        find_model(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickle"):
        find_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be loaded"):
        check_files(find_model(str(tmp_path)), 4096)


def test_weights_that_are_not_all_there_are_not_filled_with_random_numbers(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m"
    shutil.copytree(tiny_model, copy)
    weights = load_file(copy / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "mlp" not in k}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"missing keys.*mlp"):
        load_base_model(find_model(str(copy)))
    save_file({k: v * float("nan") for k, v in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        load_base_model(find_model(str(copy)))


def test_a_tokenizer_of_another_model(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="not of one model"):
        check_files(find_model(str(tiny_model)), 300)


def test_unknown_names_and_the_hub() -> None:
    with pytest.raises(ModelError, match='Did you mean "micro-6m"'):
        find_model("micro-7m")
    with pytest.raises(ModelError, match="could not be read from the hub"):
        find_model("nobody/no-such-model")


def test_code_that_comes_with_a_model_is_not_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, proof = tmp_path / "m", tmp_path / "ran"
    shutil.copytree(tiny_model, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(proof)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda _: "y")  # nobody is even asked
    with pytest.raises(ModelError):
        skeleton(find_model(str(copy)))
    assert not proof.exists()
