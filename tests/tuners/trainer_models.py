"""Small models and data for the tests of the Trainer, and one that writes down what it trained on."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch.utils.data import IterableDataset
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM, TrainingArguments

from loralaw.tuners import ROW_SCALE, AlphaLoraConfig
from loralaw.tuners.alpha_lora_trainer import AlphaLoraTrainer

N_TOKENS = 12


def rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """No two alike, and something to learn: whether the first token is below 32."""
    tokens = torch.randint(5, 60, (n, N_TOKENS), generator=torch.Generator().manual_seed(seed)).tolist()
    return [{"input_ids": ids, "labels": int(ids[0] < 32), "attention_mask": [1] * N_TOKENS} for ids in tokens]


class Endless(IterableDataset):
    """Rows without a number."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return cycle(rows(16))


def classifier(dropout: float = 0.0, **config: Any) -> torch.nn.Module:
    """Two layers of BERT with α-LoRA on all of their linear layers; the head is trained and saved with them."""
    torch.manual_seed(0)
    base = BertForSequenceClassification(
        BertConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=64,
            num_labels=2,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value", "dense"], "task_type": "SEQ_CLS"}
    return get_peft_model(base, AlphaLoraConfig(**(settings | config)))


def texts(n: int) -> list[dict[str, Any]]:
    """Rows of which the model is to learn different numbers of tokens."""
    tokens = torch.randint(0, 60, (n, N_TOKENS), generator=torch.Generator().manual_seed(5)).tolist()
    ignored = [ids[0] % (N_TOKENS - 2) for ids in tokens]
    return [{"input_ids": ids, "labels": [-100] * n + ids[n:]} for ids, n in zip(tokens, ignored, strict=True)]


def language_model(dropout: float = 0.0) -> torch.nn.Module:
    """One layer of Llama with α-LoRA on all of its linear layers."""
    torch.manual_seed(1)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=60, attention_dropout=dropout, **size))
    return get_peft_model(base, AlphaLoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))


def arguments(out: Path, **changes: Any) -> TrainingArguments:
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": 8,
        "max_steps": 10,
        "learning_rate": 5e-3,
        "adam_beta2": 0.99,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "linear",
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 3,
    }
    return TrainingArguments(**(settings | changes))


class Recorder(AlphaLoraTrainer):
    """Keeps (side, batch) of every forward and backward pass; the side is "adapter", "row_scale" or "both"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.passes: list[tuple[str, dict[str, torch.Tensor]]] = []
        super().__init__(*args, **kwargs)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any) -> torch.Tensor:
        trained = {ROW_SCALE in name for name, parameter in model.named_parameters() if parameter.requires_grad}
        side = "both" if len(trained) == 2 else "row_scale" if trained == {True} else "adapter"
        self.passes.append((side, {key: value.clone() for key, value in inputs.items()}))
        return super().training_step(model, inputs, *args)

    def batches(self, side: str) -> list[dict[str, torch.Tensor]]:
        return [batch for of, batch in self.passes if of == side]

    def ids(self, side: str) -> list[list[tuple[int, ...]]]:
        """The rows of each pass, told by their tokens."""
        return [[tuple(row) for row in batch["input_ids"].tolist()] for batch in self.batches(side)]


def trainer(out: Path, *, model: torch.nn.Module | None = None, n_rows: int = 64, **settings: Any) -> Recorder:
    """A Recorder in which α takes a step after each of the adapter's, and a fifth of the rows.

    Settings that begin with `row_scale_`, and data, go to the Trainer, the rest to its arguments.
    """
    own = {key: value for key, value in settings.items() if key.startswith("row_scale_") or key.endswith("_dataset")}
    rest = {key: value for key, value in settings.items() if key not in own}
    own.setdefault("train_dataset", rows(n_rows))
    own.setdefault("row_scale_share", 0.2)
    own.setdefault("row_scale_every", None if own.get("row_scale_protocol") == "joint" else 1)
    return Recorder(model=classifier() if model is None else model, args=arguments(out, **rest), **own)


def named(model: torch.nn.Module, *, row_scale: bool) -> dict[str, torch.Tensor]:
    """The trained weights of one side, by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if (ROW_SCALE in name) == row_scale and (row_scale or "lora_" in name or "modules_to_save" in name)
    }


def largest_difference(model: torch.nn.Module, other: torch.nn.Module) -> float:
    """Over both sides."""
    pairs = [(named(model, row_scale=side), named(other, row_scale=side)) for side in (True, False)]
    assert all(mine and mine.keys() == theirs.keys() for mine, theirs in pairs)
    return max(float((mine[name] - theirs[name]).abs().max()) for mine, theirs in pairs for name in mine)
