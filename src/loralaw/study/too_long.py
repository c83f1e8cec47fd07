"""Which texts of a study are longer than its rows: counted before anything is trained."""

from typing import Any

from loralaw.models.heads import let_pad
from loralaw.models.skeleton import tokenizer_of
from loralaw.study.check import CheckedStudy
from loralaw.tasks import Choice, TaskData, encode_examples, encode_labelled, encode_questions, sample

N_LOOKED_AT = 500
"""Rows of a split that are tokenised; the records of the cells count all."""


def too_long(checked: CheckedStudy) -> list[str]:
    """A sentence for each base model and task of which some texts are cut; base models without files are passed over.

    Cost: tokenising at most `N_LOOKED_AT` rows of each split, once for each base model.
    """
    sentences = []
    max_length, evaluation = checked.spec.training.max_length, checked.spec.evaluation
    for name, model in checked.models.items():
        if model.source.is_dry:
            continue
        tokenizer = tokenizer_of(model.source)
        if None not in model.skeletons:  # labelled rows are padded by the tokenizer
            let_pad(name, tokenizer)
        for (task, template), data in checked.data.items():
            counts = {
                "training examples": _n_cut(data, sample(data.train, N_LOOKED_AT), tokenizer, max_length),
                "test rows": _n_cut(data, sample(data.test, evaluation.test_examples), tokenizer, max_length),
                "questions": _n_questions_cut(data, data.choices, evaluation.choice_questions, tokenizer, max_length),
                **{
                    f"questions of {other}": _n_questions_cut(
                        data, choices, evaluation.choice_questions, tokenizer, max_length
                    )
                    for other, choices in data.other_questions.items()
                },
            }
            if parts := [f"{n:,} of {total:,} {noun}" for noun, (n, total) in counts.items() if n]:
                where = task.label if template is None else f"{task.label} as {template.name}"
                said = f"{', '.join(parts)} are longer than {max_length} tokens and are cut"
                sentences.append(f"{name}, {where}: of those looked at, {said}")
    return sentences


def _n_cut(data: TaskData, rows: Any, tokenizer: Any, max_length: int) -> tuple[int, int]:
    if data.target is None:
        is_cut = encode_examples(rows, tokenizer, max_length, data.is_chat).is_cut
    else:
        is_cut = encode_labelled(rows, tokenizer, max_length, not data.target.classes).is_cut
    return int(is_cut.sum()), len(rows)


def _n_questions_cut(
    data: TaskData, choices: list[Choice], n_asked: int, tokenizer: Any, max_length: int
) -> tuple[int, int]:
    questions = sample(choices, n_asked)
    if not questions:
        return 0, 0
    return encode_questions(questions, tokenizer, max_length, data.is_chat).n_cut, len(questions)
