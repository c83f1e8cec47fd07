"""Operations counted from shapes against torch's counter of the products that really ran."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from plain_peft import cell as pack_cell
from solo_cells import METHODS, SILENT, base_model, cell, cell_folder, encoded
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from loralaw.training import Pack, n_params_trainable, train_cells
from loralaw.training.flops import ModelShapes, TrainingShape, evaluate_flops, n_tokens_processed, train_flops
from loralaw.tuners.peft_surface import quiet_peft

ROWS, LENGTH = 4, 64


def llama(device: str = "cpu") -> PreTrainedModel:
    """Eager attention, whose products the counter sees; shared keys, and heads wider than hidden/heads."""
    config = LlamaConfig(
        hidden_size=96, intermediate_size=256, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, vocab_size=500, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    with torch.device(device):
        return LlamaForCausalLM(config)


def counted(model: Any, with_backward: bool = True) -> int:
    ids = torch.randint(0, 500, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(with_backward):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        if with_backward:
            loss.backward()
    return int(counter.get_total_flops())


def lora(model: PreTrainedModel, rank: int, targets: Any) -> Any:
    with quiet_peft():
        return get_peft_model(model, LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM"))


@pytest.mark.parametrize(
    ("rank", "targets"), [(1, "all-linear"), (32, "all-linear"), (8, ["o_proj", "gate_proj", "down_proj"])]
)
def test_an_adapter_costs_what_torch_counts(rank: int, targets: Any) -> None:
    """The first block's q, k and v need no gradient to their input, which the formula counts: 1 % here."""
    method, training = {**METHODS["lora"], "target_modules": targets}, TrainingShape(1, ROWS, LENGTH)
    skeleton, adapted = llama("meta"), lora(llama(), rank, targets)
    shapes, n = ModelShapes.of(skeleton), n_params_trainable(skeleton, method, rank)
    assert counted(adapted) == pytest.approx(train_flops(shapes, method, n, training), rel=0.04)
    assert counted(adapted, with_backward=False) == evaluate_flops(shapes, method, n, ROWS, LENGTH)


def test_a_pack_costs_what_torch_counts() -> None:
    """Of rank 16, which is not padded; the pack leaves the last token of each row out of the head."""
    model, method = llama(), METHODS["lora"]
    cells = [pack_cell(key, rank=16, batch_size=ROWS) for key in "ab"]
    ids = torch.randint(0, 500, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    # Torch's counter knows the product, but not in place.
    in_place = {torch.ops.aten.baddbmm_: lambda y, a, b, **_: 2 * a[0] * a[1] * a[2] * b[2]}
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with Pack(model, cells, pad_to=LENGTH) as pack, counter:
        pack.step(dict.fromkeys("ab", (ids, ids)))
    n = n_params_trainable(model, method, 16)
    expected = 2 * train_flops(ModelShapes.of(model), method, n, TrainingShape(1, ROWS, LENGTH))
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.04)


def test_full_fine_tuning_costs_what_torch_counts() -> None:
    method, training = METHODS["full"], TrainingShape(1, ROWS, LENGTH)
    skeleton, model = llama("meta"), llama()
    shapes, n = ModelShapes.of(skeleton), n_params_trainable(skeleton, method, None)
    assert counted(model) == train_flops(shapes, method, n, training)
    assert counted(model, with_backward=False) == evaluate_flops(shapes, method, n, ROWS, LENGTH)


def test_steps_of_the_row_scale_are_steps_too() -> None:
    """Frozen adapter, trained α: a step of its own costs the frozen matrices and twice the adapter."""
    model, shape = llama("meta"), TrainingShape(30, ROWS, LENGTH)
    shapes = ModelShapes.of(model)
    adapter, alpha = METHODS["lora"], {**METHODS["alpha-lora"], "row_scale_every": 10}
    joint = {**alpha, "row_scale_protocol": "joint", "row_scale_share": 0.1}
    n = n_params_trainable(model, alpha, 8)
    of_adapter = train_flops(shapes, adapter, n, shape)
    assert train_flops(shapes, joint, n, shape) == of_adapter
    assert n_tokens_processed(joint, shape) == n_tokens_processed(adapter, shape) == 30 * ROWS * LENGTH
    assert n_tokens_processed(alpha, shape) == 33 * ROWS * LENGTH
    own = train_flops(shapes, alpha, n, shape) - of_adapter
    three_steps = train_flops(shapes, adapter, n, TrainingShape(3, ROWS, LENGTH))
    assert own == three_steps - 2 * n * 3 * ROWS * LENGTH


def test_records_count_what_was_trained(tmp_path: Any) -> None:
    """Beside the seconds: a diverged cell is counted up to where it came, and was not measured."""
    base = base_model()
    good, bad = cell("lora"), cell("full", learning_rate=1e30)
    task, shapes = encoded(base, good), ModelShapes.of(base.model)
    records = {r["key"]: r for r in train_cells(base, task, [good, bad], cell_folder(tmp_path), SILENT)}
    cost = records[good.key]["cost"]
    n = n_params_trainable(base.model, good.method, good.rank)
    assert cost["train_flops"] == train_flops(shapes, good.method, n, TrainingShape(12, 3, 14))
    assert cost["n_tokens_processed"] == 12 * 3 * 14
    n_rows = len(task.test.ids) + len(task.probe.ids) + len(task.choices.rows.ids)
    assert cost["evaluate_flops"] == evaluate_flops(shapes, good.method, n, n_rows, 14)
    assert records[good.key]["provenance"]["path"] == "packed"
    diverged = records[bad.key]
    assert diverged["status"] == "diverged"
    n_steps = int(diverged["reason"].partition(" at step ")[2].partition(";")[0])
    assert 1 <= n_steps < 12
    assert diverged["cost"]["n_tokens_processed"] == n_steps * 3 * 14
    assert diverged["cost"]["evaluate_flops"] is None
    assert diverged["provenance"]["path"] == "trainer"
