"""How a row becomes text: prompt and completion with `{column}` for what differs from row to row.

Only plain names are taken: nothing of Python's format language can reach into a value.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import Formatter

from loralaw.errors import DataError, did_you_mean
from loralaw.spec import TemplateSpec

QUESTION_COLUMNS = ("instruction", "question", "choices")
"""Of a multiple-choice question: the same for all of its options."""
OPTION_COLUMNS = ("choice", "answer", "letter")
"""Of one option: its text, its name (`solution2`), its letter."""

# The words of Alpaca, by which the LLM-Adapters benchmark (whose instructions these are) wraps an instruction.
_WRAPPER = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
CHOICE_TEMPLATES = {
    "instruction": (_WRAPPER, "the correct answer is {answer}"),
    "short": ("{instruction}\n", "the correct answer is {answer}"),
    "question": ("Question: {question}\nAnswer:", " {choice}"),
    "letters": ("Question: {question}\n{choices}\nAnswer:", " {letter}"),
}
"""Prompt and completion of the templates that every multiple-choice task has; the first is the default."""
DEFAULT_TEMPLATE = "instruction"


@dataclass(frozen=True)
class TemplateText:
    """A text with places for columns: pairs of what stands before a place, and the column that goes there."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str, where: str, columns: Collection[str], note: str = "") -> "TemplateText":
        """Read a text of a template.

        Args:
            text: with `{column}`, and `{{` and `}}` for braces.
            where: what a message calls it.
            columns: the names that are accepted.
            note: a last word for the message.

        Raises:
            DataError: the text names anything but these columns, or a brace has no partner.
        """
        accepted = ", ".join(f"{{{column}}}" for column in columns) or "none"
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise DataError(f"{where}: {error}: write {{{{ and }}}} for braces; columns are {accepted}") from None
        for _, name, format_spec, conversion in parsed:
            if name is not None and (name not in columns or format_spec or conversion):
                seen = name + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")
                hint = did_you_mean(name, columns) if name not in columns else ""
                raise DataError(
                    f"{where}: {{{seen}}} is not the plain name of a column; accepted are {accepted}, and {{{{ "
                    f"and }}}} for braces.{hint}{note}"
                )
        return cls(tuple((literal, name) for literal, name, _, _ in parsed))

    @property
    def columns(self) -> list[str]:
        return [name for _, name in self.parts if name is not None]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text of one row."""
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self.parts)


def choice_template(task: str, spec: TemplateSpec | None) -> tuple[TemplateText, TemplateText]:
    """Prompt and completion of a multiple-choice task.

    Raises:
        DataError: no template of the task has this name, or a text of the user's cannot be used.
    """
    name = spec.name if spec else DEFAULT_TEMPLATE
    if spec and spec.prompt is not None and spec.completion is not None:
        texts = (spec.prompt, spec.completion)
    elif name in CHOICE_TEMPLATES:
        # The wrapper takes the place of the turns of a chat: both together would say everything twice.
        texts = CHOICE_TEMPLATES["short" if spec and spec.chat and name == DEFAULT_TEMPLATE else name]
    else:
        raise DataError(
            f'"{name}" is not a template of {task}; it has {", ".join(CHOICE_TEMPLATES)}. For another, give prompt and '
            f"completion.{did_you_mean(name, CHOICE_TEMPLATES)}"
        )
    where = f'template "{name}"'
    only = " What differs by option belongs in completion."
    prompt = TemplateText.parse(texts[0], f"{where}, prompt", QUESTION_COLUMNS, only)
    completion = TemplateText.parse(texts[1], f"{where}, completion", (*QUESTION_COLUMNS, *OPTION_COLUMNS))
    if not set(completion.columns) & set(OPTION_COLUMNS):
        raise DataError(
            f'{where}: completion "{texts[1]}" is the same for every option of a question: put one of '
            f"{', '.join(f'{{{c}}}' for c in OPTION_COLUMNS)} into it"
        )
    return prompt, completion
