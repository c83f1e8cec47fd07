"""transformers' Trainer as a user sets it up for a PEFT model on a processor: what packs are compared with."""

from typing import Any

from torch import nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from loralaw.tasks import EncodedRows
from loralaw.training.solo_trainer import TrainingRows


def plain_trainer(model: nn.Module, rows: EncodedRows, n_examples: int, folder: str, **settings: Any) -> Trainer:
    """In bf16 autocast with fused AdamW, the Trainer's default; nothing is logged, saved or shown.

    Args:
        model: with its adapter.
        rows: its training rows.
        n_examples: how many of them it learns from.
        folder: a place that is deleted afterwards.
        settings: further `TrainingArguments`.
    """
    arguments = TrainingArguments(
        output_dir=folder,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )
    trainer = Trainer(model, arguments, train_dataset=TrainingRows(rows, n_examples))
    trainer.remove_callback(PrinterCallback)
    return trainer
