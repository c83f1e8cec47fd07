"""What a probe sees is what the layers compute, on the tokens that are real, and the model is left as it was."""

import copy
import importlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
from peft import (
    AdaLoraConfig,
    LoHaConfig,
    LoraConfig,
    PeftModel,
    XLoraConfig,
    get_peft_model,
    inject_adapter_in_model,
)
from peft.tuners.lora.aqlm import AqlmLoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LongformerConfig,
    LongformerModel,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetModel,
)

import loralaw
from loralaw.errors import InputError
from loralaw.miub import LayerStatistics, ProbeResult, probe
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, row_scales

# PEFT reads a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

VOCABULARY = 50


def llama(**changes: Any) -> LlamaForCausalLM:
    settings = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **settings, **changes))


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64))


def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=3,
    )


class Convolutions(nn.Module):
    """Token ids -> embedding -> a convolution along the tokens -> a two-dimensional one -> one vector a row."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.along = nn.Conv1d(8, 12, 3, groups=groups)
        self.square = nn.Conv2d(1, 6, 3, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        along = self.along(self.embed(input_ids).movedim(-1, 1))
        return self.head(self.square(along[:, None]).mean((-1, -2)))


class Experts(nn.Module):
    """A router on flattened tokens; tokens regrouped by expert; the last gets none, the one before one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.router = nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        flat = self.embed(input_ids).flatten(0, 1)
        self.router(flat)
        parts = flat[:5], flat[5:-1], flat[-1:], flat[:0]
        return torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])


def with_random_adapters(model: nn.Module) -> nn.Module:
    """Adapters as if trained: B (and DoRA's magnitude, and biases) are no longer at their start."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude" in name or ROW_SCALE in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
            elif "lora_" in name:
                parameter.normal_(0, 0.3)
    return model.double()


def lora(model: nn.Module, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    return with_random_adapters(get_peft_model(model, LoraConfig(r=3, lora_alpha=5, **settings)))


def two_adapters() -> nn.Module:
    model = get_peft_model(llama(), LoraConfig(r=3, target_modules=["q_proj", "v_proj"]))
    model.add_adapter("other", LoraConfig(r=5, lora_alpha=2, target_modules=["q_proj", "up_proj"]))
    model.base_model.set_adapter(["default", "other"])
    return with_random_adapters(model)


def alpha_lora(model: nn.Module, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    return with_random_adapters(get_peft_model(model, AlphaLoraConfig(r=3, lora_alpha=5, **settings)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: lora(llama(), target_modules="all-linear"),
    "llama, its head and embedding": lambda: lora(llama(), target_modules=["embed_tokens", "q_proj", "lm_head"]),
    "rank-stabilised": lambda: lora(llama(), target_modules="all-linear", use_rslora=True),
    "bias and dropout": lambda: lora(bert(), target_modules=["query"], lora_bias=True, lora_dropout=0.5),
    "gpt2": lambda: lora(gpt2(), target_modules=["c_attn", "c_proj", "c_fc", "wte"], fan_in_fan_out=True),
    "encoder": lambda: lora(bert(), target_modules=["query", "dense", "word_embeddings"]),
    "classifier": lambda: lora(
        BertForSequenceClassification(bert_config()), target_modules=["query", "value"], task_type="SEQ_CLS"
    ),
    "convolutions": lambda: lora(Convolutions(), target_modules=["embed", "along", "square", "head"]),
    "DoRA": lambda: lora(llama(), target_modules=["embed_tokens", "q_proj", "down_proj"], use_dora=True),
    "DoRA on convolutions": lambda: lora(Convolutions(), target_modules=["along", "square"], use_dora=True),
    "two active adapters": two_adapters,
    "row scale": lambda: alpha_lora(llama(), target_modules="all-linear"),
    "row scale on convolutions": lambda: alpha_lora(Convolutions(), target_modules=["along", "square", "head"]),
    "row scale on an embedding": lambda: alpha_lora(bert(), target_modules=["query", "word_embeddings"]),
    "row scale of a task": lambda: alpha_lora(
        gpt2(), target_modules=["c_fc"], fan_in_fan_out=True, row_scale_tasks=["one", "two"]
    ),
    "regrouped by expert": lambda: lora(Experts(), target_modules=["router", "0", "1"]),
    "injected": lambda: with_random_adapters(
        inject_adapter_in_model(LoraConfig(r=3, target_modules=["k_proj"]), llama())
    ),
}


def bert() -> BertModel:
    return BertModel(bert_config())


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    torch.manual_seed(0)


def batch(*lengths: int, side: str = "right") -> dict[str, Tensor]:
    """Random tokens of some lengths, padded to the longest with other random tokens, which must not matter."""
    longest, generator = max(lengths), torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(1, VOCABULARY, (len(lengths), longest), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, slice(0, length) if side == "right" else slice(longest - length, longest)] = 1
    return {"input_ids": ids, "attention_mask": mask}


class Seen(LayerStatistics):
    """Keeps what the statistics are given, of the last batch."""

    def __init__(self, estimators: Any = ("channel", "jsd")) -> None:
        super().__init__(estimators)
        self.features: dict[str, tuple[Tensor, Tensor, Tensor | None]] = {}

    def update(self, layer: str, keys: Any, base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> None:
        super().update(layer, keys, base, adapter, sequence)
        self.features[layer] = base[0].clone(), adapter[0].clone(), sequence


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """The statistics that probes make, in order."""
    made: list[Seen] = []

    def make(estimators: Any) -> Seen:
        made.append(Seen(estimators))
        return made[-1]

    monkeypatch.setattr(importlib.import_module("loralaw.miub.probe"), "LayerStatistics", make)
    return made


def layers_of(model: nn.Module) -> dict[str, Any]:
    root = model.base_model.model if isinstance(model, PeftModel) else model
    return {name: module for name, module in root.named_modules() if isinstance(module, LoraLayer)}


def inputs_of(model: nn.Module, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """What every LoRA layer is called with."""
    inputs, handles = {}, []
    for name, layer in layers_of(model).items():
        handles.append(layer.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]})))
    with torch.no_grad():
        model.eval()(**data)
    for handle in handles:
        handle.remove()
    return inputs


def vectors(features: Tensor, layer: Any) -> Tensor:
    if isinstance(layer.get_base_layer(), nn.Conv1d | nn.Conv2d):
        features = features.movedim(1, -1)
    return features.reshape(-1, features.shape[-1])


@pytest.mark.parametrize("kind", MODELS)
def test_the_two_parts_are_those_of_the_layer(kind: str, seen: list[Seen]) -> None:
    """z is what the frozen layer gives when it is called alone; z + u is what the whole layer gives."""
    model, data = MODELS[kind](), batch(9, 9, 9)
    inputs = inputs_of(model, data)
    result = probe(model, data)
    assert set(seen[0].features) == set(layers_of(model)) == {row["layer"] for row in result.layers}
    for name, layer in layers_of(model).items():
        z, u, _ = seen[0].features[name]
        with torch.no_grad():
            frozen, whole = vectors(layer.base_layer(inputs[name]), layer), vectors(layer(inputs[name]), layer)
        if kind.startswith("row scale"):
            frozen = frozen * row_scales(model)[name]
        assert torch.equal(z, frozen)
        assert torch.allclose(z + u, whole, atol=1e-12)
        assert u.abs().max() > 1e-3


def test_the_adapters_part_is_the_product_of_its_weights(seen: list[Seen]) -> None:
    model, data = two_adapters(), batch(6, 6)
    inputs = inputs_of(model, data)
    result = probe(model, data)
    assert result.adapter == "default + other"
    name = "model.layers.1.self_attn.q_proj"
    layer, h = layers_of(model)[name], inputs[name].flatten(0, 1)
    a, b = layer.lora_A, layer.lora_B
    expected = h @ a["default"].weight.T @ b["default"].weight.T * (8 / 3)
    expected = expected + h @ a["other"].weight.T @ b["other"].weight.T * (2 / 5)
    z, u, _ = seen[0].features[name]
    assert torch.allclose(u, expected, atol=1e-12)
    assert torch.allclose(z, h @ layer.base_layer.weight.T, atol=1e-12)


def test_a_layer_that_adds_in_place(seen: list[Seen]) -> None:
    """PEFT's layer for AQLM weights adds the adapter's part into the frozen output itself."""
    model = Convolutions()
    frozen = model.head
    model.head = AqlmLoraLinear(frozen, "default", config=LoraConfig(), r=3, init_lora_weights=False)
    with_random_adapters(model).requires_grad_(False)
    data = batch(9, 9)
    inputs = inputs_of(model, data)["head"]
    probe(model, data)
    assert torch.equal(seen[0].features["head"][0], frozen(inputs))


def test_an_embedding_that_scales_its_rows(seen: list[Seen]) -> None:
    """Gemma's embedding multiplies by a constant, and PEFT multiplies what it adds by the same."""
    for settings in ({}, {"use_dora": True}):
        base = Convolutions()
        base.embed.embed_scale = 3.0
        base.embed.forward = lambda ids, embed=base.embed: nn.functional.embedding(ids, embed.weight) * 3.0
        model, data = lora(base, target_modules=["embed"], **settings), batch(9, 9)
        probe(model, data)
        z, u, _ = seen[-1].features["embed"]
        with torch.no_grad():
            layer = layers_of(model)["embed"]
            assert torch.allclose(z + u, layer(data["input_ids"]).flatten(0, 1), atol=1e-12)
            assert torch.equal(z, base.embed.base_layer(data["input_ids"]).flatten(0, 1))


def test_the_channel_bound_is_its_definition(seen: list[Seen]) -> None:
    """min over the two sides of H(mean p) - mean H(p), from all the layer's features at once."""
    result = probe(MODELS["llama"](), [batch(4, 9), batch(7, 2, 5)][0])
    for row in result.layers:
        sides = []
        for features in seen[0].features[row["layer"]][:2]:
            p = features.softmax(-1)
            entropies = [-(q * q.log()).sum(-1) for q in (p.mean(0), p)]
            sides.append(float(entropies[0] - entropies[1].mean()))
        assert row["miub_nats"] == pytest.approx(min(sides), abs=1e-9)
        assert row["n_tokens"] == 13
        assert row["miub_stderr_nats"] > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "encoder", "classifier"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_does_not_count(kind: str, side: str, seen: list[Seen]) -> None:
    """The padded batch gives the features of each sequence alone, in order."""
    model, data = MODELS[kind](), batch(3, 9, 5, side=side)
    if kind == "gpt2":  # it counts positions from the first place, padded or not
        data["position_ids"] = (data["attention_mask"].cumsum(1) - 1).clamp_min(0)
    result = probe(model, data)
    assert (result.n_tokens, result.n_sequences) == (17, 3)
    rows = [ids[mask.bool()][None] for ids, mask in zip(data["input_ids"], data["attention_mask"], strict=True)]
    if side == "left" and kind in ("encoder", "classifier"):
        return  # the embedded positions differ from those of a sequence alone; counts are all there is to compare
    for ids in rows:
        probe(model, {"input_ids": ids})
    for name, (z, u, sequence) in seen[0].features.items():
        if "pooler" in name:
            assert sequence.tolist() == [0, 1, 2]
            continue
        alone = [statistics.features[name] for statistics in seen[1:]]
        assert sequence.tolist() == [0] * 3 + [1] * 9 + [2] * 5
        tolerance = 1e-10 if side == "right" else 1e-5  # rotary angles are float32, and only their differences count
        assert torch.allclose(z, torch.cat([part[0] for part in alone]), atol=tolerance)
        assert torch.allclose(u, torch.cat([part[1] for part in alone]), atol=tolerance)


def test_which_vectors_count_by_shape(seen: list[Seen]) -> None:
    convolved = probe(MODELS["convolutions"](), batch(9, 4))
    sequences = {name: features[2] for name, features in seen[0].features.items()}
    assert sequences["embed"].tolist() == [0] * 9 + [1] * 4  # tokens
    assert sequences["along"].tolist() == [0] * 7 + [1] * 7  # 9 - 3 + 1 positions of a row
    assert sequences["square"].tolist() == [0] * 15 + [1] * 15  # (12 - 3) // 2 + 1 by (7 - 3) // 2 + 1
    assert sequences["head"].tolist() == [0, 1]  # one vector a row
    assert convolved.n_tokens == 13

    probe(MODELS["convolutions"](), [batch(9, 4), batch(8, 3)])  # rows are numbered through all batches
    assert seen[1].features["embed"][2].tolist() == [2] * 8 + [3] * 3
    assert seen[1].features["head"][2].tolist() == [2, 3]

    model = lora(Experts(), target_modules=["router", "0", "1", "2", "3"])
    result = probe(model, batch(9, 4))
    assert seen[2].features["router"][2].tolist() == [0] * 9 + [1] * 4  # (rows · length, features)
    assert [len(seen[2].features[f"experts.{i}"][0]) for i in (0, 1)] == [5, 12]
    assert seen[2].features["experts.0"][2] is None
    assert result.skipped == {
        "experts.2": "channel has seen 1 token and needs at least 2: give it more text",
        "experts.3": "it was given no token of these data",
    }
    again = probe(model, [batch(9, 4), batch(9, 4)])  # its two tokens come one by one
    assert set(again.skipped) == {"experts.3"}
    assert [row["n_tokens"] for row in again.layers if row["layer"] == "experts.2"] == [2]


def test_what_is_the_same_for_every_row_counts_for_each(seen: list[Seen]) -> None:
    """GPT-2 embeds its positions once for all rows; the value must not depend on how rows are dealt into batches."""
    model = lora(gpt2(), target_modules=["wpe", "c_attn"], fan_in_fan_out=True)
    rows = [{"input_ids": ids[mask.bool()]} for ids, mask in zip(*batch(3, 9, 5, 9, 2).values(), strict=True)]
    results = [probe(model, rows, batch_size=size) for size in (1, 2, 5, 8)]
    for result in results[1:]:
        for row, alone in zip(result.layers, results[0].layers, strict=True):
            assert row["layer"] == alone["layer"]
            for name in ("n_tokens", "miub_nats", "miub_stderr_nats", "jsd_nats", "norm_ratio", "cosine"):
                assert row[name] == pytest.approx(alone[name], rel=1e-6), (row["layer"], name)
    position, sequence = seen[-1].features["transformer.wpe"][0], seen[-1].features["transformer.wpe"][2]
    assert sequence.tolist() == [0] * 3 + [1] * 9 + [2] * 5 + [3] * 9 + [4] * 2
    assert torch.equal(position[:3], position[3:6])


def test_every_form_of_data_gives_the_same(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = lora(LlamaForCausalLM.from_pretrained(tiny_model), target_modules="all-linear").float()
    texts = [
        "the cat sat on the mat",
        "a dog",
        "it was a dark and stormy night; the rain fell in torrents",
        "",
        "x y z",
    ]
    ids = [row for row in tokenizer(texts)["input_ids"] if row]
    frame = datasets.Dataset.from_dict({"input_ids": ids, "labels": ids, "idx": list(range(len(ids)))})
    padded = tokenizer([t for t in texts if t], return_tensors="pt", padding=True)
    left = [{"input_ids": [1] * 9 + row, "attention_mask": [0] * 9 + [1] * len(row)} for row in ids]
    forms: dict[str, Any] = {
        "texts": texts,
        "generator": iter(texts),
        "rows of text": datasets.Dataset.from_dict({"text": texts, "label": [0] * 5}),
        "lists": [{"input_ids": row} for row in ids],
        "dataset": frame,
        "torch dataset": frame.with_format("torch"),
        "rows with padding": left,
        "narrow numbers": [{"input_ids": torch.tensor(row, dtype=torch.int16)} for row in ids],
        "a mask of None": [{"input_ids": row, "attention_mask": None, "token_type_ids": None} for row in ids],
        "one batch": padded,
        "one batch of narrow numbers": {**padded, "input_ids": padded["input_ids"].to(torch.int16)},
        "one batch with labels": {**padded, "labels": padded["input_ids"]},
        "batches": torch.utils.data.DataLoader(
            [{name: value[i] for name, value in padded.items()} for i in range(len(ids))], batch_size=3
        ),
    }
    results = {name: probe(model, data, tokenizer=tokenizer, batch_size=3) for name, data in forms.items()}
    first = results["texts"]
    assert first.n_sequences == 4
    assert first.n_tokens == sum(map(len, ids))
    for name, result in results.items():
        assert (result.n_tokens, result.n_sequences) == (first.n_tokens, 4), name
        for row, expected in zip(result.layers, first.layers, strict=True):
            assert row["layer"] == expected["layer"]
            assert row["miub_nats"] == pytest.approx(expected["miub_nats"], rel=1e-4), name
            assert row["norm_ratio"] == pytest.approx(expected["norm_ratio"], rel=1e-4), name
    cut = probe(model, texts, tokenizer=tokenizer, max_length=3)
    assert cut.n_tokens == sum(min(3, len(row)) for row in ids)
    assert probe(model, left, max_length=3).n_tokens == cut.n_tokens


def test_inputs_that_only_some_models_take(seen: list[Seen]) -> None:
    """Token types go to a model that knows them, and rows are no longer than the model's positions."""
    model = MODELS["encoder"]()
    rows = [
        {"input_ids": list(range(1, 9)) * 12, "token_type_ids": [0, 1] * 48},
        {"input_ids": [5, 6], "token_type_ids": [0, 0]},
    ]
    result = probe(model, rows)
    assert result.n_tokens == 64 + 2
    without = probe(model, [{"input_ids": row["input_ids"]} for row in rows])
    assert without.means["norm_ratio"] != result.means["norm_ratio"]
    probe(MODELS["convolutions"](), rows)  # its forward has no token_type_ids


def test_logits_that_nobody_reads_are_not_computed() -> None:
    lengths: list[int] = []
    for model in (MODELS["llama"](), MODELS["llama, its head and embedding"]()):
        hook = model.get_output_embeddings().register_forward_hook(lambda _, args, out: lengths.append(out.shape[1]))
        probe(model, batch(9, 7))
        hook.remove()
    assert lengths == [0, 9]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_narrow_types(dtype: torch.dtype) -> None:
    model = MODELS["llama"]()
    exact = probe(model, batch(30, 20)).means
    narrow = probe(copy.deepcopy(model).to(dtype), batch(30, 20)).means
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-4
    for name in ("miub_nats", "jsd_nats", "norm_ratio"):
        assert narrow[name] == pytest.approx(exact[name], rel=tolerance)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_effective_ranks() -> None:
    """Of Σ s·BA: r for orthonormal factors, and the entropy of the singular values of the dense matrix otherwise."""
    model = two_adapters()
    layer = layers_of(model)["model.layers.0.self_attn.q_proj"]
    dense = sum(layer.get_delta_weight(name) for name in ("default", "other"))
    ranks = {row["layer"]: row["effective_rank"] for row in probe(model, batch(9)).layers}
    assert ranks["model.layers.0.self_attn.q_proj"] == pytest.approx(entropic_rank(dense), rel=1e-5)

    model = lora(Convolutions(groups=2), target_modules=["embed", "along"], rank_pattern={"along": 4})
    with torch.no_grad():
        embed, along = layers_of(model)["embed"], layers_of(model)["along"]
        embed.lora_embedding_A["default"].copy_(torch.eye(3, VOCABULARY))
        embed.lora_embedding_B["default"].copy_(torch.eye(8, 3))
        up, down = along.lora_B["default"].weight, along.lora_A["default"].weight
        dense = torch.cat([up[:6, :, 0] @ down[:2].flatten(1), up[6:, :, 0] @ down[2:].flatten(1)])
    ranks = {row["layer"]: row["effective_rank"] for row in probe(model, batch(9)).layers}
    assert ranks["embed"] == pytest.approx(3)
    assert ranks["along"] == pytest.approx(entropic_rank(dense), rel=1e-5)
    assert probe(model, batch(9)).means["effective_rank"] == pytest.approx(sum(ranks.values()) / 2)


def entropic_rank(matrix: Tensor) -> float:
    values = torch.linalg.svdvals(matrix.detach())
    p = values[values > 1e-12] / values.sum()
    return math.exp(-float((p * p.log()).sum()))


def everything(model: nn.Module) -> dict[str, Any]:
    """What a probe must leave alone."""
    modules = dict(model.named_modules())
    return {
        "training": {name: module.training for name, module in modules.items()},
        "hooks": {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules.items()},
        "trained": {name: p.requires_grad for name, p in model.named_parameters()},
        "gradients": {name: p.grad is None for name, p in model.named_parameters()},
        "random": torch.get_rng_state().tolist(),
        "keys": sorted(key for module in modules.values() for key in vars(module)),
    }


@pytest.mark.parametrize("kind", ["llama", "bias and dropout", "convolutions", "DoRA", "row scale"])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_left_as_it_was(kind: str, error: type[BaseException] | None) -> None:
    model = MODELS[kind]()
    model.train()
    next(iter(layers_of(model).values())).eval()
    weights, before = copy.deepcopy(model.state_dict()), everything(model)
    data = batch(9, 4)
    if error is None:
        probe(model, data)
    else:
        last = list(layers_of(model).values())[-1]
        original, last.forward = last.forward, SimpleNamespace(raised=error)
        last.forward = lambda *args, **kwargs: (_ for _ in ()).throw(error("from the forward"))
        before = everything(model)
        with pytest.raises(error, match="from the forward"):
            probe(model, data)
        assert everything(model) == before
        last.forward = original
        probe(model, data)
        return
    assert everything(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_mask_that_is_a_list_is_not_lost() -> None:
    ids = torch.tensor([[5, 6, 7], [8, 9, 1]])
    assert probe(MODELS["llama"](), {"input_ids": ids, "attention_mask": [[1, 1, 1], [1, 1, 0]]}).n_tokens == 5


def test_tokens_that_the_model_does_not_know_are_refused() -> None:
    with pytest.raises(InputError, match="hold the token -1: "):
        probe(MODELS["llama"](), [{"input_ids": [1, 2, 3]}, {"input_ids": [1, -1]}])
    with pytest.raises(InputError, match=f"hold the token {VOCABULARY}, the model's embedding has {VOCABULARY}"):
        probe(MODELS["llama"](), [{"input_ids": [1, 2, VOCABULARY]}])


def test_a_shuffled_data_loader_leaves_the_random_state_alone() -> None:
    rows = [{"input_ids": torch.arange(5), "attention_mask": torch.ones(5)} for _ in range(6)]
    loader = torch.utils.data.DataLoader(rows, batch_size=2, shuffle=True)  # type: ignore[arg-type]
    model, before = MODELS["llama"](), torch.get_rng_state()
    probe(model, loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_that_one_estimator_cannot_take_are_left_out() -> None:
    """A layer too wide for d x d matrices, or with fewer tokens than features, does not end the probe of the others."""
    statistics = LayerStatistics(["channel", "gaussian_noise"])
    for name, n_tokens, width in (("narrow", 30, 4), ("wide", 30, 1030), ("starved", 9, 8)):
        statistics.update(name, ["a"], torch.randn(1, n_tokens, width), torch.randn(1, n_tokens, width))
    assert [row["layer"] for row in statistics.rows("a")] == ["narrow"]
    assert statistics.means("a")["miub_nats"] == statistics.rows("a")[0]["miub_nats"]
    assert "at most 1024 features, these are 1030" in str(statistics.why_not("wide", "a"))
    assert "has seen 9 tokens and needs at least 10" in str(statistics.why_not("starved", "a"))
    assert statistics.why_not("narrow", "a") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about itself
def test_compiled_models_run_uncompiled() -> None:
    """Code that was compiled before has no place for hooks."""
    plain, data = MODELS["llama"]().eval(), batch(9, 4)
    expected = [row["norm_ratio"] for row in probe(plain, data).layers]
    in_place = copy.deepcopy(plain)
    in_place.compile(backend="eager")
    for compiled in (torch.compile(copy.deepcopy(plain), backend="eager"), in_place):
        with torch.no_grad():
            compiled(**data, use_cache=False, logits_to_keep=1)
        result = probe(compiled, data)
        assert result.layers[0]["layer"] == "model.layers.0.self_attn.q_proj"
        assert [row["norm_ratio"] for row in result.layers] == expected


def test_an_untrained_adapter_carries_nothing() -> None:
    model = get_peft_model(llama(), LoraConfig(r=3, target_modules="all-linear"))
    result = probe(model, batch(9, 4))
    assert result.means["miub_nats"] == 0
    assert result.means["norm_ratio"] == 0
    assert result.means["effective_rank"] == 0


def test_result(seen: list[Seen]) -> None:
    result = loralaw.probe(MODELS["llama"](), batch(9, 4), estimators=["channel", "jsd_standardised"])
    assert isinstance(result, ProbeResult)
    first = result.layers[0]
    assert (first["layer"], first["module"]) == ("model.layers.0.self_attn.q_proj", "q_proj")
    assert list(result.means) == [name for name in first if name not in ("layer", "module", "n_tokens")]
    for name in ("miub_nats", "jsd_standardised_nats", "norm_ratio", "cosine", "effective_rank"):
        mean = sum(row[name] for row in result.layers) / len(result.layers)
        assert result.means[name] == pytest.approx(mean)
    table = result.table()
    assert table.shape == (14, len(first))
    assert table["layer"].to_list() == [row["layer"] for row in result.layers]
    plain = result.as_dict()
    assert set(plain["versions"]) == {"loralaw", "torch", "transformers", "peft"}
    assert plain["estimators"] == ["channel", "jsd_standardised"]
    assert plain["base_model"] is None
    one_row = probe(MODELS["llama"](), batch(9))
    assert one_row.as_dict()["layers"][0]["miub_stderr_nats"] is None  # one sequence says nothing about others


def merged() -> nn.Module:
    model = MODELS["llama"]()
    model.merge_adapter()
    return model


def disabled() -> nn.Module:
    model = MODELS["llama"]()
    model.base_model.disable_adapter_layers()
    return model


def broken() -> nn.Module:
    model = MODELS["llama"]()
    with torch.no_grad():
        layers_of(model)["model.layers.1.mlp.up_proj"].lora_B["default"].weight.fill_(torch.inf)
    return model


def activated() -> nn.Module:
    return lora(llama(), target_modules=["q_proj"], alora_invocation_tokens=[3], task_type="CAUSAL_LM")


def x_lora(folder: Path) -> nn.Module:
    for name in "01":
        get_peft_model(llama(), LoraConfig(r=3, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(
            folder / name
        )
    adapters = {name: str(folder / name) for name in "01"}
    return get_peft_model(llama(use_cache=False), XLoraConfig(task_type="CAUSAL_LM", hidden_size=16, adapters=adapters))


def adaptive() -> nn.Module:
    return get_peft_model(llama(), AdaLoraConfig(init_r=3, total_step=10, target_modules=["q_proj"]))


def on_another_adapter() -> nn.Module:
    model = get_peft_model(llama(), LoHaConfig(target_modules=["q_proj"]), mixed=True)
    model.add_adapter("other", LoraConfig(r=3, target_modules=["q_proj"]))
    model.set_adapter(["default", "other"])
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "no adapter": (llama, batch(9), "has no LoRA layer"),
    "merged": (merged, batch(9), r"unmerge_adapter\(\)"),
    "disabled": (disabled, batch(9), r"enable_adapter_layers\(\)"),
    "not finite": (broken, batch(9), "^model.layers.1.mlp.up_proj: .* not a finite number"),
    "a variant of another kind": (activated, batch(9), "ALoraLinearVariant"),
    "AdaLoRA": (adaptive, batch(9), "SVDLinear is not measured"),
    "LoRA on another adapter": (on_another_adapter, batch(9), "no frozen layer but another adapter's Linear"),
    "no model": (lambda: None, batch(9), "the model is a NoneType"),
    "a folder": (lambda: "some/folder", batch(9), "load_adapted_model"),
    "no data": (MODELS["llama"], None, "is a NoneType"),
    "one token": (MODELS["llama"], {"input_ids": torch.ones(1, 1, dtype=torch.int64)}, "1 token"),
    "empty": (MODELS["llama"], [], "the dataset is empty"),
    "no token": (MODELS["llama"], [{"input_ids": []}], "no token"),
    "a string": (MODELS["llama"], "some text", "one string"),
    "numbers": (MODELS["llama"], [1, 2], "holds a int"),
    "a number": (MODELS["llama"], 3, "is a int"),
    "texts without a tokenizer": (MODELS["llama"], ["some text"], "tokenizer="),
    "a row that is no text": (MODELS["llama"], ["some text", None], "row 1 .* NoneType"),
    "rows, then texts": (MODELS["llama"], [{"text": "x"}, "some text"], "row 1 .* a str, not like the first"),
    "texts, then rows": (MODELS["llama"], ["some text", {"input_ids": [1]}], "row 1 .*'input_ids'.*not like"),
    "two kinds of rows": (MODELS["llama"], [{"input_ids": [1]}, {"text": "x"}], "row 1 .*'text'.*not like"),
    "broken text": (MODELS["llama"], ["some text", "\ud800"], "row 1 .* no valid Unicode"),
    "no text": (MODELS["llama"], [{"text": None}], "row 0 .* NoneType where a text"),
    "no ids": (MODELS["llama"], [{"input_ids": None}], "row 0 .* no list of numbers"),
    "truths": (MODELS["llama"], [{"input_ids": torch.ones(3, dtype=torch.bool)}], "row 0 .* torch.bool"),
    "a batch of truths": (MODELS["llama"], {"input_ids": torch.ones(2, 3, dtype=torch.bool)}, "batch 0 .* torch.bool"),
    "other columns": (MODELS["llama"], [{"sentence": "x"}], "'sentence'"),
    "a dict of splits": (MODELS["llama"], {"train": [], "test": []}, "'train', 'test'"),
    "ragged lists": (MODELS["llama"], [{"input_ids": [[1], [2, 3]]}], "row 0 .* no list of numbers"),
    "real numbers": (MODELS["llama"], [{"input_ids": [0.5, 1.0]}], "row 0 .* whole numbers"),
    "lengths": (MODELS["llama"], [{"input_ids": [1, 2], "attention_mask": [1]}], "row 0 .* same length"),
    "a mask of another shape": (
        MODELS["llama"],
        {"input_ids": torch.ones(1, 3, dtype=torch.int64), "attention_mask": torch.ones(1, 1, 3, 3)},
        "attention_mask is",
    ),
    "a batch unlike the first": (MODELS["llama"], [batch(3), {"input_ids": [1]}], "batch 1 .* not like the first"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_is_said_in_one_sentence(what: str) -> None:
    make, data, said = REFUSED[what]
    with pytest.raises(InputError, match=said):
        probe(make(), data)


def test_other_refusals() -> None:
    for settings in ({"batch_size": 0}, {"batch_size": 1.5}, {"max_length": "8"}, {"max_length": True}):
        with pytest.raises(InputError, match="give a whole number of at least 1"):
            probe(MODELS["llama"](), batch(9), **settings)
    with pytest.raises(InputError, match="chanel"):
        probe(MODELS["llama"](), batch(9), estimators=["chanel"])
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    model = lora(t5, target_modules=["q"])
    with pytest.raises(InputError, match="an encoder with a decoder"):
        probe(model, batch(9))
    assert len(probe(model.get_encoder(), batch(9)).layers) == 1


def test_a_mixture_of_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="X-LoRA is not measured"):
        probe(x_lora(tmp_path), batch(9, 4))


class Attention(nn.Module):
    """A layer that PEFT adapts from inside (torch's own attention) and one that it adapts from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 8)
        self.mixer = nn.Bilinear(8, 8, 8, bias=False)
        self.unused = nn.Linear(8, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embed(input_ids)
        return self.out(self.mixer(x, self.attention(x, x, x)[0]))


def test_layers_that_are_not_measured_are_listed_with_the_reason() -> None:
    model = get_peft_model(Attention(), LoraConfig(r=2, target_modules=["attention", "out", "unused"]))
    model.add_adapter("other", LoraConfig(r=2, target_modules=["embed"]))
    result = probe(with_random_adapters(model), batch(9, 4))
    assert [row["layer"] for row in result.layers] == ["out"]
    assert "MultiheadAttention" in result.skipped["attention"]
    assert "set_adapter" in result.skipped["embed"]
    assert "no token" in result.skipped["unused"]

    model = lora(Attention(), target_modules=["out"], target_parameters=["mixer.weight"])
    assert "changes the weights of this Bilinear" in probe(model, batch(9, 4)).skipped["mixer"]


def test_a_forward_that_asks_for_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"])), torch.arange(8).view(2, 4)
    known, forward = probe(model, {"input_ids": batch}), LlamaForCausalLM.forward

    def with_gradients(self: LlamaForCausalLM, input_ids: Tensor, **inputs: Any) -> Any:
        with torch.enable_grad():
            return forward(self, input_ids, **inputs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", with_gradients)
    assert probe(model, {"input_ids": batch}).layers == known.layers


def longformer() -> LongformerModel:
    """It pads to whole windows inside, and its attention works on (length, rows, features)."""
    settings = {"attention_window": 16, "max_position_embeddings": 70, "pad_token_id": 1}
    return LongformerModel(LongformerConfig(**(bert_config().to_dict() | settings)), add_pooling_layer=False)


def xlnet() -> XLNetModel:
    return XLNetModel(XLNetConfig(vocab_size=VOCABULARY, d_model=16, n_layer=2, n_head=2, d_inner=24))


@pytest.mark.parametrize(("build", "modules"), [(longformer, ["query", "dense"]), (xlnet, ["layer_1", "layer_2"])])
def test_padding_and_order_that_a_model_makes_inside(build: Callable[[], nn.Module], modules: list[str]) -> None:
    model = lora(build(), target_modules=modules)
    rows = [{"input_ids": ids[mask.bool()]} for ids, mask in zip(*batch(13, 9, 5, 12, 6).values(), strict=True)]
    alone, together = (probe(model, rows, batch_size=size) for size in (1, 5))
    for one, other in zip(alone.layers, together.layers, strict=True):
        assert one["n_tokens"] == other["n_tokens"] == 45, one["layer"]
        assert one["miub_nats"] == pytest.approx(other["miub_nats"], rel=1e-4), one["layer"]


def test_rows_without_a_token_do_not_count_in_a_pooler() -> None:
    model = lora(BertModel(bert_config()), target_modules=["pooler.dense", "key"])
    ids = torch.randint(1, VOCABULARY, (4, 6))
    mask = torch.ones_like(ids)
    mask[3] = 0
    without = probe(model, {"input_ids": ids[:3], "attention_mask": mask[:3]})
    result = probe(model, {"input_ids": ids, "attention_mask": mask})
    assert [row["n_tokens"] for row in result.layers] == [row["n_tokens"] for row in without.layers] == [18, 18, 3]
    assert result.means["miub_nats"] == pytest.approx(without.means["miub_nats"])


def test_a_model_that_draws_leaves_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model, forward = lora(llama(), target_modules=["q_proj"]), LlamaForCausalLM.forward
    monkeypatch.setattr(
        LlamaForCausalLM, "forward", lambda self, **inputs: (torch.randn(3), forward(self, **inputs))[1]
    )
    before = torch.get_rng_state()
    probe(model, [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5, 6]}])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_without_a_table_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> None:
        raise NotImplementedError("get_input_embeddings not auto-handled")

    model = lora(llama(), target_modules=["q_proj"])
    monkeypatch.setattr(LlamaForCausalLM, "get_input_embeddings", none)
    assert len(probe(model, [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5, 6]}]).layers) == 2
