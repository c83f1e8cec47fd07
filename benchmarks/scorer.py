"""Multiple-choice accuracy by `score_questions` beside lm-evaluation-harness, on eight tasks in two templates.

    python benchmarks/scorer.py --data FOLDER [--questions 200] [--model micro-1.3m] [--task arc_easy ...]

FOLDER has a folder for each task with a `test.parquet` (columns instruction, answer, question, choices, label); without
`--data` it is `commonsense` in LORALAW_DATA, or in `shared/data` beside the repository. The first questions of a fixed
shuffle. The harness scores with the fastest of four batch sizes, found on the first questions, between two of our
runs. Seconds are of the processor, one thread, and so are little disturbed by other work on
the machine; both are counted from the questions' texts to the accuracies. Writes `results/scorer.md`.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from provenance import provenance, table

from loralaw.models import BaseModel, find_model, load_base_model
from loralaw.store.atomic import write_text
from loralaw.tasks import Choice, encode_questions
from loralaw.training.lm_eval_bridge import LmEval, LmEvalScores
from loralaw.training.score_questions import ChoiceScores, score_questions

RESULT = Path(__file__).parent / "results" / "scorer.md"
TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "social_i_qa", "winogrande")
BATCHES, TRIAL = (1, 8, 16, 32), 40
INSTRUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def instruct(row: dict[str, Any], document: str) -> Choice:
    """As the commonsense tasks are trained: options are long alike and begin alike."""
    names = row["instruction"].rsplit("Answer format: ", 1)[1].split("/")
    options = tuple(f"the correct answer is {name}" for name in names)
    return Choice(INSTRUCTION.format(**row), options, names.index(row["answer"]), document)


def plain(row: dict[str, Any], document: str) -> Choice:
    """The options themselves: of unequal lengths, and sometimes one the beginning of another."""
    options = tuple(f" {choice}" for choice in row["choices"])
    return Choice(f"Question: {row['question']}\nAnswer:", options, row["label"], document)


TEMPLATES: dict[str, Callable[[dict[str, Any], str], Choice]] = {"instruct": instruct, "plain": plain}


def questions(folder: Path, template: str, n: int, base: BaseModel, max_length: int) -> tuple[list[Choice], int]:
    """The first n that fit into the model, and how many were passed over because they do not.

    The harness and we cut a context that is too long in different ways: it cuts each option's for itself, and drops
    the start token.
    """
    rows = pl.read_parquet(folder / "test.parquet").to_dicts()
    random.Random(0).shuffle(rows)
    choices = [TEMPLATES[template](row, str(i)) for i, row in enumerate(rows[: 2 * n])]
    encoded = encode_questions(choices, base.tokenizer, max_length)
    cut = set(encoded.question[encoded.rows.is_cut].tolist())
    fitting = [i for i in range(len(choices)) if i not in cut][:n]
    return [choices[i] for i in fitting], fitting[-1] + 1 - len(fitting)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def harness_seconds(base: BaseModel, choices: list[Choice], batch_size: int) -> tuple[float, LmEvalScores]:
    with LmEval(base.model, base.tokenizer, choices, batch_size=batch_size) as harness:
        return timed(harness.evaluate)


def compare(base: BaseModel, choices: list[Choice]) -> tuple[list[float], int, float, ChoiceScores, LmEvalScores]:
    """Our seconds, the harness' best batch and its seconds, and what each finds."""
    trial = choices[:TRIAL]
    batch_size = min(BATCHES, key=lambda size: harness_seconds(base, trial, size)[0])
    first, _ = timed(lambda: score_questions(base.model, base.tokenizer, choices))
    theirs, found = harness_seconds(base, choices, batch_size)
    second, mine = timed(lambda: score_questions(base.model, base.tokenizer, choices))
    return [first, second], batch_size, theirs, mine, found


def n_rows_of_the_harness(base: BaseModel, choices: list[Choice], max_length: int) -> int:
    """It runs options that differ in their last token only as one row."""
    rows = encode_questions(choices, base.tokenizer, max_length).rows
    return len({tuple(ids[: n - 1]) for ids, n in zip(rows.ids.tolist(), rows.n_tokens.tolist(), strict=True)})


def decided_differently(choices: list[Choice], ours: ChoiceScores, theirs: ChoiceScores) -> int:
    """Questions on which the two choose different options, by sum or by byte."""
    different = 0
    for choice, mine, other in zip(choices, ours.loss_sums, theirs.loss_sums, strict=True):
        n_bytes = np.array([len(option.encode()) for option in choice.options])
        a, b = np.array(mine), np.array(other)
        different += a.argmin() != b.argmin() or (a / n_bytes).argmin() != (b / n_bytes).argmin()
    return different


def largest_difference(ours: ChoiceScores, theirs: ChoiceScores) -> float:
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(ours.loss_sums, theirs.loss_sums, strict=True))


def stderr_difference(ours: ChoiceScores, theirs: ChoiceScores) -> float:
    pairs = [(s.choice_accuracy_stderr, s.choice_accuracy_sum_stderr) for s in (ours, theirs)]
    return max(abs(a - b) for a, b in zip(*pairs, strict=True))


def measured(options: argparse.Namespace, base: BaseModel) -> tuple[list[list[str]], list[list[str]], list[float]]:
    """Rows of the table of accuracies, of that of seconds, and the ratios."""
    accuracies, seconds, ratios = [], [], []
    max_length = int(base.model.config.max_position_embeddings)
    for task in options.task or TASKS:
        for template in TEMPLATES:
            choices, n_passed = questions(options.data / task, template, options.questions, base, max_length)
            ours, batch_size, theirs, mine, found = compare(base, choices)
            ratios.append(theirs / statistics.mean(ours))
            accuracies.append(
                [
                    task,
                    template,
                    f"{len(choices)} ({n_passed})",
                    f"{mine.choice_accuracy_sum!r} / {found.choice_accuracy_sum!r}",
                    f"{mine.choice_accuracy!r} / {found.choice_accuracy!r}",
                    f"{found.choice_accuracy_by_character!r}",
                    str(decided_differently(choices, mine, found)),
                    f"{largest_difference(mine, found):.1e}",
                    f"{stderr_difference(mine, found):.0e}",
                ]
            )
            n_rows = n_rows_of_the_harness(base, choices, max_length)
            counts = [str(sum(len(choice.options) for choice in choices)), str(n_rows), str(batch_size)]
            each = " ".join(f"{s:.2f}" for s in ours)
            seconds.append([task, template, *counts, each, f"{theirs:.2f}", f"{ratios[-1]:.2f}"])
            print(*accuracies[-1], *seconds[-1][2:], sep=" | ", flush=True)
    return accuracies, seconds, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("LORALAW_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default) / "commonsense")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--model", default="micro-1.3m")
    parser.add_argument("--task", action="append", help="only this one; may be repeated; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    accuracies, seconds, ratios = measured(options, load_base_model(find_model(options.model)))
    heads = [
        "task",
        "template",
        "questions (passed over)",
        "acc: ours / lm-eval",
        "acc_bytes: ours / lm-eval",
        "acc_norm: lm-eval",
        "decided differently",
        "largest difference of a sum, nats",
        "of a stderr",
    ]
    text = (
        f"# Our scorer beside lm-evaluation-harness\n\n"
        f"{provenance(f'{options.model}, float32; questions of one fixed shuffle.')}\n"
        "Passed over: questions too long for the model. acc is `choice_accuracy_sum`, acc_bytes `choice_accuracy`.\n\n"
        f"{table(heads, accuracies)}\n"
        "Seconds of the processor. The harness runs options that differ in their last token only as one row; what it "
        "has to run is under *rows*, and what we run is a row a question, without the beginning that questions share. "
        "Where those are as many, only that beginning and most of the head are saved: the harness puts every token "
        "through it, we put those that are scored. "
        f"Its batch is the fastest of {', '.join(map(str, BATCHES))} on {TRIAL} questions. Ratios: "
        f"{min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}.\n\n"
        f"{table(['task', 'template', 'options', 'rows of lm-eval', 'its batch', 'ours', 'lm-eval', 'ratio'], seconds)}"
    )
    print(text)
    if not options.task:
        write_text(RESULT, text)


if __name__ == "__main__":
    main()
