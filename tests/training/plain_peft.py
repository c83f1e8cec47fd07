"""The reference: tiny random models, one adapter at a time, by PEFT and a plain torch loop."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    get_scheduler,
)

from loralaw.training import Pack, PackCell
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.row_scale_protocol import RowScaleProtocol

VOCABULARY, LENGTH = 60, 12
State = dict[str, Tensor]
Stream = list[tuple[Tensor, Tensor]]


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=VOCABULARY,
        attention_bias=True,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def gpt2() -> PreTrainedModel:
    """With its own dropout of 0.1, as GPT-2 comes."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


def cell(key: str, rank: int = 4, seed: int = 0, lora: dict[str, Any] | None = None, **settings: Any) -> PackCell:
    """With a `row_scale` (a `RowScaleProtocol`) a cell of α-LoRA."""
    peft_config = (AlphaLoraConfig if "row_scale" in settings else LoraConfig)(
        **{"r": rank, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **(lora or {})}
    )
    defaults = {
        "learning_rate": 2e-3,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "n_steps": 16,
        "warmup_steps": 0,
        "schedule": "linear",
        "batch_size": 3,
    }
    return PackCell(key=key, peft_config=peft_config, seed=seed, **{**defaults, **settings})


def stream(of: PackCell, first_seed: int = 1000) -> Stream:
    """The cell's own batches: ragged lengths, unscored prompts, a pattern that can be learnt."""
    draw = torch.Generator().manual_seed(first_seed + of.seed)
    batches = []
    for _ in range(of.n_steps):
        length = int(torch.randint(LENGTH // 2, LENGTH + 1, (), generator=draw))
        first = torch.randint(0, 50, (of.batch_size, 1), generator=draw)
        ids = (first + 3 * torch.arange(length)) % 50
        labels = ids.clone()
        labels[:, : int(torch.randint(0, 4, (), generator=draw))] = -100
        batches.append((ids, labels))
    return batches


def row_scale_turns(of: PackCell) -> dict[int, tuple[Tensor, Tensor]]:
    """α's batches by the step of the adapter, from 0, that they follow: 0, T, 2T, ...; none where it has no steps."""
    if of.row_scale is None or of.row_scale.name == "joint":
        return {}
    assert of.row_scale.every is not None
    return {step: batch for step, batch in enumerate(stream(of, 2000)) if step % of.row_scale.every == 0}


def train_plain(
    of: PackCell, batches: Stream, build: Callable[[], PreTrainedModel] = llama, autocast: bool = False
) -> tuple[list[float], State, PeftModel]:
    """(losses, adapter, model) of one cell; the base in eval mode, adapter dropout on."""
    model = build()
    torch.manual_seed(of.seed)
    config = copy.deepcopy(of.peft_config)
    config.fan_in_fan_out = build is gpt2
    peft_model = get_peft_model(model, config).eval()
    for name, module in peft_model.named_modules():
        if "lora_dropout" in name:
            module.train()
    trained = {name: parameter for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    row_scales = [parameter for name, parameter in trained.items() if "row_scale" in name]
    parameters = [parameter for name, parameter in trained.items() if "row_scale" not in name]
    optimizer = torch.optim.AdamW(parameters, lr=of.learning_rate, weight_decay=of.weight_decay)
    if of.row_scale is not None:
        betas = (0.9, 0.99 if of.row_scale.name == "authors" else 0.999)
        of_row_scale = torch.optim.AdamW(row_scales, lr=of.row_scale.learning_rate, betas=betas, weight_decay=0.0)
    is_joint, turns = of.row_scale is not None and of.row_scale.name == "joint", row_scale_turns(of)
    scheduler = get_scheduler(of.schedule, optimizer, of.warmup_steps, of.n_steps)
    torch.manual_seed(of.seed)  # the dropout stream
    losses = []

    def make_gradients(ids: Tensor, labels: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = peft_model(input_ids=ids, labels=labels).loss
        peft_model.zero_grad()
        loss.backward()
        return float(loss.detach())

    for step, (ids, labels) in enumerate(batches):
        losses.append(make_gradients(ids, labels))
        if of.max_grad_norm is not None:
            nn.utils.clip_grad_norm_([*parameters, *row_scales] if is_joint else parameters, of.max_grad_norm)
        optimizer.step()
        scheduler.step()
        if step in turns:
            make_gradients(*turns[step])
        if step in turns or is_joint:
            of_row_scale.step()
    return losses, get_peft_model_state_dict(peft_model), peft_model.eval()


def train_packed(
    cells: list[PackCell],
    folder: Path,
    build: Callable[[], PreTrainedModel] = llama,
    dtype: torch.dtype = torch.float32,
    n_micro_batches: int = 1,
) -> dict[str, list[float]]:
    """Train all cells, each for its own number of steps; adapters go to folder/key. Returns the losses."""
    losses: dict[str, list[float]] = {one.key: [] for one in cells}
    with Pack(build(), cells, dtype=dtype, pad_to=LENGTH, n_micro_batches=n_micro_batches) as pack:
        for step in itertools.count():
            for key, loss in take_step(pack, cells, step).items():
                losses[key].append(loss)
            finished = [one.key for one in cells if one.n_steps == step + 1]
            for key in finished:
                pack.save_adapter(key, folder / key)
            if finished:
                pack.keep([key for key in pack.keys if key not in finished])
            if not pack.keys:
                return losses
    raise AssertionError


def take_step(pack: Pack, cells: list[PackCell], step: int) -> dict[str, float]:
    """Step number `step`, from 0, of the cells that are still there; then of α where it is time."""
    there = [one for one in cells if one.key in pack.keys]
    losses = pack.step({one.key: stream(one)[step] for one in there})
    if batches := {one.key: row_scale_turns(one)[step] for one in there if step in row_scale_turns(one)}:
        pack.row_scale_step(batches)
    return losses


def trained_pack(cells: list[PackCell], n_steps: int, build: Callable[[], PreTrainedModel] = llama) -> Pack:
    """A pack after a few steps, still loaded."""
    pack = Pack(build(), cells, pad_to=LENGTH)
    for step in range(n_steps):
        take_step(pack, cells, step)
    return pack


def row_scale_cells(n_steps: int = 16) -> list[PackCell]:
    """α-LoRA by every protocol."""
    dropout, qv = {"lora_dropout": 0.2}, {"target_modules": ["q_proj", "v_proj"]}
    held_out, joint, authors = (
        RowScaleProtocol(name, 2e-2, every) for name, every in (("held-out", 3), ("joint", None), ("authors", 2))
    )
    often = RowScaleProtocol("held-out", 1e-2, 1)
    return [
        cell("held-out", 4, seed=10, n_steps=n_steps, row_scale=held_out, weight_decay=0.1),
        cell("joint", 24, seed=11, n_steps=n_steps, row_scale=joint, max_grad_norm=0.05),
        cell("authors", 4, seed=12, n_steps=n_steps, row_scale=authors, lora=dropout, max_grad_norm=None),
        cell("often", 2, seed=13, n_steps=n_steps - 1, row_scale=often, lora=qv),
        cell("joint-dropout", 4, seed=14, n_steps=n_steps, row_scale=joint, lora=dropout, weight_decay=0.1),
    ]


def mixed_cells(n_steps: int = 16) -> list[PackCell]:
    """Everything that may differ between the cells of a pack."""
    return [
        cell("rank1", 1, seed=1, n_steps=n_steps, learning_rate=3e-3),
        cell("decay", 4, seed=2, n_steps=n_steps, weight_decay=0.1),
        cell("rslora", 8, seed=3, n_steps=n_steps, lora={"use_rslora": True}, schedule="cosine", warmup_steps=3),
        cell("clipped", 24, seed=4, n_steps=n_steps, max_grad_norm=0.05),
        cell("qv", 4, seed=5, n_steps=n_steps, lora={"target_modules": ["q_proj", "v_proj"]}, max_grad_norm=0.05),
        cell("two-rows", 4, seed=6, n_steps=n_steps, batch_size=2, max_grad_norm=None),
        cell("leaves", 4, seed=7, n_steps=n_steps // 2),
        cell("dropout", 8, seed=8, n_steps=n_steps, lora={"lora_dropout": 0.2}),
        cell("dropout-2", 2, seed=9, n_steps=n_steps, lora={"lora_dropout": 0.2}, schedule="constant"),
        *row_scale_cells(n_steps),
    ]
