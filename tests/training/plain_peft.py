"""The reference: tiny random models, one adapter at a time, by PEFT and a plain torch loop."""

import copy
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
    peft_config = LoraConfig(
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


def stream(of: PackCell) -> Stream:
    """The cell's own batches: ragged lengths, unscored prompts, a pattern that can be learnt."""
    draw = torch.Generator().manual_seed(1000 + of.seed)
    batches = []
    for _ in range(of.n_steps):
        length = int(torch.randint(LENGTH // 2, LENGTH + 1, (), generator=draw))
        first = torch.randint(0, 50, (of.batch_size, 1), generator=draw)
        ids = (first + 3 * torch.arange(length)) % 50
        labels = ids.clone()
        labels[:, : int(torch.randint(0, 4, (), generator=draw))] = -100
        batches.append((ids, labels))
    return batches


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
    parameters = [parameter for parameter in peft_model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=of.learning_rate, weight_decay=of.weight_decay)
    scheduler = get_scheduler(of.schedule, optimizer, of.warmup_steps, of.n_steps)
    torch.manual_seed(of.seed)  # the dropout stream
    losses = []
    for ids, labels in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = peft_model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        if of.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, of.max_grad_norm)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses, get_peft_model_state_dict(peft_model), peft_model.eval()


def train_packed(
    cells: list[PackCell],
    folder: Path,
    build: Callable[[], PreTrainedModel] = llama,
    dtype: torch.dtype = torch.float32,
) -> dict[str, list[float]]:
    """Train all cells, each for its own number of steps; adapters go to folder/key. Returns the losses."""
    batches = {one.key: stream(one) for one in cells}
    losses: dict[str, list[float]] = {one.key: [] for one in cells}
    with Pack(build(), cells, dtype=dtype, pad_to=LENGTH) as pack:
        while pack.keys:
            for key, loss in pack.step({key: batches[key][len(losses[key])] for key in pack.keys}).items():
                losses[key].append(loss)
            finished = [key for key in pack.keys if len(losses[key]) == len(batches[key])]
            for key in finished:
                pack.save_adapter(key, folder / key)
            if finished:
                pack.keep([key for key in pack.keys if key not in finished])
    return losses


def trained_pack(cells: list[PackCell], n_steps: int, build: Callable[[], PreTrainedModel] = llama) -> Pack:
    """A pack after a few steps, still loaded."""
    pack = Pack(build(), cells, pad_to=LENGTH)
    batches = {one.key: stream(one) for one in cells}
    for step in range(n_steps):
        pack.step({key: batches[key][step] for key in pack.keys})
    return pack


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
    ]
