"""Where trainings of α-LoRA get to from the row scale that `suggest_row_scale` suggests, beside those from α = 1.

    python benchmarks/suggested_row_scale.py [--quick]

The embedded task on micro-0.4m and micro-1.3m: rank 8 on all linear layers, AdamW, batches of 4 rows of 64 tokens, each
row seen once. The arms of a seed have the same rows in the same order, the same first A and the same learning rate;
they differ in where α begins. The suggestion is made from the seed's training rows, all of them; where it is refused
(no evidence) α begins at 1, as it would for a user. Loss is that of rows of modules that are not trained on, the same
for all, after 0, 5, 20 and 100 steps. On micro-0.4m also with α fixed at where it begins, and from halfway between 1
and the suggestion. A quarter of an hour on two busy cores; writes
`results/suggested_row_scale.md`.
"""

import argparse
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from peft import get_peft_model
from provenance import provenance, table
from torch import nn

from loralaw import AlphaLoraConfig, suggest_row_scale
from loralaw.layer_names import module_types
from loralaw.models import find_model, load_base_model
from loralaw.spec import TaskSpec
from loralaw.store.atomic import write_text
from loralaw.tasks import NOT_SCORED, EncodedRows, encode_examples, load_task, sample
from loralaw.training.encoded_task import batches
from loralaw.tuners import row_scales

BASES, RATES, SEEDS = ("micro-0.4m", "micro-1.3m"), (2e-3, 1e-2), (0, 1, 2, 3, 4)
ROWS, LENGTH, RANK, LOOKS = 4, 64, 8, (0, 5, 20, 100)
N_TRAIN, HELD_OUT = 400, 128
ONE, SUGGESTED, HALFWAY = "1", "suggested", "halfway to 1"
RESULT = Path(__file__).parent / "results" / "suggested_row_scale.md"

Alphas = Mapping[str, float]


@dataclass(frozen=True)
class Arm:
    """One training: where α begins, whether it is trained, and the learning rate of all that is."""

    base: str
    is_trained: bool
    rate: float
    start: str


@dataclass
class Seed:
    """What one seed gave on one base model."""

    base: str
    suggested: Alphas
    stated_change: float
    has_evidence: int
    suggest_seconds: float
    step_seconds: list[float] = field(default_factory=list)
    losses: dict[Arm, list[float]] = field(default_factory=dict)
    ends: dict[Arm, Alphas] = field(default_factory=dict)
    """Mean α of each layer after the last step."""


def arms(base: str) -> Iterator[Arm]:
    for rate in RATES:
        for is_trained in (True, False) if base == BASES[0] else (True,):
            starts = (ONE, SUGGESTED, HALFWAY) if is_trained and base == BASES[0] else (ONE, SUGGESTED)
            yield from (Arm(base, is_trained, rate, start) for start in starts)


def one_seed(work: tuple[str, int, tuple[int, ...]]) -> Seed:
    """All arms of a seed, one after the other."""
    base, seed, looks = work
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    data, loaded = load_task(TaskSpec(name="stdlib-code")), load_base_model(find_model(base))
    train = encode_examples(data.train_subset(N_TRAIN, seed), loaded.tokenizer, LENGTH)
    held_out = encode_examples(sample(data.test, HELD_OUT), loaded.tokenizer, LENGTH)
    parts = zip(train.ids.split(8), train.labels.split(8), strict=True)
    began = time.process_time()
    suggestion = suggest_row_scale(loaded.model, [{"input_ids": ids, "labels": labels} for ids, labels in parts])
    seconds = time.process_time() - began
    assert suggestion.held_out_change is not None
    n_evident = sum(row["has_evidence"] for row in suggestion.layers)
    found = Seed(base, suggestion.row_scales, suggestion.held_out_change, n_evident, seconds)
    shares = {ONE: 0.0, SUGGESTED: 1.0, HALFWAY: 0.5}
    for arm in arms(base):
        start = {layer: 1 + shares[arm.start] * (alpha - 1) for layer, alpha in found.suggested.items()}
        train_arm(arm, seed, start, train, held_out, looks, found)
    return found


def train_arm(
    arm: Arm, seed: int, start: Alphas, train: EncodedRows, held_out: EncodedRows, looks: tuple[int, ...], found: Seed
) -> None:
    """One training, whose losses, last α and seconds a step go into `found`."""
    torch.manual_seed(seed)
    config = AlphaLoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_row_scale=dict(start),
        train_row_scale=arm.is_trained,
    )
    model = get_peft_model(load_base_model(find_model(arm.base)).model, config).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arm.rate, weight_decay=0.0)
    stream = batches(train, len(train.ids), ROWS, seed)
    losses, seconds = [loss_of(model, held_out)], list[float]()
    for step in range(1, looks[-1] + 1):
        began = time.process_time()
        ids, labels = next(stream)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - began)
        if step in looks:
            losses.append(loss_of(model, held_out))
    found.losses[arm] = losses
    found.ends[arm] = {layer: float(alpha.mean()) for layer, alpha in row_scales(model).items()}
    found.step_seconds.append(statistics.median(seconds))


@torch.no_grad()
def loss_of(model: nn.Module, rows: EncodedRows) -> float:
    """Nats a scored token."""
    total = n_scored = 0.0
    for ids, labels in zip(rows.ids.split(32), rows.labels.split(32), strict=True):
        n = int((labels[:, 1:] != NOT_SCORED).sum())
        total += n * float(model(input_ids=ids, labels=labels).loss)
        n_scored += n
    return total / n_scored


def mean_and_error(values: Iterable[float], digits: int = 3) -> str:
    each = list(values)
    error = f" ± {statistics.stdev(each) / len(each) ** 0.5:.{digits}f}" if len(each) > 1 else ""
    return f"{statistics.fmean(each):+.{digits}f}{error}"


def compared(seeds: list[Seed], looks: tuple[int, ...]) -> str:
    """A row for every arm that does not begin at 1, beside the one that does."""
    rows = []
    for base in BASES:
        ours = [seed for seed in seeds if seed.base == base]
        for arm in sorted(arms(base), key=lambda arm: (arm.start == HALFWAY, not arm.is_trained)):
            if arm.start == ONE:
                continue
            plain = Arm(base, arm.is_trained, arm.rate, ONE)
            means = [statistics.fmean(seed.losses[plain][i] for seed in ours) for i in range(len(looks))]
            changes = [mean_and_error(s.losses[arm][i] - s.losses[plain][i] for s in ours) for i in range(len(looks))]
            trained = "trained" if arm.is_trained else "fixed"
            rows.append([base, trained, f"{arm.rate:g}", arm.start, ", ".join(f"{m:.3f}" for m in means), *changes])
    steps = ", ".join(map(str, looks))
    columns = ["base", "α", "learning rate", "α begins at", f"loss from α = 1, steps {steps}"]
    return table([*columns, *(f"minus that, step {look}" for look in looks)], rows)


def suggestions(seeds: list[Seed]) -> str:
    rows = []
    for base in BASES:
        ours = [seed for seed in seeds if seed.base == base]
        step = statistics.median(second for seed in ours for second in seed.step_seconds)
        seconds = statistics.median(seed.suggest_seconds for seed in ours)
        evident = [seed.has_evidence for seed in ours if seed.has_evidence]
        layers = f"{min(evident)} to {max(evident)} of {len(ours[0].suggested)}" if evident else "–"
        stated = mean_and_error(seed.stated_change for seed in ours)
        given = f"{len(evident)} of {len(ours)}"
        rows.append([base, given, layers, stated, f"{seconds:.1f}", f"{step:.3f}", f"{seconds / step:.0f}"])
    columns = ["base", "given", "layers with evidence, where given", "change of the loss on its checking batches"]
    return table([*columns, "seconds", "seconds of a training step", "steps that it costs"], rows)


def movements(seeds: list[Seed]) -> str:
    """Mean α by module type, at first and after the last step."""
    rows = []
    for base in BASES:
        ours = [seed for seed in seeds if seed.base == base]
        ends = [Arm(base, True, rate, start) for rate in RATES for start in (ONE, SUGGESTED)]
        by_type: dict[str, list[list[float]]] = defaultdict(list)
        for seed in ours:
            types = module_types(seed.suggested)
            for layer, alpha in seed.suggested.items():
                by_type[types[layer]].append([alpha, *(seed.ends[arm][layer] for arm in ends)])
        for name, values in by_type.items():
            rows.append([base, name, *(f"{statistics.fmean(column):.3f}" for column in zip(*values, strict=True))])
    begun = [f"rate {rate:g}, from {start}" for rate in RATES for start in (ONE, SUGGESTED)]
    return table(["base", "module type", SUGGESTED, *begun], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 steps; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    looks, numbers = ((0, 1, 3), SEEDS[:2]) if options.quick else (LOOKS, SEEDS)
    work = [(base, number, looks) for base in reversed(BASES) for number in numbers]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        seeds = list(pool.map(one_seed, work))
    drawn = f"Seeds {', '.join(map(str, numbers))}, two processes with a thread each."
    text = (
        f"# Training from a suggested row scale\n\n{provenance(drawn)}\n"
        f"Loss in nats a token, of {HELD_OUT} rows of modules that are not trained on. Differences: means over the "
        "seeds of the loss minus that of the training of the same seed from α = 1, ± their standard errors over seeds; "
        f"positive: behind.\n\n{compared(seeds, looks)}"
        f"\n## The suggestions\n\nFrom the {N_TRAIN} training rows of each seed; refused where the loss "
        "of the checking batches did not fall enough. Medians of processor seconds.\n\n"
        f"{suggestions(seeds)}"
        "\n## Where α goes\n\nMean α by module type (1 where refused): as suggested, and "
        f"after {looks[-1]} steps where it is trained.\n\n"
        f"{movements(seeds)}"
    )
    print(text)
    if not options.quick:
        write_text(RESULT, text)


if __name__ == "__main__":
    main()
