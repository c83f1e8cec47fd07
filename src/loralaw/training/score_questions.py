"""Multiple-choice accuracy of any model, with standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from loralaw.errors import InputError
from loralaw.models import context_length
from loralaw.tasks import Choice, encode_questions
from loralaw.training.metrics import choice_metrics
from loralaw.training.plain_model import PlainModel

DEFAULT_MAX_LENGTH = 2048
"""Tokens of a row where neither the caller nor the model's configuration says a number; as in lm-evaluation-harness."""


@dataclass(frozen=True)
class ChoiceScores:
    """What a model makes of questions. A standard error is None with fewer than two documents."""

    choice_accuracy: float
    """Share of questions whose true option is the likeliest a byte of its text: `acc_bytes` of lm-evaluation-harness,
    which is its `acc_norm` where all texts are ASCII."""
    choice_accuracy_stderr: float | None
    choice_accuracy_sum: float
    """Share of questions whose true option has the largest summed log-likelihood: `acc`."""
    choice_accuracy_sum_stderr: float | None
    loss_sums: tuple[tuple[float, ...], ...]
    """For each question, of each of its options: -log-likelihood summed over the option's tokens, nats."""
    n_questions_cut: int
    """Questions that were too long for the model: their contexts have lost their beginning."""


def score_questions(
    model: PreTrainedModel | PeftModel,
    tokenizer: Any,
    choices: Sequence[Choice],
    max_length: int | None = None,
    dtype: torch.dtype = torch.float32,
    is_chat: bool = False,
) -> ChoiceScores:
    """Score multiple-choice questions, to the numbers of lm-evaluation-harness on the same token rows.

    What the options of a question share goes through the model once; see `loralaw.tasks.QuestionTree`.

    Args:
        model: a causal language model of transformers, or a `PeftModel` around one; it is left as it was.
        tokenizer: its own.
        choices: the questions.
        max_length: tokens of a row; None: as many as the model has positions for.
        dtype: torch.float32 computes in the type of the weights, torch.bfloat16 under bfloat16 autocast.
        is_chat: contexts become the user's turn in the tokenizer's chat template.

    Raises:
        InputError: no question, or a max_length without room for a token.
        DataError: an option without text, or is_chat without a chat template.
        ModelError: a model whose losses cannot be taken from its hidden states.

    **Cost**: a forward pass over the shared tokens and the options' own, and the head at scored tokens only.
    **Source**: ours; the decisions are those of lm-evaluation-harness 0.4.
    """
    check_choices(choices)
    length = row_length(model, max_length)
    if length < 2:
        raise InputError(
            f"max_length is {length}: a row holds a start token and at least one of the option; give 2 or more"
        )
    questions = encode_questions(choices, tokenizer, length, is_chat)
    with PlainModel(model, dtype) as plain:
        losses = plain.score_choices(questions)[0].numpy()
    metrics = choice_metrics(losses, questions.rows.n_bytes, questions.question, questions.labels, questions.document)
    ends = np.cumsum([len(choice.options) for choice in choices])
    by_question = tuple(tuple(part.tolist()) for part in np.split(losses, ends[:-1]))
    return ChoiceScores(**metrics, loss_sums=by_question, n_questions_cut=questions.n_cut)  # type: ignore[arg-type]


def check_choices(choices: Sequence[Choice]) -> None:
    """Refuse what cannot be scored.

    Raises:
        InputError: no question, or a label that is not the number of an option.
    """
    if not choices:
        raise InputError("there are no questions: give at least one")
    for number, choice in enumerate(choices):
        if not 0 <= choice.label < len(choice.options):
            raise InputError(
                f"question {number}: label is {choice.label} and there are {len(choice.options)} options: give the "
                "index of the true one, from 0"
            )


def row_length(model: PreTrainedModel | PeftModel, asked: int | None) -> int:
    """Tokens of a row: as asked, or as many as the model has positions for.

    Raises:
        InputError: more than the model has positions for.
    """
    context = context_length(model.config)
    if asked is not None and context is not None and asked > context:
        raise InputError(f"max_length is {asked}, and the model reads at most {context} tokens: give at most that")
    return context or DEFAULT_MAX_LENGTH if asked is None else asked
