"""A LoRA classifier on a real pretrained encoder: trained, measured on the way, saved, and probed from disk.

    pip install 'loralaw[encoder]'
    python benchmarks/encoder_probe.py --data ../shared/data/glue/sst2 --out /tmp/encoder_probe

The data folder holds `train.parquet` and `validation.parquet` with the columns sentence1, sentence2 (may be empty) and
label, as the GLUE tasks. Two to four minutes on two cores. Under `--out`: the adapter, `history.json` (the callback's
measurements), `probe.json` and `heat_map.html` (the probe of the saved adapter).
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

import loralaw
from loralaw.models import ENCODER, find_model, load_adapted_model
from loralaw.store.atomic import write_json

N_PROBED, MAX_LENGTH = 64, 128
Rows = list[dict[str, Any]]


def encoded(path: Path, tokenizer: Any, n_rows: int | None = None) -> Rows:
    """The rows of a file as input_ids, attention_mask, token_type_ids and labels."""
    table = pl.read_parquet(path).head(n_rows) if n_rows else pl.read_parquet(path)
    second = table["sentence2"].to_list() if table["sentence2"].null_count() < len(table) else None
    texts = tokenizer(table["sentence1"].to_list(), second, truncation=True, max_length=MAX_LENGTH)
    columns = {**texts, "labels": table["label"].to_list()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def classifier(n_labels: int, rank: int) -> torch.nn.Module:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the head is new: it is trained here and saved with the adapter
    base = AutoModelForSequenceClassification.from_pretrained(find_model(ENCODER).location, num_labels=n_labels)
    logging.set_verbosity(verbosity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that PEFT uses
        model = get_peft_model(base, LoraConfig(r=rank, target_modules="all-linear", task_type="SEQ_CLS"))
    model.peft_config["default"].base_model_name_or_path = ENCODER  # not a folder of this machine
    return model


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and validation.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter, the JSON files and the page")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rank", type=int, default=8)
    options = parser.parse_args()

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(ENCODER).location)
    train = encoded(options.data / "train.parquet", tokenizer)
    validation = encoded(options.data / "validation.parquet", tokenizer)
    probed = [{name: row[name] for name in row if name != "labels"} for row in validation[:N_PROBED]]
    callback = loralaw.MiubCallback(probed, every=50, batch_size=32)
    trainer = Trainer(
        model=classifier(len({row["labels"] for row in train}), options.rank),
        args=TrainingArguments(
            output_dir=str(options.out / "trainer"),
            max_steps=options.steps,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=1e-3,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=[callback],
    )
    before = trainer.evaluate()["eval_accuracy"]
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    after = trainer.evaluate()["eval_accuracy"]
    # PEFT would look for the base by its name to see whether the vocabulary was changed.
    trainer.model.save_pretrained(options.out / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(options.out / "adapter")
    write_json(options.out / "history.json", callback.history)

    saved = load_adapted_model(options.out / "adapter")
    result = loralaw.probe(saved.model, probed, tokenizer=saved.tokenizer, batch_size=32)
    write_json(options.out / "probe.json", result.as_dict())
    page = loralaw.write_heat_map(result.as_dict(), options.out / "heat_map.html")

    print(
        f"accuracy on {len(validation)} rows: {before:.3f}, after {options.steps} steps ({seconds:.0f} s) {after:.3f}"
    )
    print(f"probed {result.n_tokens} tokens of {result.n_sequences} rows, {len(result.layers)} layers; their means:")
    for name, value in result.means.items():
        print(f"  {name:20s} {'-' if value is None else f'{value:.4g}'}   (callback: {callback.history[-1].get(name)})")
    for layer, reason in result.skipped.items():
        print(f"  not measured: {layer}: {reason}")
    print(f"written: {page}")


if __name__ == "__main__":
    main()
