"""`loralaw score`: the accuracy of a model, or of an adapter on its base, on a task's multiple-choice questions."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from loralaw.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loralaw.tasks import Choice, TaskData
    from loralaw.training.score_questions import ChoiceScores


def score(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_ADAPTER",
            help="An embedded model, a folder, or a hub name; or an adapter that PEFT has saved.",
            show_default=False,
        ),
    ],
    task: Annotated[str, typer.Option(metavar="ID", help="A task with multiple-choice questions.", show_default=False)],
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the task's files are.", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="MODEL_OR_ADAPTER is an adapter, and this is its base model.", show_default=False
        ),
    ] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="At most so many, always the same ones; all if not given.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a row; as many as the model takes if not given.")
    ] = None,
    by: Annotated[
        Literal["loralaw", "lm-eval"], typer.Option(help="What scores: this package, or lm-evaluation-harness.")
    ] = "loralaw",
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write all numbers here.", show_default=False)
    ] = None,
) -> None:
    """Score a model on multiple-choice questions, to the numbers of lm-evaluation-harness."""
    from loralaw.cli.console import console
    from loralaw.spec import TaskSpec
    from loralaw.store.atomic import check_place, write_json
    from loralaw.tasks import load_task, sample

    if json_ is not None:
        check_place(json_)
    if not task:
        raise InputError("--task is empty: give one of `loralaw tasks`")
    data = load_task(TaskSpec(name=task, data_dir=data_dir))
    if not data.choices:
        raise InputError(
            f'the task "{task}" has no multiple-choice questions: choose one that has, such as stdlib-code'
        )
    choices = sample(data.choices, questions or len(data.choices))
    scores = _scores(model, base, choices, data, max_length, by)
    if json_ is not None:
        settings = {"model": model, "task": task, "by": by, "n_questions": len(choices), "data_hash": data.hash}
        write_json(json_, {**settings, **asdict(scores)})
    console().print(_shown(scores, f"{model}: {len(choices)} questions of {task}"), markup=False, soft_wrap=True)


def _scores(
    name: str, base: str | None, choices: "Sequence[Choice]", data: "TaskData", max_length: int | None, by: str
) -> "ChoiceScores":
    import torch

    from loralaw.training.lm_eval_bridge import score_by_lm_eval
    from loralaw.training.score_questions import score_questions

    model, tokenizer = _loaded(name, base)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    if by == "loralaw":
        return score_questions(model, tokenizer, choices, max_length, is_chat=data.is_chat)
    if data.is_chat:
        raise InputError(f'"{data.name}" is a chat, which is scored by loralaw only: leave out --by')
    return score_by_lm_eval(model, tokenizer, choices, max_length)


def _loaded(name: str, base: str | None) -> tuple[Any, Any]:
    """Model and tokenizer."""
    from loralaw.models import find_model, load_adapted_model, load_base_model

    if base is not None or os.path.isfile(os.path.join(name, "adapter_config.json")):
        adapted = load_adapted_model(name, base)
        return adapted.model, adapted.tokenizer
    loaded = load_base_model(find_model(name))
    return loaded.model, loaded.tokenizer


def _shown(scores: "ChoiceScores", title: str) -> str:
    """What the screen shows."""
    lines = [title]
    for name, words in (("choice_accuracy", "a byte of text (acc_bytes)"), ("choice_accuracy_sum", "in sum (acc)")):
        value, stderr = getattr(scores, name), getattr(scores, f"{name}_stderr")
        lines.append(f"{name:20} {value:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}") + f"  likeliest {words}")
    if scores.n_questions_cut:
        lines.append(f"{scores.n_questions_cut} were too long for the model and have lost their beginning")
    return "\n".join(lines)
