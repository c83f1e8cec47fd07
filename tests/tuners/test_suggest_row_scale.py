"""The suggested row scale against regressions whose best α is known, and where there is nothing to suggest."""

import doctest
import math
import re
import sys
from typing import Any

import pytest
import torch
from adapted_models import CASES, convolutions, gpt2, llama
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

import loralaw
from loralaw.errors import InputError, ModelError
from loralaw.models import find_model
from loralaw.tuners import AlphaLoraConfig, RowScaleSuggestion, line_search, row_scale_drift, row_scales
from loralaw.tuners import suggest_row_scale as suggest
from loralaw.tuners.row_scale_layers import frozen_layers
from loralaw.tuners.scaled_losses import NOT_READ, batch_losses, measure_slopes

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
IN, OUT, PER_BATCH = 6, 5, 16
DOWN = "model.layers.1.mlp.down_proj"
Data = list[dict[str, Tensor]]


class Regression(nn.Module):
    """One linear layer and the mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(IN, OUT, bias=False)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.layer(x), labels)}


def regression(alpha: float, *, noise: float = 0.5, seed: int = 0, n_batches: int = 8) -> tuple[nn.Module, Data]:
    """A layer W_s, and batches of targets W_t x + noise with W_t = α W_s + a part orthogonal to W_s."""
    torch.manual_seed(seed)
    model = Regression()
    source = model.layer.weight.detach()
    other = torch.randn(OUT, IN) * 0.2
    other -= (other * source).sum() / source.square().sum() * source
    target = alpha * source + other
    inputs = [torch.randn(PER_BATCH, IN) for _ in range(n_batches)]
    return model, [{"x": x, "labels": x @ target.T + noise * torch.randn(PER_BATCH, OUT)} for x in inputs]


def micro() -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(find_model("micro-0.4m").location, dtype=torch.float32)


@torch.no_grad()
def own_labels(model: nn.Module, n_batches: int = 8, seed: int = 0, n_tokens: int = 24) -> Data:
    """Random tokens and what the model itself might say next: no change of it lowers the expected loss."""
    random = torch.Generator().manual_seed(seed)
    data = []
    for _ in range(n_batches):
        ids = torch.randint(3, model.config.vocab_size, (8, n_tokens), generator=random)
        next_tokens = model(input_ids=ids).logits[:, :-1].softmax(-1).flatten(0, 1)
        drawn = torch.multinomial(next_tokens, 1, generator=random).view(len(ids), -1)
        data.append({"input_ids": ids, "labels": torch.cat([ids[:, :1], drawn], dim=1)})
    return data


def texts() -> Data:
    """Random tokens, and what `llama()` might say next if some of its layers put out more."""
    model = llama()
    with torch.no_grad():
        for name, factor in {"0.mlp.down_proj": 3, "1.self_attn.o_proj": 3, "1.mlp.gate_proj": 2}.items():
            model.get_submodule(f"model.layers.{name}").weight.mul_(factor)
    return own_labels(model, seed=3)


def of(suggestion: RowScaleSuggestion, name: str) -> dict[str, Any]:
    return next(row for row in suggestion.layers if row["layer"] == name)


@pytest.mark.parametrize("alpha", [0.4, 0.8, 1.7, 3.0])
def test_the_best_scale_of_a_linear_layer_is_found(alpha: float) -> None:
    model, data = regression(alpha, n_batches=32)
    suggestion = suggest(model, data)

    y = torch.cat([model.layer(batch["x"]) for batch in data[::2]]).detach()
    t = torch.cat([batch["labels"] for batch in data[::2]])
    assert suggestion.row_scales["layer"] == pytest.approx(float((t * y).sum() / y.square().sum()), rel=1e-3)
    assert suggestion.row_scales["layer"] == pytest.approx(alpha, abs=0.15)  # ⟨W_t, W_s⟩/‖W_s‖², up to 256 rows' noise
    assert suggestion.has_evidence
    assert suggestion.held_out_change < 0


@pytest.mark.parametrize(("alpha", "limit"), [(9.0, 5.0), (-2.0, 0.2)])
def test_no_scale_leaves_its_limits(alpha: float, limit: float) -> None:
    model, data = regression(alpha)
    suggestion = suggest(model, data)
    assert suggestion.row_scales["layer"] == pytest.approx(limit)
    assert "[0.2, 5]" in suggestion.status


def test_where_1_is_best_there_is_no_evidence() -> None:
    """And |t| passes 2 about as often as it does by chance, once in 22 times."""
    found = [suggest(*regression(1.0, seed=seed)) for seed in range(100)]
    assert sum(suggestion.has_evidence for suggestion in found) <= 1
    assert all(s.has_evidence or s.row_scales == {"layer": 1.0} for s in found)
    assert 1 <= sum(abs(suggestion.layers[0]["t"]) > 2 for suggestion in found) <= 11


def test_labels_that_the_model_itself_drew_are_no_evidence() -> None:
    model = micro()
    for seed in range(4):
        suggestion = suggest(model, own_labels(model, seed=seed))
        assert not suggestion.has_evidence
        assert set(suggestion.row_scales.values()) == {1.0}
        assert suggestion.status.startswith("No evidence, all α are 1")


def test_a_layer_whose_weights_were_doubled_is_halved() -> None:
    model = micro()
    data = own_labels(model)
    with torch.no_grad():
        model.get_submodule(DOWN).weight.mul_(2)

    alone = suggest(model, data, target_modules=[DOWN])
    assert alone.row_scales == {DOWN: pytest.approx(0.5, abs=0.1)}

    among_all = suggest(model, data)
    largest = max(among_all.layers, key=lambda row: abs(row["t"]))
    assert largest["module_type"] in ("down_proj", "up_proj")  # a factor of the one is a factor of the other
    assert among_all.row_scales[DOWN] < 1
    assert among_all.held_out_change < -2 * among_all.held_out_standard_error


def test_what_the_held_out_batches_contradict_is_not_suggested() -> None:
    model, data = regression(1.0)
    for number, batch in enumerate(data):
        batch["labels"] = batch["labels"] * (3 if number % 2 == 0 else 0.5)
    suggestion = suggest(model, data)
    assert abs(suggestion.layers[0]["t"]) > suggestion.t_threshold
    assert suggestion.held_out_change > 0
    assert suggestion.row_scales == {"layer": 1.0}
    assert not suggestion.has_evidence
    assert "had to fall by more than 3.31 standard errors" in suggestion.status
    assert suggestion.layers[0]["reason"] == "the loss of the held-out batches did not fall enough"


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("number", [2, 5])
def test_a_loss_that_is_not_finite(alpha: float, number: int) -> None:
    """In a batch that is to check no less than in one of the others, and also where there is nothing to check."""
    model, data = regression(alpha)
    data[number]["labels"][0] = math.nan
    with pytest.raises(InputError, match=f"the loss of batch {number} is nan: leave out"):
        suggest(model, data)


class Overflows(Regression):
    """Its loss is infinite where the layer puts out more than it does."""

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = super().forward(x, labels)["loss"]
        y = self.layer(x)
        is_larger = bool((y[0] / (x[0] @ self.layer.weight.T) > 1.5).all())
        return {"loss": loss * math.inf if is_larger and bool(labels[0, 0] == 7) else loss}


def test_a_loss_that_is_not_finite_with_the_suggestion() -> None:
    torch.manual_seed(0)
    model = Overflows()
    _, data = regression(2.0)
    data = [{"x": batch["x"], "labels": 2 * model.layer(batch["x"]).detach()} for batch in data]
    data[5]["labels"][0, 0] = 7
    suggestion = suggest(model, data)
    assert suggestion.row_scales == {"layer": 1.0}
    assert suggestion.held_out_change is suggestion.held_out_standard_error is None
    assert suggestion.status.endswith("with others the loss of 1 of the 4 held-out batches is not finite.")


def test_batches_that_do_not_differ_are_no_evidence() -> None:
    model, data = regression(2.0, n_batches=10)
    same_batch = suggest(model, data[:1] * 10)
    assert same_batch.row_scales == {"layer": 1.0}
    assert same_batch.held_out_standard_error == 0
    assert same_batch.status.endswith("the same in each: they show nothing.")
    row = {name: value[:1].expand(PER_BATCH, -1) for name, value in data[0].items()}
    same_row = suggest(model, [row] * 10)
    assert same_row.row_scales == {"layer": 1.0}
    assert not same_row.has_evidence


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_outputs_whose_squares_leave_the_range(size: float) -> None:
    class Scaled(Regression):
        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": nn.functional.mse_loss(self.layer(x) / size, labels)}

    _, data = regression(2.0)
    model = Scaled()
    with torch.no_grad():
        model.layer.weight.mul_(size)
    with pytest.raises(InputError, match="layer: what this layer puts out is too small or too large to be squ"):
        suggest(model, data)


@pytest.mark.parametrize("lowest", [0.002, 0.04, 0.1, 0.3, 0.61, 0.9, 2.0])
def test_the_line_search(lowest: float) -> None:
    asked = []

    def loss_at(step: float) -> float:
        asked.append(step)
        return math.nan if step > 0.8 else (step - lowest) ** 2

    step = line_search.best_step(loss_at, lowest**2, first=0.1, limit=0.85)
    assert step == pytest.approx(lowest if lowest < 0.82 else 0.8, abs=1e-3)
    assert len(asked) <= 8
    assert min(asked) > 0
    assert max(asked) <= 0.85


class DoubleLoss(nn.Module):
    """GPT-2 in float64, and its loss too, which transformers rounds to float32."""

    def __init__(self) -> None:
        super().__init__()
        self.model = gpt2().double()

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(input_ids).logits[:, :-1].flatten(0, 1)
        return {"loss": nn.functional.cross_entropy(logits, labels[:, 1:].flatten())}


def test_slopes_are_those_of_the_loss() -> None:
    model = DoubleLoss()
    layers, batches = frozen_layers(model, ["c_attn", "c_proj", "c_fc", "wte"]), list(enumerate(texts()[:2]))
    losses, measured = measure_slopes(model, layers, batches)
    assert list(losses) == pytest.approx(list(batch_losses(model, layers, batches, {})), rel=1e-12)
    assert len(layers) == 9
    for name in layers:
        up, down = (batch_losses(model, layers, batches, {name: 1 + step}) for step in (1e-4, -1e-4))
        expected = (up - down) / 2e-4
        assert [s.mean() for s in measured[name].slopes] == pytest.approx(list(expected), rel=1e-5, abs=1e-10)


class Twice(nn.Module):
    """A layer that is called twice, one that is not called, one without a row for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.idle, self.table = nn.Linear(IN, IN), nn.Linear(IN, IN), nn.Linear(IN, IN)
        self.unread = nn.Linear(IN, IN)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.unread(x)
        y = self.shared(torch.tanh(self.shared(x))) + self.table(x[:1])
        return {"loss": nn.functional.mse_loss(y, labels)}


def test_layers_that_are_called_twice_or_never() -> None:
    torch.manual_seed(0)
    model = Twice().double()
    inputs = [torch.randn(8, IN, dtype=torch.float64) for _ in range(8)]
    data = [{"x": x, "labels": 3 * x} for x in inputs]
    layers, batches = frozen_layers(model, None), list(enumerate(data))
    up, down = (batch_losses(model, layers, batches, {"shared": 1 + step}) for step in (1e-5, -1e-5))
    _, measured = measure_slopes(model, layers, batches)
    assert [s.mean() for s in measured["shared"].slopes] == pytest.approx(list((up - down) / 2e-5), rel=1e-6)

    suggestion = suggest(model, data)
    reasons = {row["layer"]: row["reason"] for row in suggestion.layers if row["layer"] != "shared"}
    assert reasons == {
        "idle": "the model does not call this layer on these data",
        "table": "its output of the shape (1, 6) has not one entry for each of 8 examples",
        "unread": NOT_READ,
    }
    assert all(of(suggestion, name)["t"] is None for name in reasons)
    with pytest.raises(InputError, match="none of the 1 layers can be measured; idle: the model does not call"):
        suggest(model, data, target_modules=["idle"])


def test_a_layer_whose_outputs_are_cut_to_0_has_no_evidence() -> None:
    class Cut(Regression):
        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": (torch.relu(self.layer(x) - 1e3) + x[:, :1] - labels).square().mean()}

    row = suggest(Cut(), regression(2.0)[1]).layers[0]
    assert (row["slope"], row["standard_error"], row["t"]) == (0, 0, None)
    assert row["reason"] == "the slope of the loss is the same in all examples"


def test_padding_does_not_count() -> None:
    model = llama()
    data = texts()
    padded = [
        {
            "input_ids": nn.functional.pad(batch["input_ids"], (0, 9), value=1),
            "labels": nn.functional.pad(batch["labels"], (0, 9), value=-100),
            "attention_mask": nn.functional.pad(torch.ones_like(batch["labels"]), (0, 9)),
        }
        for batch in data
    ]
    plain, with_padding = suggest(model, data), suggest(model, padded)
    assert plain.has_evidence
    assert with_padding.row_scales == pytest.approx(plain.row_scales, rel=1e-3)


def test_all_kinds_of_layers() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convolutions()
            self.words = nn.Embedding(9, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            signal = self.words(x).mean(1)[:, :3]  # (examples, 3)
            one = self.net.one(signal[..., None].expand(-1, -1, 8))
            two = self.net.two(signal[..., None, None].expand(-1, -1, 2, 2))
            three = self.net.three(signal[..., None, None, None].expand(-1, -1, 2, 2, 2))
            return {"loss": sum((part - 1).square().mean() for part in (one, two, three))}

    torch.manual_seed(0)
    data = [{"x": torch.randint(0, 9, (6, 5))} for _ in range(8)]
    suggestion = suggest(Loss(), data, target_modules=["words", "one", "two", "three"])
    assert list(suggestion.row_scales) == ["net.one", "net.two", "net.three", "words"]
    assert all(row["t"] is not None for row in suggestion.layers)


def untrained(kind: type[LoraConfig], **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(llama(), kind(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **settings))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(LoraConfig, {"lora_dropout": 0.5}), (AlphaLoraConfig, {}), (AlphaLoraConfig, {"row_scale_memory": "recompute"})],
)
def test_of_an_adapted_model_the_frozen_layers_are_scaled(kind: type[LoraConfig], settings: dict[str, Any]) -> None:
    expected = suggest(llama(), texts())
    adapted = suggest(untrained(kind, **settings), texts())
    assert expected.has_evidence
    assert adapted.row_scales == pytest.approx(expected.row_scales, rel=1e-4)
    assert adapted.held_out_change == pytest.approx(expected.held_out_change, rel=1e-3)


def test_bfloat16() -> None:
    plain, rough = suggest(llama(), texts()), suggest(llama().bfloat16(), texts())
    ts = [(of(plain, row["layer"])["t"], row["t"]) for row in rough.layers]
    assert all(abs(one - other) < 0.05 * abs(one) + 0.3 for one, other in ts)
    with pytest.raises(InputError, match=r"q_proj computes in float16.*bfloat16 or float32"):
        suggest(llama().half(), texts())


def test_layers_in_8_bits() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="quantises layers on a processor")
    model = llama()
    block = model.model.layers[0].mlp
    made = bitsandbytes.nn.Linear8bitLt(48, 32, False, has_fp16_weights=False)
    made.load_state_dict({"weight": block.down_proj.weight})
    block.down_proj = made
    rough = suggest(model, texts(), target_modules=["down_proj", "q_proj"])
    plain = suggest(llama(), texts(), target_modules=["down_proj", "q_proj"])
    for row in plain.layers:
        assert of(rough, row["layer"])["t"] == pytest.approx(row["t"], rel=0.1, abs=0.3)


class Fails(nn.Module):
    """A model whose pass over one batch ends in an error."""

    def __init__(self, model: nn.Module, at: int) -> None:
        super().__init__()
        self.model, self.n_calls, self.at = model, 0, at

    def forward(self, **batch: Tensor) -> Any:
        self.n_calls += 1
        torch.rand(1)
        output = self.model(**batch)
        if self.n_calls == self.at:
            raise RuntimeError("out of luck")
        return output


@pytest.mark.parametrize("at", [0, 2, 6])
def test_the_model_is_left_as_it_was(at: int) -> None:
    """Also when a pass fails, in the search for slopes or along the line; the loader draws an order of its own."""
    model = Fails(untrained(AlphaLoraConfig), at)
    model.train()
    model.model.base_model.model.model.layers[0].eval()
    some = next(p for p in model.parameters() if p.requires_grad)
    some.grad = torch.full_like(some, 7.0)
    rows = [{name: value[i] for name, value in batch.items()} for batch in texts() for i in range(8)]
    loader = DataLoader(rows, batch_size=8, shuffle=True)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def look() -> list[Any]:
        return [
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
            [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
            [parameter.grad is not None for parameter in model.parameters()],
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
        ]

    before = look()
    if at:
        with pytest.raises(RuntimeError, match="out of luck"):
            suggest(model, loader)
    else:
        suggest(model, loader)
    assert look() == before
    assert bool((some.grad == 7).all())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_frozen_models_and_callers_without_gradients() -> None:
    expected = suggest(llama(), texts())
    with torch.no_grad():
        assert suggest(llama().requires_grad_(False), texts()).row_scales == expected.row_scales


def test_callers_in_inference_mode() -> None:
    model, data = regression(2.0)
    with torch.inference_mode(), pytest.raises(InputError, match=r"under torch\.inference_mode\(\).*call it outside"):
        suggest(model, data)


class Checkpointed(nn.Module):
    """Two layers, of which the second's are computed again for the backward pass."""

    def __init__(self, use_reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.use_reentrant = nn.Linear(IN, IN), nn.Linear(IN, OUT), use_reentrant

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        y = self.first(x)
        if self.use_reentrant is None:
            y = torch.tanh(self.second(y))
        else:
            y = checkpoint(lambda y: torch.tanh(self.second(y)), y, use_reentrant=self.use_reentrant)
        return {"loss": nn.functional.mse_loss(y, labels)}


def test_checkpoints_in_evaluation_mode() -> None:
    _, data = regression(2.0)
    expected, found = suggest(Checkpointed(None), data), suggest(Checkpointed(False), data)
    assert expected.has_evidence
    assert found.layers == expected.layers
    with pytest.raises(InputError, match=r"use_reentrant=True, which.*give it use_reentrant=False"):
        suggest(Checkpointed(True), data)


class WithoutGradients(Regression):
    """A part or all of it is cut off."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with torch.set_grad_enabled(self.how != "no_grad"):
            loss = super().forward(x, labels)["loss"]
        return {"loss": loss.detach() if self.how == "detach" else loss}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no_grad", r"the model calls this layer without gradients: under torch\.no_grad\(\)"),
        ("detach", "the loss has no gradient in what this layer puts out: .* was detached from it"),
    ],
)
def test_models_without_gradients(how: str, words: str) -> None:
    _, data = regression(2.0)
    with pytest.raises(InputError, match=f"none of the 1 layers can be measured; layer: {words}"):
        suggest(WithoutGradients(how), data)


def test_the_table_can_be_read() -> None:
    model = llama()
    suggestion = suggest(model, texts(), target_modules=["q_proj", "up_proj", "down_proj"])
    lines = str(suggestion).splitlines()
    assert lines[0].startswith("Suggested row scale α of 6 layers, from 32 examples. With them the loss of the 4 held")
    assert " ".join(lines[2].split()) == "module type layers with evidence lowest α median α highest α largest |t|"
    assert [line.split()[:2] for line in lines[3:6]] == [["q_proj", "2"], ["up_proj", "2"], ["down_proj", "2"]]
    n_without = sum(not row["has_evidence"] for row in suggestion.layers)
    assert lines[7] == f"α = 1 in {n_without} of the layers: the slope of the loss has |t| <= 2.86"


# The configuration


def test_a_suggestion_is_where_training_begins(tmp_path: Any) -> None:
    suggestion = suggest(llama(), texts())
    config = CASES["all-linear, rslora"].config(init_row_scale=suggestion)
    assert config.init_row_scale == suggestion.row_scales
    model = get_peft_model(llama(), config)
    alphas = row_scales(model)
    assert list(alphas) == list(suggestion.row_scales)
    for name, alpha in alphas.items():
        assert alpha.tolist() == pytest.approx([suggestion.row_scales[name]] * len(alpha))
    drifts = row_scale_drift(model)  # from 1, not from where it begins
    assert max(drifts.values()) == pytest.approx(
        max(
            math.sqrt(sum((suggestion.row_scales[n] - 1) ** 2 for n in alphas if n.endswith(kind)) / 2)
            for kind in drifts
        ),
        rel=1e-4,
    )
    held_out = texts()[1::2]
    with torch.no_grad():
        changes = [float(model(**batch).loss - llama()(**batch).loss) for batch in held_out]
    assert sum(changes) / len(changes) == pytest.approx(suggestion.held_out_change, rel=1e-3)

    model.save_pretrained(tmp_path)
    assert AlphaLoraConfig.from_pretrained(tmp_path).init_row_scale == suggestion.row_scales
    with torch.no_grad():
        alphas["model.layers.0.self_attn.q_proj"].fill_(1.5)  # what training made of it is what counts
    model.save_pretrained(tmp_path)
    again = row_scales(type(model).from_pretrained(llama(), tmp_path))
    assert all(torch.equal(again[name], alpha) for name, alpha in alphas.items())


def test_layers_without_a_name_begin_at_1() -> None:
    name = "model.layers.1.self_attn.q_proj"
    model = CASES["linear"].adapted(init_row_scale={name: 0.5, "lm_head": 1})
    assert {n: alpha[0].item() for n, alpha in row_scales(model).items() if alpha[0] != 1} == {name: 0.5}
    model.add_adapter("other", CASES["linear"].config(init_row_scale={name: 2}))
    model.add_weighted_adapter(["default", "other"], [1.0, 1.0], "both", "cat")
    assert set(row_scales(model, "both")[name].tolist()) == {1.5}


def test_tasks_begin_alike() -> None:
    name = "model.layers.0.self_attn.q_proj"
    model = CASES["linear"].adapted(init_row_scale={name: 0.5}, row_scale_tasks=["one", "two"])
    for task in ("one", "two"):
        model.set_task(task)
        assert set(row_scales(model)[name].tolist()) == {0.5}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model.layers.0.self_attn.q_prj": 2.0}, ['"model.layers.0.self_attn.q_prj"', 'Did you mean "model.layers.0']),
        ({"q_proj": 2.0}, ['"q_proj", which is no layer of LlamaForCausalLM', "such as model.layers.0.self_attn.q_"]),
        ({"model.layers.0.self_attn.o_proj": 2}, ["o_proj the row scale 2", "target_modules leaves this layer alone"]),
    ],
)
def test_names_that_nothing_would_hold(given: dict[str, float], words: list[str]) -> None:
    base = llama()
    with pytest.raises(InputError) as error:
        get_peft_model(base, CASES["linear"].config(init_row_scale=given))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert type(base.model.layers[0].self_attn.q_proj) is nn.Linear


@pytest.mark.parametrize("given", [{"model.layers.0.self_attn.q_proj": 1e5}, -1e5])
def test_row_scales_that_the_model_cannot_hold(given: Any) -> None:
    base = llama().half()
    with pytest.raises(InputError, match=r"init_row_scale.*=-?100000: .*float16, .* up to 65504: .* bfloat16"):
        get_peft_model(base, CASES["linear"].config(init_row_scale=given))
    assert type(base.model.layers[0].self_attn.q_proj) is nn.Linear
    get_peft_model(llama().bfloat16(), CASES["linear"].config(init_row_scale=given))


@pytest.mark.parametrize("value", [math.nan, "2"])
def test_a_configuration_is_checked_again_where_it_is_used(value: Any) -> None:
    name, base = "model.layers.0.self_attn.q_proj", llama()
    config = CASES["all-linear, rslora"].config(init_row_scale={name: 2.0})
    config.init_row_scale[name] = value
    with pytest.raises(InputError, match=re.escape(f'init_row_scale["{name}"]={value!r}')):
        get_peft_model(base, config)
    assert type(base.model.layers[0].self_attn.q_proj) is nn.Linear
    config.init_row_scale = suggest(base, texts())
    assert row_scales(get_peft_model(base, config))[name][0] == pytest.approx(config.init_row_scale[name])


def test_names_where_peft_chooses_the_layers() -> None:
    config = AlphaLoraConfig(r=2, init_row_scale={"model.layers.0.self_attn.o_proj": 2.0})  # its choice: q and v
    with pytest.raises(InputError, match="target_modules leaves this layer alone"):
        get_peft_model(llama(), config)


# What cannot be


class NoLoss(nn.Module):
    def __init__(self, loss: Any = None) -> None:
        super().__init__()
        self.layer, self.loss = nn.Linear(IN, OUT), loss

    def forward(self, x: Tensor, **_: Any) -> dict[str, Any]:
        y = self.layer(x)
        return {"y": y} if self.loss is None else {"loss": y.mean() * self.loss}


ROWS = [{"x": torch.ones(2, IN)}] * 8
LABELLED = [{**row, "labels": torch.ones(2)} for row in ROWS]


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (NoLoss(), ROWS, "NoLoss has no loss, and batch 0 holds x and no labels: add them"),
        (NoLoss(), LABELLED, "has no loss, though batch 0 holds x, labels: give a model whose forward computes one"),
        (NoLoss(math.nan), ROWS, "the loss of batch 0 is nan.*-100.*bfloat16"),
        (NoLoss(torch.ones(3)), ROWS, r"has the shape \(3,\).*one real number"),
        (NoLoss(torch.tensor(1j)), ROWS, r"is in torch.complex64.*one real number"),
        (NoLoss(1.0), ROWS[:7], "7 batches, and at least 8 are needed"),
        (NoLoss(1.0), ROWS[0], "data is one dict: half of the batches check"),
        (NoLoss(1.0), "text", "data is of type str: give a DataLoader"),
        (NoLoss(1.0), [(1, 2)] * 8, "batch 0 is of type tuple"),
        (NoLoss(1.0), [{"x": [1, 2]}] * 8, "batch 0 holds x, none a tensor"),
        (NoLoss(1.0), [{"x": torch.ones(2, IN), 3: 1}] * 8, "batch 0 has the name 3, which is no text"),
        ("a model", ROWS, "the model is of type str"),
        (nn.ReLU(), ROWS, r"target_modules='all-linear' names no layer of ReLU"),
    ],
)
def test_refusals(model: Any, data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        suggest(model, data)


def test_refused_layers() -> None:
    with pytest.raises(InputError, match=r"\['layr'\] names no layer of NoLoss\. Did you mean \"layer\"\?"):
        suggest(NoLoss(1.0), ROWS, target_modules=["layr"])
    for target_modules in (5, [None], ["layer", 3]):
        with pytest.raises(InputError, match=re.escape(f"target_modules={target_modules!r}: give names of layers")):
            suggest(NoLoss(1.0), ROWS, target_modules=target_modules)
    with pytest.raises(InputError, match=r"target_modules='\[layer' is no regular expression \(unterminated"):
        suggest(NoLoss(1.0), ROWS, target_modules="[layer")
    with pytest.raises(ModelError, match=r"names model.layers.0.mlp, a LlamaMLP.*Accepted: Linear, Conv1D"):
        suggest(llama(), texts(), target_modules=["mlp"])
    attention = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2)})
    with pytest.raises(ModelError, match=r"attention\.out_proj is read by nn\.MultiheadAttention"):
        suggest(attention, ROWS)


def test_refused_adapters() -> None:
    model = untrained(AlphaLoraConfig)
    with pytest.raises(InputError, match=r"target_modules='all-linear' for a model whose 14 adapted layers"):
        suggest(model, texts(), target_modules="all-linear")
    model.merge_adapter()
    with pytest.raises(InputError, match=r"q_proj: default is merged .* call model.unmerge_adapter\(\) first"):
        suggest(model, texts())
    with pytest.raises(InputError, match=r'the row scale of "default" is not 1 any more.*give the base model'):
        suggest(untrained(AlphaLoraConfig, init_row_scale=1.1), texts())


def test_public_names_and_examples() -> None:
    assert loralaw.suggest_row_scale is suggest
    module = sys.modules["loralaw.tuners.suggest_row_scale"]
    for one, n_examples in ((module, 8), (line_search, 2)):
        results = doctest.testmod(one)
        assert (results.attempted, results.failed) == (n_examples, 0)
