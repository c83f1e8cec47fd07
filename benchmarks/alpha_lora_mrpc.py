"""A first look at quality: LoRA, α-LoRA and full fine-tuning of a small pretrained encoder on MRPC.

    pip install 'loralaw[encoder]'
    python benchmarks/alpha_lora_mrpc.py --data ../shared/data/glue/mrpc --work /tmp/mrpc [--quick]

The data folder holds `train.parquet` and a labelled `test.parquet` with sentence1, sentence2 and label. Of each seed's
rows 1,000 train (α-LoRA holds a fifth of these out for α) and 500 others choose the learning rate, out of two for every
method, by the mean over the seeds. The test rows are read once, at the end, by the models of the chosen rate.

Every run leaves a file under `--work`, and the same command goes on where it was killed. Time and memory are measured
afterwards, in short trainings that take turns in processes of their own. Writes `results/alpha_lora_mrpc.md`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoder_probe import accuracy, encoded
from peft import LoraConfig, get_peft_model
from provenance import provenance, table
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from loralaw import AlphaLoraConfig, AlphaLoraTrainer
from loralaw.models import ENCODER, find_model
from loralaw.store.atomic import write_json, write_text
from loralaw.training import machine

SEEDS = (0, 1, 2)
SHARE = 0.2
"""Of the training rows of α-LoRA: these teach α, and the adapter does not see them."""
N_TRAIN, N_SELECT, BATCH_SIZE, EPOCHS, RANK = 1000, 500, 16, 2, 8
ADAPTER_RATES, FULL_RATES = (5e-4, 2e-3), (2e-5, 1e-4)
METHODS: dict[str, dict[str, Any]] = {
    "LoRA": {"rates": ADAPTER_RATES},
    "α-LoRA, T = 1": {"rates": ADAPTER_RATES, "row_scale_every": 1},
    "α-LoRA, T = 10": {"rates": ADAPTER_RATES, "row_scale_every": 10},
    "full": {"rates": FULL_RATES},
}
ROUNDS, COST_STEPS = 3, 20
RESULT = Path(__file__).parent / "results" / "alpha_lora_mrpc.md"
Rows = list[dict[str, Any]]


def model_of(method: str) -> Any:
    """The encoder with a new head, and with the method's adapter."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # of the new head
    base = AutoModelForSequenceClassification.from_pretrained(find_model(ENCODER).location, num_labels=2)
    logging.set_verbosity(verbosity)
    if method == "full":
        return base
    config = LoraConfig if method == "LoRA" else AlphaLoraConfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that PEFT uses
        return get_peft_model(base, config(r=RANK, lora_alpha=16, target_modules="all-linear", task_type="SEQ_CLS"))


def trainer_of(method: str, rate: float, seed: int, rows: Rows, tokenizer: Any, max_steps: int = -1) -> Trainer:
    """All methods with the same optimizer, schedule, batches and number of the adapter's steps."""
    n_steps = EPOCHS * -(-N_TRAIN // BATCH_SIZE) if max_steps < 0 else max_steps
    arguments = TrainingArguments(
        output_dir="unused",
        max_steps=n_steps,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=64,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=round(0.06 * n_steps),
        weight_decay=0.0,
        seed=seed,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=machine.native_dtype() == "bfloat16",
        use_cpu=True,
    )
    set_seed(seed)
    every = METHODS[method].get("row_scale_every")
    own = {"row_scale_every": every, "row_scale_share": SHARE} if every else {}
    return (AlphaLoraTrainer if own else Trainer)(
        model=model_of(method),
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        **own,
    )


def rows_of(train: Rows, seed: int) -> tuple[Rows, Rows]:
    """(to train on, to choose by): drawn anew for every seed, the same for all methods."""
    order = np.random.default_rng(seed).permutation(len(train))
    return [train[i] for i in order[:N_TRAIN]], [train[i] for i in order[N_TRAIN : N_TRAIN + N_SELECT]]


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def train_all(train: Rows, tokenizer: Any, work: Path) -> None:
    """Every method, rate and seed that has no file yet."""
    for seed in SEEDS:
        rows, selection = rows_of(train, seed)
        for method, settings in METHODS.items():
            for rate in settings["rates"]:
                place, asked = place_of(work, method, rate, seed), settings_of(method, rate, seed)
                if place.with_suffix(".json").exists():
                    if json.loads(place.with_suffix(".json").read_text())["settings"] != asked:
                        raise SystemExit(f"{place}.json was trained with other settings: give another --work")
                    continue
                trainer = trainer_of(method, rate, seed, rows, tokenizer)
                started = time.perf_counter()
                trainer.train()
                seconds = time.perf_counter() - started
                score = trainer.evaluate(selection)["eval_accuracy"]
                place.parent.mkdir(parents=True, exist_ok=True)
                save_file(trained_weights(trainer.model), place.with_suffix(".safetensors"))
                result = {"selection_accuracy": score, "seconds": seconds, "settings": asked}
                write_json(place.with_suffix(".json"), result)
                print(
                    f"{method}, {rate:g}, seed {seed}: {score:.3f} on the selection rows, {seconds:.0f} s", flush=True
                )


def settings_of(method: str, rate: float, seed: int) -> dict[str, Any]:
    """What decides a run's weights."""
    own = {
        **METHODS[method],
        "rates": None,
        "rate": rate,
        "seed": seed,
        "share": SHARE,
        "dtype": machine.native_dtype(),
    }
    return own | {"n_train": N_TRAIN, "n_select": N_SELECT, "batch_size": BATCH_SIZE, "epochs": EPOCHS, "rank": RANK}


def place_of(work: Path, method: str, rate: float, seed: int) -> Path:
    return work / f"{method.replace('α', 'alpha').replace(', T = ', '-')}-{rate:g}-{seed}".replace(".", "p")


def choose(work: Path, method: str) -> tuple[float, dict[float, float]]:
    """(the rate with the best mean over the seeds, that mean of each rate)."""
    means = {
        rate: statistics.mean(
            json.loads(place_of(work, method, rate, seed).with_suffix(".json").read_text())["selection_accuracy"]
            for seed in SEEDS
        )
        for rate in METHODS[method]["rates"]
    }
    return max(means, key=lambda rate: means[rate]), means


def test(work: Path, method: str, rate: float, seed: int, rows: Rows, tokenizer: Any) -> dict[str, float]:
    """Accuracy and F1 of one trained model on the test rows."""
    trainer = trainer_of(method, rate, seed, rows, tokenizer)
    parameters = dict(trainer.model.named_parameters())
    with torch.no_grad():
        for name, value in load_file(place_of(work, method, rate, seed).with_suffix(".safetensors")).items():
            parameters[name].copy_(value)
    prediction = trainer.predict(sorted(rows, key=lambda row: len(row["input_ids"])))  # little padding
    guess, truth = prediction.predictions.argmax(-1), prediction.label_ids
    hits = float(((guess == 1) & (truth == 1)).sum())
    return {"accuracy": float((guess == truth).mean()), "f1": 2 * hits / float((guess == 1).sum() + (truth == 1).sum())}


def cost(method: str, data: Path) -> dict[str, float]:
    """Milliseconds a step and peak memory of one short training, in this process alone."""
    tokenizer = AutoTokenizer.from_pretrained(find_model(ENCODER).location)
    rows, _ = rows_of(encoded(data / "train.parquet", tokenizer), 0)
    trainer = trainer_of(method, METHODS[method]["rates"][0], 0, rows, tokenizer, max_steps=COST_STEPS)
    machine.reset_peak_memory()
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    peak = machine.peak_memory_bytes()
    return {"ms": 1000 * seconds / COST_STEPS, "peak_mb": (peak or 0) / 1e6}


def costs(data: Path) -> dict[str, list[dict[str, float]]]:
    """All methods in turns, each in a process of its own."""
    measured: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for _ in range(ROUNDS):
        for method, results in measured.items():
            command = [sys.executable, __file__, "--data", str(data), "--cost-of", method]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return measured


def mean_and_error(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def report(train: Rows, tests: Rows, tokenizer: Any, work: Path, data: Path) -> str:
    chosen = {method: choose(work, method) for method in METHODS}
    scores = {
        method: [test(work, method, rate, seed, tests, tokenizer) for seed in SEEDS]
        for method, (rate, _) in chosen.items()
    }
    measured, reference = costs(data), None
    rows = []
    for method, (rate, means) in chosen.items():
        ms = statistics.median(one["ms"] for one in measured[method])
        reference = reference or ms
        accuracies = [one["accuracy"] for one in scores[method]]
        differences = [a - b["accuracy"] for a, b in zip(accuracies, scores["LoRA"], strict=True)]
        n_trained = sum(p.numel() for p in model_of(method).parameters() if p.requires_grad)
        rows.append(
            [
                method,
                ", ".join(f"{r:g}: {mean:.4f}" for r, mean in means.items()),
                f"{rate:g}",
                mean_and_error(accuracies),
                "–" if method == "LoRA" else mean_and_error(differences),
                mean_and_error([one["f1"] for one in scores[method]]),
                f"{n_trained:,}",
                f"{ms:.0f} ({ms / reference:.2f})",
                f"{statistics.median(one['peak_mb'] for one in measured[method]):.0f}",
            ]
        )
    majority = max(np.bincount([row["labels"] for row in tests])) / len(tests)
    columns = [
        "method",
        "accuracy on the selection rows, by rate",
        "chosen rate",
        "test accuracy",
        "minus LoRA, by seed",
        "test F1",
        "trained parameters",
        "ms a step (over LoRA)",
        "peak MB",
    ]
    title = f"# α-LoRA on MRPC: {len(train):,} training rows at hand, {N_TRAIN:,} used, {len(tests):,} test rows\n\n"
    words = (
        f"\nMeans ± standard errors over {len(SEEDS)} seeds, each with training rows, order and first weights of its "
        f"own. The majority class has {majority:.4f} of the test rows. {EPOCHS} epochs of {N_TRAIN:,} rows, batches of "
        f"{BATCH_SIZE}, rank {RANK} on all linear layers, linear schedule with 6 % warm-up, the last step's weights. "
        f"α-LoRA: protocol held-out, {SHARE:.0%} of the rows for α, α's learning rate 5e-3. Steps and peaks: "
        f"medians of {ROUNDS} trainings of {COST_STEPS} steps in turns, each in its own process; a step is one of "
        f"the adapter, with α's share of it. Products in {machine.native_dtype()}.\n"
    )
    return title + provenance(f"Seeds {', '.join(map(str, SEEDS))}.") + "\n" + table(columns, rows) + words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--work", type=Path, default=Path("mrpc-runs"), help="folder for the trained weights")
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed; writes nothing")
    parser.add_argument("--cost-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    if options.cost_of:
        print(json.dumps(cost(options.cost_of, options.data)))
        return
    tokenizer = AutoTokenizer.from_pretrained(find_model(ENCODER).location)
    train = encoded(options.data / "train.parquet", tokenizer)
    if options.quick:
        for method, settings in METHODS.items():
            trainer = trainer_of(method, settings["rates"][0], 0, rows_of(train, 0)[0], tokenizer, max_steps=3)
            print(method, trainer.train().metrics["train_loss"])
        return
    train_all(train, tokenizer, options.work)
    text = report(train, encoded(options.data / "test.parquet", tokenizer), tokenizer, options.work, options.data)
    write_text(RESULT, text)
    print(text)


if __name__ == "__main__":
    main()
