"""How much faster a pack trains than PEFT and transformers' Trainer, one cell after the other; and what limits it.

    python benchmarks/packed_speed.py [--quick] [--threads N]

LoRA of rank 8 on all linear layers of the micro family, batches of 4 rows of 64 tokens of the quickstart's task, in
bfloat16. Arms, in turns, a round each: Trainer (bf16 autocast, fused AdamW, nothing logged or saved; seconds between
the ends of its steps, so with its data loader and without its start) and a plain PEFT loop under the same autocast, in
a process as a user has it; a pack of 8 and a pack of 1, in a process that is prepared as `loralaw run` prepares it. One
process works while the other waits. Compared are seconds a cell and step, as medians of the ratios of one round. Then
the share of the machine's matrix-product peak that a packed step reaches, and where its time goes. Some six minutes on
a machine that does nothing else; writes `results/packed_speed.md`.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from plain_trainer import plain_trainer
from provenance import provenance, table
from torch import nn
from torch.profiler import profile
from transformers import TrainerCallback, get_scheduler

from loralaw.models import BaseModel, find_model, load_base_model
from loralaw.spec import TaskSpec
from loralaw.store.atomic import write_text
from loralaw.tasks import EncodedRows, encode_examples, load_task
from loralaw.training import Pack, PackCell, machine, targeted_layers
from loralaw.training.encoded_task import batches

BASES = ("micro-0.4m", "micro-1.3m", "micro-6m")
CELLS, ROWS, LENGTH, RANK, EXAMPLES, LEARNING_RATE = 8, 4, 64, 8, 480, 3e-3
ROUNDS, STEPS, WARM_UP = 9, 16, 3
MANY = 10**6
"""Steps of the schedules: more than are taken."""
RESULT = Path(__file__).parent / "results" / "packed_speed.md"
KINDS = {
    "matrix products": ("mm", "bmm", "baddbmm_", "addmm"),
    "softmax": ("_softmax", "gather", "log", "_index_put_impl_"),
    "copies and casts": ("copy_", "cat", "fill_", "zero_", "clone"),
    "AdamW and clipping": ("_fused_adamw_", "Optimizer", "linalg_vector_norm"),
}
"""Operations by the beginning of their names; what is left is elementwise work, or Python and dispatch."""

Seconds = Callable[[], float]
"""Takes STEPS steps; seconds a cell and step."""


def config() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


def adapted(name: str) -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(load_base_model(find_model(name)).model, config())


def rows_of(base: BaseModel) -> EncodedRows:
    data = load_task(TaskSpec(name="stdlib-code"))
    return encode_examples(data.train_subset(EXAMPLES, 0), base.tokenizer, LENGTH)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def with_trainer(name: str, rows: EncodedRows, folder: str) -> Seconds:
    """What a user writes."""
    trainer = plain_trainer(
        adapted(name),
        rows,
        EXAMPLES,
        folder,
        max_steps=WARM_UP + STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=LEARNING_RATE,
    )

    def seconds() -> float:
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        trainer.remove_callback(clock)
        return (clock.ends[-1] - clock.ends[WARM_UP - 1]) / STEPS

    return seconds


def with_a_loop(name: str, rows: EncodedRows) -> Seconds:
    """PEFT under autocast, without the Trainer."""
    model, stream = adapted(name).train(), batches(rows, EXAMPLES, ROWS, 0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    scheduler = get_scheduler("linear", optimizer, 0, MANY)

    def step() -> None:
        ids, labels = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

    return lambda: timed(step)


def packed_step(name: str, rows: EncodedRows, n_cells: int) -> Callable[[], Any]:
    cells = [
        PackCell(
            key=str(number),
            peft_config=config(),
            seed=number,
            learning_rate=LEARNING_RATE,
            weight_decay=0.0,
            max_grad_norm=1.0,
            n_steps=MANY,
            warmup_steps=0,
            schedule="linear",
            batch_size=ROWS,
        )
        for number in range(n_cells)
    ]
    pack = Pack(load_base_model(find_model(name)).model, cells, dtype=torch.bfloat16, pad_to=LENGTH)
    streams: dict[str, Iterator[Any]] = {one.key: batches(rows, EXAMPLES, ROWS, one.seed) for one in cells}
    return lambda: pack.step({key: next(stream) for key, stream in streams.items()})


def timed(step: Callable[[], Any]) -> float:
    for _ in range(WARM_UP):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - started) / STEPS


ARMS: dict[str, Seconds] = {}
"""Of this process, for one base."""


def prepare(name: str, n_threads: int, is_packed: bool, folder: str) -> None:
    """What a process of one of the two sides does before it is asked for seconds."""
    torch.set_num_threads(n_threads)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    rows = rows_of(load_base_model(find_model(name)))
    if is_packed:
        machine.prepare_memory()
        full, alone = packed_step(name, rows, CELLS), packed_step(name, rows, 1)
        ARMS["packed"], ARMS["alone"] = lambda: timed(full) / CELLS, lambda: timed(alone)
    else:
        ARMS["Trainer"], ARMS["loop"] = with_trainer(name, rows, folder), with_a_loop(name, rows)


def seconds_of(arm: str) -> float:
    return ARMS[arm]()


def compare(name: str, n_threads: int, rounds: int, folder: str) -> tuple[list[str], float]:
    """A row of the table, and seconds of a step of the full pack."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        side = {
            is_packed: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), prepare, (name, n_threads, is_packed, folder))
            )
            for is_packed in (False, True)
        }
        for _ in range(rounds):
            for arm, is_packed in (("Trainer", False), ("loop", False), ("packed", True), ("alone", True)):
                seconds[arm].append(side[is_packed].submit(seconds_of, arm).result())

    def ratio(slow: str, fast: str) -> str:
        ratios = sorted(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"

    row = [name, *(f"{1000 * statistics.median(values):.2f}" for values in seconds.values())]
    row += [ratio("Trainer", "packed"), ratio("loop", "packed"), ratio("Trainer", "alone")]
    return row, CELLS * statistics.median(seconds["packed"])


def peak() -> float:
    """Operations a second of the fastest of some bfloat16 products."""
    best = 0.0
    for m, k, n in ((2048, 256, 688), (2048, 2048, 2048), (1024, 4096, 4096), (4096, 4096, 1024)):
        one, other = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
        for _ in range(8):
            started = time.perf_counter()
            one @ other
            best = max(best, 2 * m * k * n / (time.perf_counter() - started))
    return best


def n_operations(base: BaseModel, rows: EncodedRows) -> float:
    """Additions and multiplications of the matrix products of a step of CELLS cells, by hand.

    The frozen layers, the head and attention: forward, and backward to their inputs. The adapters: forward, backward to
    their inputs, and to their factors; at their padded rank.
    """
    model, n_tokens, padded_rank = base.model, CELLS * ROWS * LENGTH, 16
    shapes = targeted_layers(model, "all-linear").values()
    frozen = 2 * sum(n_in * n_out for n_in, n_out in shapes)
    adapters = 3 * padded_rank * sum(n_in + n_out for n_in, n_out in shapes)
    n_scored = (rows.labels[:, 1:] != -100).float().sum(1).mean() / LENGTH
    head = 2 * float(n_scored) * model.config.vocab_size * model.config.hidden_size
    attention = 3 * 2 * LENGTH * model.config.hidden_size * model.config.num_hidden_layers
    return 2.0 * n_tokens * (frozen + adapters + head + attention)


def shares(step: Callable[[], Any]) -> dict[str, float]:
    """Of the processor's time in a packed step, by kind of operation."""
    with profile() as profiled:
        for _ in range(5):
            step()
    of_kind: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name.startswith(names)), None)
        of_kind[kind or ("elementwise" if event.key.startswith("aten::") else "Python")] += event.self_cpu_time_total
    total = sum(of_kind.values())
    return {kind: of_kind[kind] / total for kind in (*KINDS, "elementwise", "Python")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds; writes nothing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    machine.prepare_memory()
    rounds = 2 if options.quick else ROUNDS
    speed, limits, parts, best = [], [], [], peak()
    with tempfile.TemporaryDirectory() as folder:
        for name in BASES:
            base = load_base_model(find_model(name))
            rows = rows_of(base)
            row, seconds = compare(name, options.threads, rounds, folder)
            operations = n_operations(base, rows)
            speed.append(row)
            limits.append(
                [name, f"{operations / 1e9:.1f}", f"{1000 * seconds:.0f}", f"{operations / seconds / best:.0%}"]
            )
            parts.append([name, *(f"{share:.0%}" for share in shares(packed_step(name, rows, CELLS)).values())])
    columns = ["base", "Trainer", "PEFT loop", f"pack of {CELLS}", "pack of 1"]
    columns += [f"Trainer / pack of {CELLS}", f"loop / pack of {CELLS}", "Trainer / pack of 1"]
    text = (
        f"# The speed of a pack\n\n{provenance(f'{rounds} rounds of {STEPS} steps.')}\n"
        "Milliseconds a cell and step, and medians of the ratios of one round (middle half):\n\n"
        f"{table(columns, speed)}\n## Distance from the limit\n\nThe fastest product: {best / 1e9:.0f} GFLOP/s.\n\n"
        f"{table(['base', 'GFLOP a step', 'ms a step', 'of the peak'], limits)}\n"
        f"Where the time of a step of {CELLS} goes (torch's profiler, which makes Python look slower than it is):\n\n"
        f"{table(['base', *KINDS, 'elementwise', 'Python and dispatch'], parts)}"
    )
    print(text)
    if not options.quick:
        write_text(RESULT, text)


if __name__ == "__main__":
    main()
