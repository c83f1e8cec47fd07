"""A pack trains every cell as plain PEFT does, whatever its company."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from plain_peft import (
    LENGTH,
    VOCABULARY,
    cell,
    gpt2,
    llama,
    mixed_cells,
    stream,
    train_packed,
    train_plain,
    trained_pack,
)
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from loralaw.errors import InputError, StorageError
from loralaw.miub import LayerStatistics
from loralaw.training import Pack, PackCell, n_params_trainable
from loralaw.tuners.row_scale_protocol import RowScaleProtocol

torch.set_num_threads(1)
# PEFT 0.21.2 reads an attribute that transformers 5.23 deprecates, whenever a PeftModel is made.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def saved(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same_training(
    cells: list[PackCell], folder: Path, build: Callable[[], PreTrainedModel], loss: float = 1e-5, adapter: float = 1e-4
) -> None:
    packed = train_packed(cells, folder, build)
    ids = torch.randint(0, VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    for one in cells:
        losses, state, model = train_plain(one, stream(one), build)
        assert packed[one.key] == pytest.approx(losses, rel=loss), one.key
        ours = saved(folder / one.key)
        assert ours.keys() == state.keys()
        for name, expected in state.items():
            moved = expected - 1 if "row_scale" in name else expected  # α starts at 1, B at 0
            assert moved.any(), "untrained adapters would be equal without any merit"
            assert float((ours[name] - expected).norm()) <= adapter * float(moved.norm()), (one.key, name)
        reloaded = PeftModel.from_pretrained(build(), folder / one.key).eval()
        with torch.no_grad():
            torch.testing.assert_close(reloaded(ids).logits, model(ids).logits, rtol=0, atol=1e-4)


def test_mixed_cells_equal_plain_peft(tmp_path: Path) -> None:
    """Ranks, rslora, α-LoRA by every protocol, targets, decay, clipping, schedules, dropout, batch sizes, ragged
    lengths, and some that leave early."""
    assert_same_training(mixed_cells(), tmp_path, llama)


def test_gpt2_with_conv1d_and_its_own_dropout(tmp_path: Path) -> None:
    lora = {"target_modules": ["c_attn", "c_fc"], "lora_dropout": 0.1}
    cells = [cell("a", 4, 1, lora=lora), cell("b", 2, 2), cell("c", 4, 3, lora=lora)]
    cells += [cell("alpha", 4, 4, lora=lora, row_scale=RowScaleProtocol("held-out", 1e-2, 4))]
    assert_same_training(cells, tmp_path, gpt2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_in_any_company(dtype: torch.dtype, tmp_path: Path) -> None:
    """Not promised by the libraries below, so checked here: a study may be resumed in other packs."""
    cells = mixed_cells(8)
    together = train_packed(cells, tmp_path / "together", dtype=dtype)
    for one in cells:
        alone = train_packed([one], tmp_path / "alone", dtype=dtype)
        assert alone[one.key] == together[one.key], one.key
        ours, theirs = saved(tmp_path / "alone" / one.key), saved(tmp_path / "together" / one.key)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), one.key


def test_bfloat16_is_as_close_to_float32_as_autocast_is(tmp_path: Path) -> None:
    one = cell("a", 8, 1)
    packed = train_packed([one], tmp_path, dtype=torch.bfloat16)["a"]
    exact, autocast = train_plain(one, stream(one))[0], train_plain(one, stream(one), autocast=True)[0]

    def worst(losses: list[float]) -> float:
        return max(abs(x - y) / y for x, y in zip(losses, exact, strict=True))

    assert 0 < worst(packed) < 2 * worst(autocast) + 1e-4


def test_a_diverging_cell_harms_nobody(tmp_path: Path) -> None:
    healthy, broken = cell("ok", 4, 1), cell("broken", 4, 2, learning_rate=1e30, max_grad_norm=None)
    alone = train_packed([healthy], tmp_path / "alone")
    batches = {one.key: stream(one) for one in (healthy, broken)}
    losses = []
    with Pack(llama(), [healthy, broken], pad_to=LENGTH) as pack:
        for step in range(healthy.n_steps):
            loss = pack.step({key: batches[key][step] for key in pack.keys})
            losses.append(loss["ok"])
            if step == 8:  # go on beside the broken one for some steps, then drop it
                assert not math.isfinite(loss["broken"])
                pack.keep(["ok"])
        pack.save_adapter("ok", tmp_path / "ok")
    assert losses == alone["ok"]
    expected = saved(tmp_path / "alone" / "ok")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in saved(tmp_path / "ok").items())


def test_unload_restores_the_model_exactly() -> None:
    model = llama().train()
    model.get_submodule("model.layers.0.mlp").eval()
    model.model.embed_tokens.requires_grad_(False)
    twin = llama()
    before = {
        "modules": {name: id(module) for name, module in model.named_modules()},
        "training": {name: module.training for name, module in model.named_modules()},
        "gradient": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "attributes": set(vars(model)),
        "attention": model.config._attn_implementation,
    }
    ids = torch.arange(8)[None]
    for dtype in (torch.bfloat16, torch.float32):  # a model serves one pack after the other
        with Pack(model, [cell("a"), cell("b", 2)], dtype=dtype, pad_to=LENGTH) as pack:
            pack.step({key: stream(cell(key))[0] for key in pack.keys})
            with pytest.raises(InputError, match="inside a Pack"):
                model(ids)
        assert before == {
            "modules": {name: id(module) for name, module in model.named_modules()},
            "training": {name: module.training for name, module in model.named_modules()},
            "gradient": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
            "attributes": set(vars(model)),
            "attention": model.config._attn_implementation,
        }
        assert torch.equal(model(ids).logits, twin(ids).logits)
    with pytest.raises(InputError, match="was unloaded"):
        pack.score(ids, ids)
    assert pack.unload() is model


def test_building_a_pack_leaves_the_global_random_state() -> None:
    model = llama()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pack = Pack(model, [cell("a", lora={"lora_dropout": 0.2})], pad_to=LENGTH)
    pack.step({"a": stream(cell("a"))[0]})
    assert torch.equal(torch.rand(3), expected)


def test_padding_of_ranks_stays_zero() -> None:
    """Two ranks share a bucket of rank 16: what is beyond a cell's rank must never wake, in A or in B."""
    pack = trained_pack([cell("small", 3, 1, weight_decay=0.1), cell("large", 16, 2)], 5)
    (bucket,) = pack._buckets
    factors = bucket.layer("model.layers.0.mlp.up_proj")
    assert factors is not None
    a, b = factors.a.values, factors.b.values
    assert not a[0, :, 3:].any()
    assert not b[0, 3:].any()
    assert a[0, :, :3].all()
    assert b[0, :3].all()


def test_saved_folder_is_an_ordinary_and_reproducible_peft_folder(tmp_path: Path) -> None:
    pack = trained_pack([cell("a", 4, 1, lora={"use_rslora": True})], 1)
    pack.save_adapter("a", tmp_path / "deep" / "a")
    pack.save_adapter("a", str(tmp_path / "again"))
    config = json.loads((tmp_path / "deep" / "a" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["r"], config["use_rslora"]) == (
        "LORA",
        "CAUSAL_LM",
        4,
        True,
    )
    assert config["target_modules"] == sorted(config["target_modules"])
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "deep" / "a" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        pack.save_adapter("a", tmp_path / "file")


def test_number_of_trained_parameters_is_what_is_saved(tmp_path: Path) -> None:
    qv = {"target_modules": ["q_proj", "v_proj"]}
    joint = RowScaleProtocol("joint")
    pack = trained_pack([cell("a", 3), cell("qv", 5, lora=qv), cell("alpha", 5, lora=qv, row_scale=joint)], 1)
    for key in pack.keys:
        pack.save_adapter(key, tmp_path / key)
        n_saved = sum(tensor.numel() for tensor in saved(tmp_path / key).values())
        assert pack.n_params_trainable(key) == n_saved
    method: dict[str, object] = {"name": "lora", "target_modules": "all-linear"}
    assert pack.n_params_trainable("a") == n_params_trainable(llama(), method, 3)
    method = {"name": "rslora", "target_modules": ["q_proj", "v_proj"]}
    assert pack.n_params_trainable("qv") == n_params_trainable(llama(), method, 5)
    assert pack.n_params_trainable("alpha") == n_params_trainable(llama(), {**method, "name": "alpha-lora"}, 5)


def test_unusable_input_is_refused_with_its_cure() -> None:
    one = cell("cell-a")
    ids, labels = stream(one)[0]
    with pytest.raises(InputError, match="different keys"):
        Pack(llama(), [one, one], pad_to=LENGTH)
    with pytest.raises(InputError, match="pad_to is 1"):
        Pack(llama(), [one], pad_to=1)
    with pytest.raises(InputError, match=r"torch\.float16; accepted: torch\.float32, torch\.bfloat16"):
        Pack(llama(), [one], dtype=torch.float16, pad_to=LENGTH)
    with Pack(llama(), [one], pad_to=LENGTH) as pack:
        with pytest.raises(InputError, match="give one a cell"):
            pack.step({"b": (ids, labels)})
        with pytest.raises(InputError, match="give its 3 rows of at most pad_to=12 tokens"):
            pack.step({"cell-a": (ids[:2], labels[:2])})
        with pytest.raises(InputError, match="at most pad_to"):
            pack.step({"cell-a": (ids.repeat(1, 9), labels.repeat(1, 9))})
        with pytest.raises(InputError, match="no token of the batch is scored"):
            pack.step({"cell-a": (ids, torch.full_like(ids, -100))})
        with pytest.raises(InputError, match="two int64 tensors"):
            pack.step({"cell-a": (ids, labels[:, 1:])})
        with pytest.raises(InputError, match='Did you mean "cell-a"'):
            pack.keep(["cel-a"])
        with pytest.raises(InputError, match='"cell-a" has no row scale that learns in steps of its own'):
            pack.row_scale_step({"cell-a": (ids, labels)})
        for wrong in ((ids[:, 1:] > 0, torch.arange(len(ids))), (ids > 0, torch.arange(len(ids) + 1))):
            with pytest.raises(InputError, match=r"give \(rows, length\) twice"):
                pack.probe(ids, *wrong, LayerStatistics())
        pack.keep([])
        with pytest.raises(InputError, match="no cell left"):
            pack.score(ids, labels)
        with pytest.raises(InputError, match="no cell left"):
            pack.probe(ids, ids > 0, torch.arange(len(ids)), LayerStatistics())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, 'Did you mean "cosine"'),
        ({"n_steps": 0}, "n_steps is 0; give at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"max_grad_norm": 0.0}, "or None"),
        ({"row_scale": None}, "row_scale is None with a AlphaLoraConfig"),
    ],
)
def test_unusable_cells_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cell("a", **settings)
