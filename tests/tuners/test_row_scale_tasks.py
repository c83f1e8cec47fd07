"""One adapter, several tasks: A and B are shared, and each task has an α that the others never touch."""

from pathlib import Path

import pytest
import torch
from adapted_models import CASES, IDS, Case, as_if_trained, llama, output
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from loralaw.errors import InputError, ModelError
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, row_scale_parameters, row_scale_summary, row_scales, set_task

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]
TASKS = ["rte", "mnli"]
KINDS = ["linear", "recompute", "embedding", "Conv1D", "convolutions"]
every_kind = pytest.mark.parametrize("case", [CASES[name] for name in KINDS], ids=KINDS)


def adapted(case: Case = CASES["linear"]) -> nn.Module:
    return case.adapted(row_scale_tasks=TASKS)


def as_if_both_were_trained(model: nn.Module) -> nn.Module:
    as_if_trained(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"{ROW_SCALE}:mnli" in name:
                parameter.mul_(0.5).add_(0.75)
    return model


@every_kind
def test_a_task_is_the_adapter_with_its_alpha_alone(case: Case) -> None:
    model = as_if_both_were_trained(adapted(case))
    results = {}
    for task in (*TASKS, *reversed(TASKS)):
        model.set_task(task)
        alone = case.adapted()
        for name, parameter in alone.named_parameters():
            own = name.replace(f"{ROW_SCALE}.", f"{ROW_SCALE}:{task}.")
            parameter.data.copy_(model.get_parameter(own))
        assert torch.equal(output(model), output(alone))
        assert task not in results or torch.equal(results[task], output(model))
        results[task] = output(model)
    assert not torch.equal(results["rte"], results["mnli"])


@every_kind
def test_it_begins_exactly_as_the_base_model_in_every_task(case: Case) -> None:
    model = adapted(case)
    for task in TASKS:
        model.set_task(task)
        assert torch.equal(output(model), output(case.base()))


def test_only_the_active_task_is_trained() -> None:
    model = as_if_both_were_trained(adapted())
    for task in ("rte", "mnli", "rte"):
        set_task(model, task)
        trained = {name for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE in name}
        assert trained == set(row_scale_parameters(model)) != set()
        assert all(f"{ROW_SCALE}:{task}." in name for name in trained)
        with model.disable_adapter():  # switches all gradients of the adapter off and on
            pass
        assert trained == {name for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE in name}
    model.add_adapter("other", CASES["linear"].config())
    model.set_adapter("other")
    assert all(".other." in name for name in row_scale_parameters(model))
    model.set_adapter("default")
    model.set_task("mnli")
    assert all(
        f"{ROW_SCALE}:mnli" in name for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE in name
    )


def test_training_in_turns_leaves_the_other_task_alone() -> None:
    model = adapted().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    moved: dict[str, dict[str, torch.Tensor]] = {}
    for task in (*TASKS, *TASKS):
        model.set_task(task)
        idle = {name: p.detach().clone() for name, p in model.named_parameters() if f"{ROW_SCALE}:" in name}
        idle = {name: p for name, p in idle.items() if f"{ROW_SCALE}:{task}" not in name}
        model(input_ids=IDS, labels=IDS if task == "rte" else IDS.flip(1)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert all(torch.equal(model.get_parameter(name), p) for name, p in idle.items())
        moved[task] = {name: alpha.clone() for name, alpha in row_scales(model).items()}
    assert all((moved["rte"][name] - 1).abs().max() > 5e-3 for name in moved["rte"])
    assert not any(torch.equal(moved["rte"][name], moved["mnli"][name]) for name in moved["rte"])


@every_kind
def test_all_tasks_are_one_file(case: Case, tmp_path: Path) -> None:
    model = as_if_both_were_trained(adapted(case))
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["adapter_model.safetensors"]
    loaded = PeftModel.from_pretrained(case.base(), tmp_path, adapter_name="other").eval()
    for task in TASKS:
        model.set_task(task)
        loaded.set_task(task)
        assert torch.equal(output(loaded), output(model))


def test_adapters_with_the_names_of_tasks_do_not_get_lost(tmp_path: Path) -> None:
    """PEFT takes the names of adapters out of the names of parameters."""
    model = as_if_both_were_trained(adapted())
    for name in ("rte", "mnli", "task"):
        model.add_adapter(name, CASES["linear"].config())
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    loaded = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(ROW_SCALE in name for name in loaded) == 2 * len(row_scales(model))
    again = PeftModel.from_pretrained(llama(), tmp_path).eval()
    assert torch.equal(output(again), output(model))


@every_kind
def test_a_task_is_merged_and_taken_back(case: Case) -> None:
    model = as_if_both_were_trained(adapted(case))
    model.set_task("mnli")
    apart = output(model)
    model.merge_adapter()
    torch.testing.assert_close(output(model), apart, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r'merged .* row scale of "mnli": call unmerge_adapter\(\)'):
        model.set_task("rte")
    model.unmerge_adapter()
    torch.testing.assert_close(output(model), apart, rtol=1e-5, atol=1e-5)
    model.set_task("rte")


def test_another_adapter_that_is_merged_does_not_matter() -> None:
    model = as_if_both_were_trained(adapted())
    model.add_adapter("other", CASES["linear"].config())
    model.base_model.merge_adapter(adapter_names=["other"])
    model.set_task("mnli")
    assert all("task" in name or ":mnli" in name for name in row_scale_parameters(model))


def test_the_summary_is_of_the_active_task() -> None:
    model = as_if_both_were_trained(adapted())
    for task in TASKS:
        model.set_task(task)
        layer = row_scale_summary(model).layers[0]
        own = model.get_parameter(f"base_model.model.{layer['layer']}.{ROW_SCALE}:{task}.default.weight")
        assert layer["mean"] == pytest.approx(float(own.detach().double().mean()), rel=1e-12)


@pytest.mark.parametrize(
    ("task", "words"), [("mnil", r'"mnil" is not a task .* rte, mnli\. Did you mean "mnli"\?'), ("", "rte, mnli")]
)
def test_a_task_that_is_not_there(task: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        adapted().set_task(task)


def test_models_without_tasks_say_so() -> None:
    for model in (CASES["linear"].adapted(), llama()):
        with pytest.raises(InputError, match="it has none: see row_scale_tasks"):
            set_task(model, "rte")


def test_a_file_of_other_tasks_is_refused(tmp_path: Path) -> None:
    as_if_trained(CASES["linear"].adapted()).save_pretrained(tmp_path)
    wanted = CASES["linear"].config(row_scale_tasks=TASKS, inference_mode=True)
    with pytest.raises(ModelError, match="has one row scale without a task, its configuration has rte, mnli"):
        get_peft_model(llama(), wanted).load_adapter(tmp_path, "default")


def test_a_task_that_the_configuration_does_not_name(tmp_path: Path) -> None:
    as_if_both_were_trained(adapted()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(path.read_text().replace('"mnli"', '"qnli"'))
    with pytest.raises(ModelError, match='has a row scale of the task "mnli", its configuration has rte, qnli'):
        PeftModel.from_pretrained(llama(), tmp_path)


def test_adapters_with_tasks_are_not_combined() -> None:
    model = adapted()
    model.add_adapter("b", CASES["linear"].config())
    with pytest.raises(InputError, match="default: adapters with row_scale_tasks cannot be combined"):
        model.add_weighted_adapter(["default", "b"], [1.0, 1.0], "c", combination_type="cat")


def test_one_task_of_two_on_one_layer() -> None:
    """The α of a task, in numbers: 2 rows, 1 input."""
    layer = nn.Linear(1, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[1.0], [2.0]]), torch.tensor([10.0, 20.0])
    model = get_peft_model(nn.Sequential(layer), AlphaLoraConfig(r=1, target_modules=["0"], row_scale_tasks=["x", "y"]))
    model.set_task("y")
    next(iter(row_scale_parameters(model).values())).data = torch.tensor([3.0, -1.0])
    assert model(torch.ones(1, 1)).tolist() == [[33.0, -22.0]]
    model.set_task("x")
    assert model(torch.ones(1, 1)).tolist() == [[11.0, 22.0]]
