"""Scores and layer statistics of a pack against plain PEFT models with the saved adapters."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer
from plain_peft import LENGTH, VOCABULARY, cell, gpt2, llama, mixed_cells, take_step, trained_pack
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from loralaw.miub import LayerStatistics
from loralaw.training import Pack, PackCell
from loralaw.training import scores as scores_module
from loralaw.tuners import ROW_SCALE
from loralaw.tuners.row_scale import active_row_scale

torch.set_num_threads(1)
# PEFT 0.21.2 reads an attribute that transformers 5.23 deprecates, whenever a PeftModel is made.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
BUILDS = pytest.mark.parametrize("build", [llama, gpt2])


def cells_of(build: Callable[[], PreTrainedModel]) -> list[PackCell]:
    if build is llama:
        return [one for one in mixed_cells(8) if one.key != "leaves"]
    return [cell("a", 4, 1), cell("b", 24, 2, lora={"target_modules": ["c_fc"]})]


def ragged_rows(n_rows: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, labels, token mask): padded on the right, some prompts unscored, one row without a scored token."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(0, VOCABULARY, (n_rows, LENGTH), generator=draw)
    lengths = torch.randint(3, LENGTH + 1, (n_rows, 1), generator=draw)
    mask = torch.arange(LENGTH) < lengths
    labels = ids.where(mask, -100)
    labels[1, :3] = -100
    labels[2] = -100
    return ids.where(mask, 0), labels, mask


def reload(pack: Pack, key: str, folder: Path, build: Callable[[], PreTrainedModel]) -> PeftModel:
    pack.save_adapter(key, folder / key)
    return PeftModel.from_pretrained(build(), folder / key).eval()


@BUILDS
def test_scores_equal_those_of_plain_peft_logits(
    build: Callable[[], PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "SCORE_TOKENS_PER_CELL", 3 * LENGTH)  # blocks of 3, 3 and 1 rows
    pack = trained_pack(cells_of(build), 6, build)
    ids, labels, mask = ragged_rows()
    scores = pack.score(ids, labels)
    assert scores.keys == pack.keys
    assert scores.n_scored.tolist() == (labels[:, 1:] != -100).sum(1).tolist()
    for k, key in enumerate(pack.keys):
        with torch.no_grad():
            logits = reload(pack, key, tmp_path, build)(ids, attention_mask=mask.long()).logits[:, :-1].double()
        target, scored = labels[:, 1:].clamp_min(0), labels[:, 1:] != -100
        losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none") * scored
        hits = (logits.argmax(-1) == target) & scored
        torch.testing.assert_close(scores.loss_sum[k], losses.sum(1), rtol=1e-5, atol=1e-5)
        assert scores.n_correct[k].tolist() == hits.sum(1).tolist()


@BUILDS
def test_layer_statistics_equal_a_float64_reference(build: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    pack = trained_pack(cells_of(build), 6, build)
    ids, _, mask = ragged_rows()
    statistics = LayerStatistics()
    pack.probe(ids[:4], mask[:4], torch.arange(4), statistics)
    pack.probe(ids[4:], mask[4:], torch.arange(4, len(ids)), statistics)
    for key in pack.keys:
        expected = reference_rows(reload(pack, key, tmp_path, build), ids, mask)
        rows = statistics.rows(key)
        assert [row["layer"] for row in rows] == list(expected)
        for row in rows:
            assert row["n_tokens"] == int(mask.sum())
            values = [row[name] for name in ("miub_nats", "jsd_nats", "norm_ratio", "cosine")]
            assert values == pytest.approx(expected[str(row["layer"])], rel=1e-3, abs=1e-7), (key, row["layer"])


def test_effective_ranks_are_those_of_the_saved_adapters(tmp_path: Path) -> None:
    pack = trained_pack(cells_of(llama), 6, llama)
    for key in pack.keys:
        pack.save_adapter(key, tmp_path / key)
        saved, ranks = load_file(tmp_path / key / "adapter_model.safetensors"), pack.effective_ranks(key)
        for layer, value in ranks.items():
            factors = [saved[f"base_model.model.{layer}.lora_{side}.weight"].double() for side in "BA"]
            share = torch.linalg.svdvals(factors[0] @ factors[1])[: len(factors[1])]
            assert value == pytest.approx(float(entropy(share / share.sum()).exp()), rel=1e-5)
        assert len([name for name in saved if ROW_SCALE not in name]) == 2 * len(ranks)


def reference_rows(model: PeftModel, ids: Tensor, mask: Tensor) -> dict[str, list[float]]:
    """Layer -> channel bound, jsd, norm ratio, cosine; in float64, by definition, from inputs that hooks catch."""
    inputs: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.base_model.model.named_modules() if isinstance(layer, LoraLayer)}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0][mask].double()))
    with torch.no_grad():
        model(ids)
    rows = {}
    for name, x in inputs.items():  # in the order in which the model ran them
        layer, base = layers[name], layers[name].get_base_layer()
        weight = base.weight.double() if isinstance(base, torch.nn.Linear) else base.weight.double().T
        z = x @ weight.T + (0 if base.bias is None else base.bias.double())
        if (row_scale := active_row_scale(layer, "default")) is not None:
            z = row_scale.weight.double() * z
        u = layer.scaling["default"] * x @ layer.lora_A["default"].weight.double().T
        u = u @ layer.lora_B["default"].weight.double().T
        p, q = z.softmax(-1), u.softmax(-1)
        information = [float(entropy(v.mean(0)) - entropy(v).mean()) for v in (p, q)]
        jsd = float((entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2).mean())
        cosine = float(F.cosine_similarity(z, u).mean())
        rows[name] = [min(information), jsd, float(u.norm() / z.norm()), cosine]
    return rows


def entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def test_untrained_adapters_carry_no_information() -> None:
    ids, labels, mask = ragged_rows()
    statistics = LayerStatistics()
    pack = Pack(llama(), [cell("a"), cell("b", 24)], pad_to=LENGTH)
    before = pack.score(ids, labels)
    pack.probe(ids, mask, torch.arange(len(ids)), statistics)
    for key in pack.keys:
        assert all(row["miub_nats"] == 0.0 and row["norm_ratio"] == 0.0 for row in statistics.rows(key))
    assert torch.equal(before.loss_sum[0], before.loss_sum[1])


def test_scores_do_not_depend_on_padding_company_or_probing() -> None:
    cells = [one for one in mixed_cells(8) if one.key != "leaves"]
    together, ids, labels, mask = trained_pack(cells, 4), *ragged_rows()
    probe = LayerStatistics()
    scores, documents = together.score(ids, labels), torch.arange(len(ids))
    together.probe(ids, mask, documents, probe)
    assert torch.equal(scores.loss_sum, together.score(ids, labels).loss_sum)
    longer = together.score(F.pad(ids, (0, 9)), F.pad(labels, (0, 9), value=-100))
    torch.testing.assert_close(longer.loss_sum, scores.loss_sum, rtol=1e-5, atol=1e-5)
    for one in cells:
        alone, own_probe = trained_pack([one], 4), LayerStatistics()
        own = alone.score(ids, labels)
        alone.probe(ids, mask, documents, own_probe)
        k = scores.keys.index(one.key)
        assert torch.equal(own.loss_sum[0], scores.loss_sum[k]), one.key
        assert torch.equal(own.n_correct[0], scores.n_correct[k]), one.key
        assert own_probe.rows(one.key) == probe.rows(one.key), one.key


def test_scoring_does_not_disturb_training() -> None:
    """Neither the dropout streams nor the gradients."""
    cells = mixed_cells(8)
    plain, scored = trained_pack(cells, 4), trained_pack(cells, 2)
    ids, labels, mask = ragged_rows()
    scored.score(ids, labels)
    scored.probe(ids, mask, torch.arange(len(ids)), LayerStatistics())
    for step in (2, 3):
        take_step(scored, cells, step)
    assert torch.equal(plain.score(ids, labels).loss_sum, scored.score(ids, labels).loss_sum)


def test_a_nan_cell_scores_nan_and_disturbs_nobody() -> None:
    cells = [cell("ok", 4, 1), cell("broken", 4, 2, learning_rate=1e30, max_grad_norm=None)]
    ids, labels, mask = ragged_rows()
    statistics, pack = LayerStatistics(), trained_pack(cells, 8)
    scores = pack.score(ids, labels)
    pack.probe(ids, mask, torch.arange(len(ids)), statistics)
    alone = trained_pack(cells[:1], 8).score(ids, labels)
    assert torch.equal(scores.loss_sum[0], alone.loss_sum[0])
    assert scores.loss_sum[1, 0].isnan()
    assert all(row["miub_nats"] >= 0 for row in statistics.rows("ok"))
    assert all(math.isnan(rank) for rank in pack.effective_ranks("broken").values())
    assert all(math.isnan(row["miub_nats"]) for row in statistics.rows("broken"))
