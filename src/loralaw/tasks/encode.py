"""From text to token rows: right-padded ids, and labels that say which tokens are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loralaw.errors import DataError
from loralaw.tasks.task_data import Choice, Example

CHAT_DATE = "26 Jul 2024"
"""What chat templates that write a date are given, as Llama 3's own do without a clock."""
NOT_SCORED = -100
"""As in transformers: a label that is not scored."""


@dataclass(frozen=True)
class EncodedRows:
    """Token rows of equal padded length.

    ids: (rows, length) int64. labels: the same, NOT_SCORED where a token is not scored (prompt, padding). n_tokens:
    (rows,) int64, the real tokens of a row. n_bytes: (rows,) int64, bytes of text that the scored tokens stand for.
    document: (rows,) int64, the number of the source document. is_cut: (rows,) bool, whether the row was longer.
    """

    ids: Tensor
    labels: Tensor
    n_tokens: Tensor
    n_bytes: Tensor
    document: Tensor
    is_cut: Tensor

    def rows(self, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """ids and labels of some rows."""
        return self.ids[index], self.labels[index]

    @property
    def token_mask(self) -> Tensor:
        """(rows, length) bool: which places hold a token, not padding."""
        return torch.arange(self.ids.shape[1]) < self.n_tokens[:, None]


def encode_examples(examples: Sequence[Example], tokenizer: Any, max_length: int, is_chat: bool = False) -> EncodedRows:
    """Encode examples: [start] prompt completion. Completions after a prompt end with the end token.

    Prompt and completion are one text to the tokenizer, as they are to whoever uses the model; blanks between them are
    scored. A text that is too long loses its end; a prompt that is too long loses its beginning, so that the completion
    stays.

    Args:
        examples: what to encode.
        tokenizer: of the base model.
        max_length: tokens of a row; all rows are padded to it.
        is_chat: a prompt becomes the user's turn in the tokenizer's chat template, and its completion the answer.

    Raises:
        DataError: is_chat, and the tokenizer has no chat template.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    prompts = in_turns(tokenizer, [e.prompt for e in examples]) if is_chat else [e.prompt for e in examples]
    texts = [_blanks_moved(prompt, e.completion) for prompt, e in zip(prompts, examples, strict=True)]
    pairs = _token_pairs(tokenizer, texts)
    pairs = [pair.followed_by(end) if e.prompt else pair for e, pair in zip(examples, pairs, strict=True)]
    reserved = [len(pair.continuation) for pair in pairs]
    scored, documents = [completion for _, completion in texts], [e.document for e in examples]
    return _rows(pairs, reserved, scored, documents, tokenizer, max_length)


def encode_choices(choices: Sequence[Choice], tokenizer: Any, max_length: int, is_chat: bool = False) -> EncodedRows:
    """One row for each option of each question, in order: [start] context option, the option scored.

    The rows of lm-evaluation-harness, but that every row begins with the start token, also of a tokenizer that does not
    put it there by itself, and that a context which is too long is cut for all options of its question alike, for what
    they are compared on must be the same.

    Args:
        choices: the questions.
        tokenizer, max_length, is_chat: as of `encode_examples`; the context is the prompt.

    Raises:
        DataError: an option without text, or is_chat, and the tokenizer has no chat template.
    """
    _check_options(choices)
    contexts = in_turns(tokenizer, [c.context for c in choices]) if is_chat else [c.context for c in choices]
    options = [option for c in choices for option in c.options]
    shared = [context for c, context in zip(choices, contexts, strict=True) for _ in c.options]
    pairs = _token_pairs(tokenizer, [_blanks_moved(*texts) for texts in zip(shared, options, strict=True)])
    reserved = list[int]()
    for c in choices:
        own = pairs[len(reserved) : len(reserved) + len(c.options)]
        reserved += [max(len(pair.continuation) for pair in own)] * len(own)
    documents = [c.document for c in choices for _ in c.options]
    return _rows(pairs, reserved, options, documents, tokenizer, max_length)


class _TokenPair(NamedTuple):
    """The tokens of a context, with the start token before them, and of what follows it."""

    start: list[int]
    context: list[int]
    continuation: list[int]

    def followed_by(self, tokens: list[int]) -> "_TokenPair":
        return self._replace(continuation=self.continuation + tokens)


def _check_options(choices: Sequence[Choice]) -> None:
    for number, choice in enumerate(choices):
        if not choice.options or "" in choice.options:
            raise DataError(
                f"question {number} of {choice.document!r} has the options {list(choice.options)}: an option without "
                "text cannot be compared; give every option a text, or leave the question out"
            )


def in_turns(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Prompts as the user's turn, up to where the model's answer begins; an empty one stays empty."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise DataError(
            f"the task is a chat, and the base model's tokenizer ({type(tokenizer).__name__}) has no chat template: "
            "choose a base model that was made for chat, or a task without turns"
        )

    def turn(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        # Some templates write a date, today's if none is given: tokens would change from day to day.
        text = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, date_string=CHAT_DATE, today_date=CHAT_DATE
        )
        return str(text)

    return [turn(prompt) if prompt else "" for prompt in prompts]


def _token_pairs(tokenizer: Any, texts: list[tuple[str, str]]) -> list[_TokenPair]:
    """Tokens of context and continuation, tokenised as one text and parted where the context alone would end."""
    contexts = list(dict.fromkeys(context for context, _ in texts))
    n_tokens = dict(zip(contexts, map(len, _ids(tokenizer, contexts)), strict=True))
    wholes = _ids(tokenizer, [context + continuation for context, continuation in texts])
    start = [] if (token := _start_token(tokenizer)) is None else [token]
    pairs = []
    for (context, continuation), whole in zip(texts, wholes, strict=True):
        has_start = start != [] and whole[:1] == start  # a chat template may have put it there
        ids = whole[1:] if has_start else whole
        n_context = max(0, n_tokens[context] - has_start)
        if continuation:  # where the tokenizer joins it with the context, their common token is scored
            n_context = min(n_context, max(0, len(ids) - 1))
        pairs.append(_TokenPair(start, ids[:n_context], ids[n_context:]))
    return pairs


def _blanks_moved(context: str, continuation: str) -> tuple[str, str]:
    """Blanks at the end of a context go to the continuation: to most tokenizers they are part of the next word."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]) if texts else []


def _start_token(tokenizer: Any) -> int | None:
    """What a row begins with, so that its first real token is scored too: a document ends where the next begins."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if start is None else int(start)


def _rows(
    pairs: list[_TokenPair],
    reserved: list[int],
    scored: list[str],
    documents: list[str],
    tokenizer: Any,
    max_length: int,
) -> EncodedRows:
    """Rows of pairs, each context cut to what is left of the row beside `reserved` tokens."""
    ids = torch.zeros(len(pairs), max_length, dtype=torch.int64)
    labels = torch.full_like(ids, NOT_SCORED)
    n_tokens, n_bytes, is_cut = [], [], []
    for row, (pair, n_reserved, text) in enumerate(zip(pairs, reserved, scored, strict=True)):
        room = max_length - len(pair.start)
        kept = pair.continuation[:room]
        context = pair.context[max(0, len(pair.context) + min(n_reserved, room) - room) :]
        is_cut.append(len(context) + len(kept) < len(pair.context) + len(pair.continuation))
        n = len(pair.start) + len(context) + len(kept)
        ids[row, :n] = torch.tensor(pair.start + context + kept, dtype=torch.int64)
        labels[row, n - len(kept) : n] = torch.tensor(kept, dtype=torch.int64)
        n_tokens.append(n)
        # A token in the middle of a character decodes to a replacement mark: only cut rows can be off, by 3 bytes.
        whole = len(kept) == len(pair.continuation)
        text = text if whole else tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        n_bytes.append(len(text.encode("utf-8", "surrogatepass")))
    number = {name: i for i, name in enumerate(dict.fromkeys(documents))}
    document = torch.tensor([number[name] for name in documents], dtype=torch.int64)
    return EncodedRows(
        ids,
        labels,
        torch.tensor(n_tokens, dtype=torch.int64),
        torch.tensor(n_bytes, dtype=torch.int64),
        document,
        torch.tensor(is_cut, dtype=torch.bool),
    )
