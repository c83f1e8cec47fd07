"""What a probe costs beside a forward pass, and what the Trainer callback costs beside the training.

    python benchmarks/probe_cost.py            # some fifteen minutes; writes benchmarks/results/probe_cost.md
    python benchmarks/probe_cost.py --quick    # a smoke test, printed only

Everything that is compared is run in turns, so that a machine that slows down slows both sides. A probe is compared
with two forward passes of the same adapted model on the same batches: the plain one, `model(**batch)`, and the
lean one that the probe itself asks for (no cache, no logits), so that what the probe saves at the
output embedding is not counted as its merit. Training runs are processes of their own: their peak memory is theirs.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from provenance import provenance, table
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import loralaw

RESULTS = Path(__file__).parent / "results" / "probe_cost.md"
MICRO_FOLDER = Path(loralaw.__file__).parent / "models" / "micro"
THREADS = 2
TRAINING_BATCH, LENGTH = 8, 128
Batch = dict[str, torch.Tensor]
NONE = torch.empty(0, dtype=torch.int64)
"""Positions whose logits a lean pass computes: none, as the probe asks for."""


def adapted(model: torch.nn.Module, rank: int, **settings: Any) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that PEFT uses
        return get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM", **settings))


def wide_llama(intermediate: int, layers: int, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    return LlamaForCausalLM(config).to(dtype)


def micro(name: str, dtype: torch.dtype) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(MICRO_FOLDER / name, dtype=dtype)


def forward_cases(quick: bool) -> Iterator[tuple[str, Callable[[], torch.nn.Module], torch.dtype, int, int, int, bool]]:
    """Name, how to build it, type, rank, sequences of a batch, tokens of a sequence, whether they differ in length."""
    if quick:
        build = lambda: wide_llama(5632, 1, torch.float32)  # noqa: E731
        yield "hidden 2048, inner 5632, 1 layer", build, torch.float32, 16, 4, 16, False
        yield "micro-0.4m", lambda: micro("micro-0.4m", torch.float32), torch.float32, 8, 4, LENGTH, True
        return
    for dtype in (torch.float32, torch.bfloat16):
        for inner, rank in ((5632, 16), (8192, 8)):
            build = lambda inner=inner, dtype=dtype: wide_llama(inner, 2, dtype)  # noqa: E731
            yield f"hidden 2048, inner {inner}, 2 layers", build, dtype, rank, 4, LENGTH, False
        for name in ("micro-0.4m", "micro-1.3m", "micro-6m"):
            # What `probe` makes of long texts by default, and a small batch, where fixed costs show.
            for rows, length, ragged in ((8, 512, False), (8, 512, True), (4, LENGTH, False)):
                build = lambda name=name, dtype=dtype: micro(name, dtype)  # noqa: E731
                yield name, build, dtype, 8, rows, length, ragged


def random_batches(vocabulary: int, length: int, ragged: bool, n_batches: int, rows: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(n_batches):
        ids = torch.randint(0, vocabulary, (rows, length), generator=draw)
        lengths = torch.randint(length // 2, length + 1, (rows,), generator=draw)
        lengths[0] = length
        lengths = lengths if ragged else torch.full((rows,), length)
        batches.append({"input_ids": ids, "attention_mask": (torch.arange(length) < lengths[:, None]).long()})
    return batches


def seconds_in_turns(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each task in each round; the first round, which warms up, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            tasks[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def forward_table(quick: bool, rounds: int) -> str:
    rows = []
    for name, build, dtype, rank, rows_of_batch, length, ragged in forward_cases(quick):
        model = adapted(build(), rank, init_lora_weights=False).eval()
        batches = random_batches(model.config.vocab_size, length, ragged, n_batches=2, rows=rows_of_batch)

        @torch.no_grad()
        def forward(model: torch.nn.Module = model, batches: list[Batch] = batches, **lean: Any) -> None:
            for batch in batches:
                model(**batch, **lean)

        seconds = seconds_in_turns(
            {
                "plain": forward,
                "lean": lambda forward=forward: forward(use_cache=False, logits_to_keep=NONE),
                "probe": lambda model=model, batches=batches: loralaw.probe(model, batches),
            },
            rounds,
        )
        n_tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        n_positions = sum(batch["input_ids"].numel() for batch in batches)
        row = [name, str(dtype).removeprefix("torch."), str(rank), f"{rows_of_batch} x {length}"]
        row.append(f"{n_tokens} of {n_positions}" if ragged else str(n_tokens))
        row += [f"{1e3 * statistics.median(seconds[which]):.1f}" for which in ("plain", "lean", "probe")]
        row += [ratio(seconds["probe"], seconds[which]) for which in ("lean", "plain")]
        print(" | ".join(row), flush=True)
        rows.append(row)
    columns = [
        "model",
        "type",
        "rank",
        "a batch",
        "tokens",
        "plain, ms",
        "lean, ms",
        "probe, ms",
        "probe / lean",
        "probe / plain",
    ]
    return table(columns, rows)


def ratio(above: list[float], below: list[float]) -> str:
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f})"


def train(with_callback: bool, model_name: str, steps: int, every: int) -> dict[str, float]:
    """One training in this process: seconds, those of them inside the callback, and the peak of the memory in MB."""
    torch.set_num_threads(THREADS)
    spent = [0.0]
    callbacks = [timed_callback(every, spent)] if with_callback else []
    torch.manual_seed(0)
    rows = random_batches(4096, LENGTH, ragged=False, n_batches=TRAINING_BATCH * 32, rows=1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=adapted(micro(model_name, torch.float32), rank=8),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=TRAINING_BATCH,
                learning_rate=1e-3,
                logging_steps=every,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=[{"input_ids": row["input_ids"][0], "labels": row["input_ids"][0]} for row in rows],
            callbacks=callbacks,
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "callback_seconds": spent[0], "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Largest resident memory of this program. Linux hands a parent's ru_maxrss down to its children, VmHWM not."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def timed_callback(every: int, spent: list[float]) -> Any:
    """A `MiubCallback` that adds up its own seconds; imported here, for a run without it shall not pay its memory."""
    from loralaw.miub import MiubCallback

    class Timed(MiubCallback):
        pass

    def timing(event: str) -> Callable[..., Any]:
        def timed(self: Timed, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return getattr(MiubCallback, event)(self, *args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - start

        return timed

    for event in ("on_train_begin", "on_step_end"):
        setattr(Timed, event, timing(event))
    return Timed(random_batches(4096, LENGTH, ragged=False, n_batches=1, rows=TRAINING_BATCH), every=every)


def training_table(quick: bool, rounds: int) -> str:
    model_name, steps, every = ("micro-0.4m", 6, 3) if quick else ("micro-1.3m", 300, 100)
    runs: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    for turn in range(rounds):
        for which in ("without", "with") if turn % 2 == 0 else ("with", "without"):
            command = [sys.executable, __file__, "--train", which, model_name, str(steps), str(every)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[which].append(json.loads(output.splitlines()[-1]))
            print(which, runs[which][-1], flush=True)
    rows = []
    for what, key in (("seconds of `Trainer.train`", "seconds"), ("peak memory of the process, MB", "peak_mb")):
        without, with_callback = ([run[key] for run in runs[name]] for name in ("without", "with"))
        medians = [f"{statistics.median(values):.1f}" for values in (without, with_callback)]
        rows.append([what, *medians, ratio(with_callback, without)])
    inside = [100 * run["callback_seconds"] / run["seconds"] for run in runs["with"]]
    return f"""{model_name}, float32, rank 8 on all linear layers, {steps} steps of {TRAINING_BATCH} x {LENGTH} tokens;
`MiubCallback` at every={every} on a probe batch of that size; {rounds} runs of each kind in turns, each a
process of its own.

{table(["", "without", "with", "with / without"], rows)}
Time inside the callback (the probe before the first step and every measurement):
**{statistics.median(inside):.2f} %** of the training ({min(inside):.2f} to {max(inside):.2f} %).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small cases, printed only")
    parser.add_argument("--train", nargs=4, metavar=("WITH", "MODEL", "STEPS", "EVERY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        which, model_name, steps, every = options.train
        print(json.dumps(train(which == "with", model_name, int(steps), int(every))))
        return
    torch.set_num_threads(THREADS)
    forward_rounds, training_rounds = (2, 1) if options.quick else (7, 5)
    seeds = f"transformers {version('transformers')}, peft {version('peft')}. Tokens and wide models from seed 0."
    text = f"""# What a probe and the callback cost

{provenance(seeds)}
Ratios are taken round by round: median (smallest to largest).

## A probe beside a forward pass, {forward_rounds} rounds in turns

Plain: `model(**batch)` without gradients. Lean: the same without cache and without logits, as
the probe asks for. Where the tokens are "of" more, the batches are padded, and only the tokens are measured.

{forward_table(options.quick, forward_rounds)}
## The callback beside a training

{training_table(options.quick, training_rounds)}"""
    if options.quick:
        print(text)
    else:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
