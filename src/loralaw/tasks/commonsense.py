"""The eight commonsense tasks, each in the words of the LLM-Adapters benchmark (Hu et al. 2023)."""

import re
from collections.abc import Callable
from typing import Any

from loralaw.tasks.choice_task import ChoiceTask, HubQuestion

_CHOOSE = "Please choose the correct answer to the question: {question}\n\n{options}\n\n{answers}"
_WIKIHOW_MARK = re.compile(r" ?\[(header|title|step|substeps)\] ?")


def _lettered(question_column: str) -> Callable[[dict[str, Any]], HubQuestion]:
    """ARC and OpenBookQA: the options carry letters, in some rows numbers."""

    def read(row: dict[str, Any]) -> HubQuestion:
        return row[question_column], row["choices"]["text"], row["choices"]["label"], row["answerKey"]

    return read


def _plain_text(text: str) -> str:
    """A HellaSwag text without WikiHow's marks: a title and a substep begin a sentence, a header and a step go on."""
    marked = _WIKIHOW_MARK.sub(lambda found: ". " if found[1] in ("title", "substeps") else " ", text)
    return " ".join(marked.removeprefix(". ").split())


def _ask(question: str) -> str:
    return question if question.endswith("?") else f"{question}?"


BOOLQ = ChoiceTask(
    id="boolq",
    hub=("google/boolq", "default"),
    hub_test="validation",
    hub_columns=("question", "answer"),
    read_hub_row=lambda row: (_ask(row["question"]), ["true", "false"], [True, False], row["answer"]),
    instruction="Please answer the following question with true or false, question: {question}\n\n{answers}",
    answers=("true", "false"),
)
PIQA = ChoiceTask(
    id="piqa",
    hub=("ybisk/piqa", "plain_text"),
    hub_test="validation",
    hub_columns=("goal", "sol1", "sol2", "label"),
    read_hub_row=lambda row: (row["goal"], [row["sol1"], row["sol2"]], [0, 1], row["label"]),
    instruction="Please choose the correct solution to the question: {question}\n\n{options}\n\n{answers}",
    answer="solution",
    between="\n\n",
)
SOCIAL_I_QA = ChoiceTask(
    id="social_i_qa",
    hub=("allenai/social_i_qa", "default"),
    hub_test="validation",
    hub_columns=("context", "question", "answerA", "answerB", "answerC", "label"),
    read_hub_row=lambda row: (
        row["context"].strip() + " " + row["question"].strip(),
        [row["answerA"], row["answerB"], row["answerC"]],
        ["1", "2", "3"],
        row["label"],
    ),
    instruction=_CHOOSE,
)
HELLASWAG = ChoiceTask(
    id="hellaswag",
    hub=("Rowan/hellaswag", "default"),
    hub_test="validation",
    hub_columns=("activity_label", "ctx", "endings", "label"),
    read_hub_row=lambda row: (
        row["activity_label"] + ": " + _plain_text(row["ctx"]),
        [_plain_text(ending) for ending in row["endings"]],
        ["0", "1", "2", "3"],
        row["label"],
    ),
    instruction="Please choose the correct ending to complete the given sentence: {question}\n\n{options}\n\n{answers}",
    answer="ending",
)
WINOGRANDE = ChoiceTask(
    id="winogrande",
    hub=("allenai/winogrande", "winogrande_xl"),
    hub_test="validation",
    hub_columns=("sentence", "option1", "option2", "answer"),
    read_hub_row=lambda row: (row["sentence"], [row["option1"], row["option2"]], ["1", "2"], row["answer"]),
    instruction="Please choose the correct answer to fill in the blank to complete the given sentence: {question}\n\n"
    "{options} {answers}",
    answer="option",
)
ARC_EASY = ChoiceTask(
    id="arc_easy",
    hub=("allenai/ai2_arc", "ARC-Easy"),
    hub_test="test",
    hub_columns=("question", "choices", "answerKey"),
    read_hub_row=_lettered("question"),
    instruction=_CHOOSE,
)
ARC_CHALLENGE = ChoiceTask(
    id="arc_challenge",
    hub=("allenai/ai2_arc", "ARC-Challenge"),
    hub_test="test",
    hub_columns=("question", "choices", "answerKey"),
    read_hub_row=_lettered("question"),
    instruction=_CHOOSE,
)
OPENBOOKQA = ChoiceTask(
    id="openbookqa",
    hub=("allenai/openbookqa", "main"),
    hub_test="test",
    hub_columns=("question_stem", "choices", "answerKey"),
    read_hub_row=_lettered("question_stem"),
    instruction=_CHOOSE,
)

COMMONSENSE = (BOOLQ, PIQA, SOCIAL_I_QA, HELLASWAG, WINOGRANDE, ARC_EASY, ARC_CHALLENGE, OPENBOOKQA)
