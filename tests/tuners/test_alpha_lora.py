"""α-LoRA in PEFT: what a layer computes, and that every way to use an adapter keeps it."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adapted_models import CASES, IDS, Case, as_if_trained, bert, llama, output
from hypothesis import given
from hypothesis import strategies as st
from packaging import version
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from loralaw.errors import InputError, ModelError
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, row_scale_parameters, row_scales

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("transposed", [False, True], ids=["Linear", "Conv1D"])
@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_a_layer_is_the_papers_equation(transposed: bool, use_rslora: bool, memory: str) -> None:
    layer: nn.Module = Conv1D(6, 8) if transposed else nn.Linear(8, 6)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    config = AlphaLoraConfig(
        r=4, lora_alpha=12, use_rslora=use_rslora, target_modules=["0"], row_scale_memory=memory,
        fan_in_fan_out=transposed,
    )  # fmt: skip
    model = as_if_trained(get_peft_model(nn.Sequential(layer), config))
    inside, x = model.base_model.model[0], torch.randn(5, 3, 8)
    a, b = inside.lora_A["default"].weight, inside.lora_B["default"].weight
    alpha = row_scales(model)["0"]
    s = 12 / 2 if use_rslora else 12 / 4
    expected = alpha * (x @ (weight if transposed else weight.T) + bias) + s * (x @ a.T @ b.T)
    torch.testing.assert_close(model(x), expected)


@every_case
def test_it_begins_exactly_as_the_base_model(case: Case) -> None:
    assert torch.equal(output(case.adapted()), output(case.base()))


@every_case
def test_only_the_adapter_and_alpha_get_gradients(case: Case) -> None:
    model = as_if_trained(case.adapted())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name in dict(model.named_parameters()) if "lora_" in name or "modules_to_save" in name}
    result = model(input_ids=IDS)
    (result if isinstance(result, torch.Tensor) else result.logits).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == (name in trained), name


@pytest.mark.parametrize("name", ["recompute", "Conv1D, recompute"])
def test_recomputing_gives_the_gradients_of_saving(name: str) -> None:
    gradients = []
    for memory in ("save", "recompute"):
        model = as_if_trained(CASES[name].adapted(row_scale_memory=memory))
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({name: p.grad for name, p in adapter_parameters(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def kept_bytes(model: nn.Module) -> int:
    """What autograd keeps for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=IDS, labels=IDS).loss  # noqa: B018
    return sum(kept.values())


def test_what_is_kept_for_the_backward_pass() -> None:
    """As LoRA while α is frozen, and while it is recomputed; more while it is saved."""
    case, frozen = CASES["linear"], CASES["linear"].adapted()
    for parameter in row_scale_parameters(frozen).values():
        parameter.requires_grad_(False)
    of_lora = kept_bytes(get_peft_model(case.base(), LoraConfig(r=4, lora_alpha=8, **case.settings)).eval())
    assert kept_bytes(frozen) == of_lora
    assert kept_bytes(case.adapted(row_scale_memory="recompute")) <= of_lora
    assert kept_bytes(case.adapted()) > of_lora


def test_alpha_of_one_is_lora() -> None:
    case = CASES["linear"]
    lora = as_if_trained(get_peft_model(case.base(), LoraConfig(r=4, lora_alpha=8, **case.settings)).eval())
    model = case.adapted()
    for name, parameter in adapter_parameters(lora).items():
        model.get_parameter(name).data.copy_(parameter)
    torch.testing.assert_close(output(model), output(lora), rtol=1e-6, atol=1e-6)


def test_alpha_adds_a_number_for_every_output_of_every_layer() -> None:
    case = CASES["all-linear, rslora"]
    counts = [
        get_peft_model(case.base(), kind(r=4, **case.settings)).get_nb_trainable_parameters()[0]
        for kind in (LoraConfig, AlphaLoraConfig)
    ]
    assert counts[1] - counts[0] == 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32)


@every_case
@pytest.mark.parametrize("safe", [True, False])
def test_merging_unmerging_and_unloading(case: Case, safe: bool) -> None:
    model = as_if_trained(case.adapted())
    base, adapted = output(case.base()), output(model)
    assert (adapted - base).abs().max() > 1e-2
    model.merge_adapter(safe_merge=safe)
    torch.testing.assert_close(output(model), adapted, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(output(model), adapted, rtol=1e-5, atol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(output(model), base, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output(model), adapted, rtol=1e-5, atol=1e-5)
    unloaded = model.merge_and_unload(safe_merge=safe)
    torch.testing.assert_close(output(unloaded), adapted, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name for name, _ in unloaded.named_parameters())


@every_case
def test_unloading_gives_the_base_back(case: Case) -> None:
    assert torch.equal(output(as_if_trained(case.adapted()).unload()), output(case.base()))


alphas = st.floats(-4, 4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(alpha=st.lists(alphas, min_size=3, max_size=3), seed=st.integers(0, 99), transposed=st.booleans())
def test_a_merge_can_be_taken_back_for_any_alpha(alpha: list[float], seed: int, transposed: bool) -> None:
    torch.manual_seed(seed)
    layer: nn.Module = Conv1D(3, 5) if transposed else nn.Linear(5, 3)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    model = get_peft_model(nn.Sequential(layer), AlphaLoraConfig(r=2, target_modules=["0"], fan_in_fan_out=transposed))
    model = as_if_trained(model, seed=seed)
    row_scale_parameters(model)[f"base_model.model.0.{ROW_SCALE}.default.weight"].data = torch.tensor(alpha)
    x = torch.randn(4, 5)
    apart = model(x)
    model.merge_adapter()
    torch.testing.assert_close(model(x), apart, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(layer.weight, weight, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("broken", [ROW_SCALE, "lora_B"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_adapter_is_not_merged(broken: str, value: float) -> None:
    model = as_if_trained(CASES["linear"].adapted())
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "base_layer" in name}
    first = next(p for name, p in model.named_parameters() if broken in name)
    with torch.no_grad():
        first.view(-1)[0] = value
    with pytest.raises(ValueError, match=r"(?i)broken"):
        model.merge_adapter(safe_merge=True)
    for name, parameter in model.named_parameters():
        if name in before and "q_proj" in name and "layers.0." in name:
            assert torch.equal(parameter, before[name])


def test_a_refused_merge_leaves_the_layer_alone() -> None:
    """Where only the adapter's own bias is broken, which PEFT looks at last."""
    model = as_if_trained(CASES["adapter bias"].adapted())
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        layer.lora_B["default"].bias[0] = float("nan")
    before = [tensor.detach().clone() for tensor in (layer.weight, layer.bias)]
    with pytest.raises(ValueError, match="broken"):
        model.merge_adapter(safe_merge=True)
    assert all(torch.equal(now, then) for now, then in zip((layer.weight, layer.bias), before, strict=True))


def test_convolutions_with_groups_work_and_are_not_merged() -> None:
    with pytest.warns(UserWarning, match="groups"):
        model = get_peft_model(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)), AlphaLoraConfig(r=2, target_modules=["0"]))
    model = as_if_trained(model)
    x, layer = torch.randn(2, 4, 5, 5), model.base_model.model[0]
    added = layer.lora_B["default"](layer.lora_A["default"](x)) * layer.scaling["default"]
    torch.testing.assert_close(model(x), row_scales(model)["0"].view(-1, 1, 1) * layer.base_layer(x) + added)
    with pytest.raises(NotImplementedError, match="groups > 1"):  # PEFT's own
        model.merge_adapter()


@every_case
def test_saved_and_loaded_it_is_the_same_to_the_bit(case: Case, tmp_path: Path) -> None:
    model = as_if_trained(case.adapted())
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(name.endswith(f".{ROW_SCALE}.weight") for name in saved) == len(row_scales(model))
    for options in ({}, {"low_cpu_mem_usage": True, "adapter_name": "other"}):
        loaded = PeftModel.from_pretrained(case.base(), tmp_path, **options).eval()
        assert torch.equal(output(loaded), output(model))
        assert type(next(iter(loaded.peft_config.values()))) is AlphaLoraConfig
        assert not any(p.requires_grad for p in adapter_parameters(loaded).values())


def test_what_else_is_saved_with_an_adapter(tmp_path: Path) -> None:
    model = as_if_trained(CASES["linear"].adapted(modules_to_save=["lm_head"]))
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "modules_to_save" in name).normal_()
    model.save_pretrained(tmp_path)
    assert torch.equal(output(PeftModel.from_pretrained(llama(), tmp_path).eval()), output(model))


def test_settings_survive_the_file(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "init_row_scale": 0.75,
        "train_row_scale": False,
        "row_scale_memory": "recompute",
        "row_scale_tasks": ["one", "two"],
        "init_lora_weights": "authors",
    }
    AlphaLoraConfig(r=3, target_modules=["q_proj"], **settings).save_pretrained(tmp_path)
    loaded = AlphaLoraConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in settings} == settings


@every_case
def test_two_adapters_and_the_base_by_name(case: Case) -> None:
    model = case.adapted()
    model.add_adapter("other", case.config())
    as_if_trained(model, "default", 1)
    as_if_trained(model, "other", 2)
    first = output(model)
    model.set_adapter("other")
    other = output(model)
    assert (first - other).abs().max() > 1e-2
    assert all(".other" in name for name, p in adapter_parameters(model).items() if p.requires_grad)
    assert set(row_scale_parameters(model)) == {
        name for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE in name
    }
    model.set_adapter("default")
    assert torch.equal(output(model), first)
    if case.base not in (bert, CASES["convolutions"].base):  # PEFT mixes neither heads nor convolutions' inputs here
        mixed = output(model, adapter_names=["default", "other"])
        torch.testing.assert_close(mixed, torch.stack([first[0], other[1]]), rtol=1e-5, atol=1e-5)
        alone = output(model, adapter_names=["__base__", "other"])
        torch.testing.assert_close(alone, torch.stack([output(case.base())[0], other[1]]), rtol=1e-5, atol=1e-5)
    model.delete_adapter("other")
    assert torch.equal(output(model), first)
    assert not any("other" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_two_active_adapters_follow_one_another(memory: str) -> None:
    case = CASES["linear"]
    model = case.adapted(row_scale_memory=memory)
    model.add_adapter("other", case.config(row_scale_memory=memory))
    as_if_trained(model, "default", 1)
    as_if_trained(model, "other", 2)
    model.base_model.set_adapter(["default", "other"])
    apart = output(model)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for p in adapter_parameters(model).values())
    with pytest.raises(InputError, match=r"several adapters are active .* default, other: name one"):
        row_scales(model)
    assert row_scales(model, "other").keys() == row_scales(model, "default").keys()
    model.merge_adapter()
    torch.testing.assert_close(output(model), apart, rtol=1e-4, atol=2e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(output(model), apart, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("how", ["svd", "cat", "linear"])
def test_adapters_combined_with_weights(how: str) -> None:
    """What is added to the frozen output is the weighted sum; exactly so, but for PEFT's linear A and B."""
    layer = nn.Linear(16, 12)
    config = AlphaLoraConfig(r=4, lora_alpha=8, target_modules=["0"])
    model = get_peft_model(nn.Sequential(layer), config)
    model.add_adapter("b", copy.deepcopy(config))
    as_if_trained(model, "default", 1)
    as_if_trained(model, "b", 2)
    inside, x = model.base_model.model[0], torch.randn(3, 16)
    frozen = inside.base_layer(x)
    added = {
        name: (row_scales(model, name)["0"] - 1) * frozen + x @ inside.get_delta_weight(name).T
        for name in ("default", "b")
    }
    options = {"svd_rank": 8} if how == "svd" else {}
    model.add_weighted_adapter(["default", "b"], [0.3, -0.6], "c", combination_type=how, **options)
    model.set_adapter("c")
    expected = 1 + 0.3 * (row_scales(model, "default")["0"] - 1) - 0.6 * (row_scales(model, "b")["0"] - 1)
    torch.testing.assert_close(row_scales(model, "c")["0"], expected)
    torch.testing.assert_close(model(x), expected * frozen + x @ inside.get_delta_weight("c").T, rtol=1e-5, atol=1e-5)
    if how == "cat" or (how == "svd" and version.parse(peft.__version__) >= version.parse("0.21")):
        # PEFT 0.20 does not reproduce the weighted sum of A and B by its svd, with plain LoRA neither.
        total = frozen + 0.3 * added["default"] - 0.6 * added["b"]
        torch.testing.assert_close(model(x), total, rtol=1e-5, atol=1e-5)


def test_a_layer_that_only_one_of_the_combined_adapters_has() -> None:
    model = CASES["linear"].adapted(target_modules=["q_proj"])
    model.add_adapter("b", CASES["linear"].config(target_modules=["v_proj"]))
    as_if_trained(model, "default", 1)
    as_if_trained(model, "b", 2)
    model.add_weighted_adapter(["default", "b"], [0.5, 2.0], "c", combination_type="cat")
    own, combined = row_scales(model, "default"), row_scales(model, "c")
    name = "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(combined[name], 1 + 0.5 * (own[name] - 1))


def test_combinations_without_a_meaning_are_refused() -> None:
    model = CASES["linear"].adapted()
    model.add_adapter("b", CASES["linear"].config())
    with pytest.raises(InputError, match=r'combination_type="ties".*svd, linear, cat'):
        model.add_weighted_adapter(["default", "b"], [1.0, 1.0], "c", combination_type="ties", density=0.5)
    assert "c" not in model.peft_config


def test_a_weight_too_few_makes_no_adapter() -> None:
    model = CASES["linear"].adapted()
    model.add_adapter("b", CASES["linear"].config())
    with pytest.raises(InputError, match="2 adapters and 1 weights"):
        model.add_weighted_adapter(["default", "b"], [1.0], "c", combination_type="cat")
    assert not any(".c." in name for name, _ in model.named_parameters())


def test_a_fixed_alpha_is_not_trained() -> None:
    model = CASES["linear"].adapted(init_row_scale=1.3, train_row_scale=False)
    model.add_adapter("b", CASES["linear"].config())
    for adapter in ("b", "default"):
        model.set_adapter(adapter)
        assert {p.requires_grad for p in row_scale_parameters(model).values()} == {adapter == "b"}
    with model.disable_adapter():
        pass
    assert not any(p.requires_grad for p in row_scale_parameters(model).values())
    assert all(bool((alpha == torch.tensor(1.3)).all()) for alpha in row_scales(model).values())


def test_the_authors_first_weights() -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(400, 300)), AlphaLoraConfig(r=25, target_modules=["0"], init_lora_weights="authors")
    )
    inside = model.base_model.model[0]
    a = inside.lora_A["default"].weight.detach()
    assert float(a.mean()) == pytest.approx(0, abs=4 * 0.2 / 100)  # 10,000 draws of standard deviation 1/√25
    assert float(a.std()) == pytest.approx(0.2, rel=4 / (2 * 10_000) ** 0.5)
    assert not inside.lora_B["default"].weight.any()


def test_bfloat16_keeps_alpha_in_float32() -> None:
    model = get_peft_model(llama().bfloat16(), CASES["linear"].config())
    assert {p.dtype for p in adapter_parameters(model).values()} == {torch.float32}
    assert torch.equal(output(model), output(llama().bfloat16()))
    as_if_trained(model)
    result = model(input_ids=IDS, labels=IDS)
    result.loss.backward()
    assert result.logits.dtype == torch.bfloat16
    exact = output(as_if_trained(CASES["linear"].adapted()))
    assert float((result.logits.detach() - exact).norm() / exact.norm()) < 0.03
    model.merge_adapter()
    assert float((output(model) - exact).norm() / exact.norm()) < 0.03
    model.unmerge_adapter()
    with model.disable_adapter():
        assert float((output(model) - output(llama())).norm() / output(llama()).norm()) < 0.05


def test_alpha_is_not_rounded_to_the_base_models_type(tmp_path: Path) -> None:
    config = CASES["linear"].config(init_row_scale=1.02)
    model = get_peft_model(llama().bfloat16(), config)
    assert {float(alpha[0]) for alpha in row_scales(model).values()} == {float(torch.tensor(1.02))}
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(llama().bfloat16(), tmp_path)
    assert {float(alpha[0]) for alpha in row_scales(again).values()} == {float(torch.tensor(1.02))}

    as_is = get_peft_model(llama().bfloat16(), config, autocast_adapter_dtype=False)  # α too is what A and B are
    assert {p.dtype for p in adapter_parameters(as_is).values()} == {torch.bfloat16}
    with torch.no_grad():
        assert output(as_is).dtype == torch.bfloat16
    injected = inject_adapter_in_model(config, llama().bfloat16())
    assert float(next(iter(row_scales(injected).values()))[0]) == float(torch.tensor(1.02))
    assert output(injected).dtype == torch.bfloat16
    loss = injected(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert all(alpha.grad is not None for alpha in row_scale_parameters(injected).values())


def test_recomputing_is_the_product_of_the_forward_pass() -> None:
    """Under autocast too, although the backward pass is outside of it."""
    model = CASES["recompute"].adapted()
    seen: list[torch.dtype] = []
    layer = model.base_model.model.model.layers[0].self_attn.q_proj.get_base_layer()
    layer.register_forward_hook(lambda module, args, result: seen.append(result.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert seen == [torch.bfloat16, torch.bfloat16]


@pytest.mark.skipif(version.parse(peft.__version__) < version.parse("0.21"), reason="PEFT 0.20: refused")
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_are_saved(bias: str, tmp_path: Path) -> None:
    model = as_if_trained(CASES["linear"].adapted(bias=bias))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.endswith("bias"):
                parameter.add_(0.5)
    model.save_pretrained(tmp_path)
    assert torch.equal(output(PeftModel.from_pretrained(llama(), tmp_path).eval()), output(model))


@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_gradient_checkpointing_gives_the_same_gradients(memory: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = as_if_trained(CASES["linear"].adapted(row_scale_memory=memory)).train()
        if checkpointing:
            model.activation_checkpointing_enable()
            model.enable_input_require_grads()
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({name: p.grad for name, p in adapter_parameters(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated")
@pytest.mark.parametrize("memory", ["save", "recompute"])
def test_torch_compile(memory: str) -> None:
    model = as_if_trained(CASES["linear"].adapted(row_scale_memory=memory))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=memory == "save")
    torch.testing.assert_close(output(compiled), output(model), rtol=1e-5, atol=1e-5)
    gradients = []
    for one in (model, compiled):
        model.zero_grad()
        one(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in adapter_parameters(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
    assert row_scales(compiled).keys() == row_scales(model).keys()


def test_injected_into_a_model_without_a_wrapper() -> None:
    injected = as_if_trained(inject_adapter_in_model(CASES["linear"].config(), llama())).eval()
    assert any(ROW_SCALE in name for name in get_peft_model_state_dict(injected))
    by_transformers = llama()
    by_transformers.add_adapter(CASES["linear"].config())
    assert row_scales(injected).keys() == row_scales(by_transformers).keys() != set()
    torch.testing.assert_close(output(injected), output(as_if_trained(CASES["linear"].adapted())))


def test_a_copy_is_a_model_of_its_own() -> None:
    model = as_if_trained(CASES["embedding"].adapted())
    model.add_adapter("other", CASES["embedding"].config())
    as_if_trained(model, "other", 2)
    copied = copy.deepcopy(model)
    names = ["default", "other"]
    assert torch.equal(output(copied, adapter_names=names), output(model, adapter_names=names))
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.zero_()
    assert not torch.equal(output(copied, adapter_names=names), output(model, adapter_names=names))


adapted_again = pytest.mark.filterwarnings(
    "ignore:You are trying to modify a model with PEFT for a second time", "ignore:Already found a `peft_config`"
)


@adapted_again
@pytest.mark.parametrize("case", ["linear", "embedding", "Conv1D", "convolutions"])
def test_a_base_model_that_is_adapted_again_begins_anew(case: str) -> None:
    """PEFT then calls the variant itself, on the layers of the first time."""
    base, first = CASES[case].base(), CASES[case].adapted()
    name = list(row_scales(first))[-1]
    as_if_trained(get_peft_model(base, CASES[case].config(init_row_scale=3.0)))
    again = get_peft_model(base, CASES[case].config(init_row_scale={name: 0.5}))
    assert {n: set(alpha.tolist()) for n, alpha in row_scales(again).items()} == {
        n: {0.5 if n == name else 1.0} for n in row_scales(first)
    }


@adapted_again
def test_an_adapter_that_is_made_again_without_tasks_has_none() -> None:
    base = llama()
    get_peft_model(base, CASES["linear"].config(row_scale_tasks=["a", "b"], init_row_scale=2.0))
    again = get_peft_model(base, CASES["linear"].config())
    assert all(bool((alpha == 1).all()) for alpha in row_scales(again).values())
    assert not [name for name in adapter_parameters(again) if f"{ROW_SCALE}:" in name]


@adapted_again
def test_an_adapter_that_is_loaded_again_is_the_saved_one(tmp_path: Path) -> None:
    saved = as_if_trained(CASES["all-linear, rslora"].adapted(init_row_scale={"model.layers.0.mlp.up_proj": 2.0}))
    saved.save_pretrained(tmp_path)
    base = llama()
    PeftModel.from_pretrained(base, tmp_path)
    again = PeftModel.from_pretrained(base, tmp_path)
    assert torch.equal(output(again), output(saved))


def test_it_cannot_be_turned_into_plain_lora() -> None:
    model = as_if_trained(CASES["linear"].adapted())
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert not layer.lora_variant["default"].supports_lora_conversion()


def test_plain_lora_beside_it_is_refused() -> None:
    with pytest.raises(ValueError, match="ALPHALORA"):
        CASES["linear"].adapted().add_adapter("plain", LoraConfig(target_modules=["q_proj"]))


@pytest.mark.parametrize(
    ("adapter", "words"),
    [(None, "no row scale in its active adapter"), ("tow", r'its adapter "tow"; these have one: default, two\.')],
)
def test_row_scales_that_are_not_there(adapter: str | None, words: str) -> None:
    model = CASES["linear"].adapted()
    model.add_adapter("two", CASES["linear"].config())
    with pytest.raises(InputError, match=words):
        row_scales(llama() if adapter is None else model, adapter)


def test_layers_that_are_read_and_not_called_are_refused() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(ModelError, match=r"self_attn\.out_proj is read by nn\.MultiheadAttention"):
        get_peft_model(block, AlphaLoraConfig(r=2, target_modules=["out_proj"]))
    with pytest.raises(ModelError, match=r"self_attn: PEFT's LoRA for this layer is MultiheadAttention"):
        get_peft_model(block, AlphaLoraConfig(r=2, target_modules=["self_attn"]))
