"""From text to token rows: right-padded ids, and labels that say which tokens are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loralaw.tasks.task_data import Choice, Example

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


def encode_examples(examples: Sequence[Example], tokenizer: Any, max_length: int) -> EncodedRows:
    """Encode examples: [start] prompt completion. Completions after a prompt end with the end token.

    A text that is too long loses its end; a prompt that is too long loses its beginning, so that the completion stays.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    prompts = _ids(tokenizer, [e.prompt for e in examples])
    completions = _ids(tokenizer, [e.completion for e in examples])
    pairs = [
        (prompt, completion + (end if e.prompt else []))
        for e, prompt, completion in zip(examples, prompts, completions, strict=True)
    ]
    return _rows(pairs, [e.completion for e in examples], [e.document for e in examples], tokenizer, max_length)


def encode_choices(choices: Sequence[Choice], tokenizer: Any, max_length: int) -> EncodedRows:
    """One row for each option of each question, in order: [start] context option, the option scored."""
    rows = [(c, option) for c in choices for option in c.options]
    contexts = _ids(tokenizer, [c.context for c, _ in rows])
    options = _ids(tokenizer, [option for _, option in rows])
    documents = [c.document for c, _ in rows]
    return _rows(list(zip(contexts, options, strict=True)), [o for _, o in rows], documents, tokenizer, max_length)


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]) if texts else []


def _start_token(tokenizer: Any) -> int | None:
    """What a row begins with, so that its first real token is scored too: a document ends where the next begins."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if start is None else int(start)


def _rows(
    pairs: list[tuple[list[int], list[int]]], scored: list[str], documents: list[str], tokenizer: Any, max_length: int
) -> EncodedRows:
    start = [] if (token := _start_token(tokenizer)) is None else [token]
    room = max_length - len(start)
    ids = torch.zeros(len(pairs), max_length, dtype=torch.int64)
    labels = torch.full_like(ids, NOT_SCORED)
    n_tokens, n_bytes, is_cut = [], [], []
    for row, ((prompt, completion), text) in enumerate(zip(pairs, scored, strict=True)):
        kept = completion[:room]
        prompt = prompt[max(0, len(prompt) + len(kept) - room) :]
        is_cut.append(len(pairs[row][0]) + len(completion) > room)
        n = len(start) + len(prompt) + len(kept)
        ids[row, :n] = torch.tensor(start + prompt + kept)
        labels[row, n - len(kept) : n] = torch.tensor(kept, dtype=torch.int64)
        n_tokens.append(n)
        # A token in the middle of a character decodes to a replacement mark: only cut rows can be off, by 3 bytes.
        text = text if len(kept) == len(completion) else tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        n_bytes.append(len(text.encode("utf-8", "surrogatepass")))
    number = {name: i for i, name in enumerate(dict.fromkeys(documents))}
    document = torch.tensor([number[name] for name in documents])
    return EncodedRows(ids, labels, torch.tensor(n_tokens), torch.tensor(n_bytes), document, torch.tensor(is_cut))
