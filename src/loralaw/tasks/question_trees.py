"""Multiple-choice questions as token trees: what the options of a question share is in the row once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from loralaw.tasks.encode import NOT_SCORED, EncodedRows, encode_choices
from loralaw.tasks.task_data import Choice


@dataclass(frozen=True)
class QuestionTree:
    """One row for all options of a question: the tokens that they share, then what each goes on with.

        [shared][rest of option 1][rest of option 2] ...

    A token sees the shared tokens and those of its own branch before it, and its position is the one that it has in the
    row of its option alone. The last token of an option is not there: it predicts nothing. Options that are the same
    up to it share a branch, so that equal options get equal losses, bit for bit.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Of each token, from 0; they go on after the shared tokens anew for each branch."""
    branch: tuple[int, ...]
    """Of each token: 0 is shared, 1 and on are the branches."""
    places: tuple[int, ...]
    """The places of the tokens whose hidden states predict something scored."""
    targets: tuple[int, ...]
    """What each of these is to predict."""
    options: tuple[tuple[int, ...], ...]
    """For each option, which of the predictions are its own; in what options share, more than one has the same."""

    @property
    def n_branches(self) -> int:
        """With at most one the tree is an ordinary row: more than one need a mask and positions of their own."""
        return len({*self.branch} - {0})

    @property
    def longest_row(self) -> int:
        """Tokens of the longest option's row, without its last."""
        return max(self.positions) + 1


@dataclass(frozen=True)
class EncodedQuestions:
    """Questions, from whose options' token rows trees are made; they may have different numbers of options.

    rows: one row an option, in order. question: (options,) int64, the number of each option's question, from 0.
    labels: (questions,) int64, the index of the true option among those of its question.
    """

    rows: EncodedRows
    question: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def document(self) -> Tensor:
        """(questions,) int64, the number of each question's document."""
        first = torch.searchsorted(self.question, torch.arange(len(self)))
        return self.rows.document[first]

    @property
    def n_cut(self) -> int:
        """Questions with a row that was too long."""
        return len(set(self.question[self.rows.is_cut].tolist()))

    def trees(self) -> list[QuestionTree]:
        """One tree a question."""
        ends = torch.bincount(self.question, minlength=len(self)).cumsum(0).tolist()
        rows = self._token_rows()
        return [question_tree(rows[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def single_rows(self) -> list[QuestionTree]:
        """One tree an option, for models that cannot be given branches."""
        return [question_tree([row]) for row in self._token_rows()]

    def _token_rows(self) -> list[tuple[list[int], int]]:
        """(tokens, how many of them are scored, which are the last) of each option."""
        n_scored = (self.rows.labels != NOT_SCORED).sum(1).tolist()
        n_tokens = self.rows.n_tokens.tolist()
        return [(ids[:n], scored) for ids, n, scored in zip(self.rows.ids.tolist(), n_tokens, n_scored, strict=True)]


def encode_questions(
    choices: Sequence[Choice], tokenizer: Any, max_length: int, is_chat: bool = False
) -> EncodedQuestions:
    """As `encode_choices`, which says how the rows are made; with what is needed to compare the options.

    Raises:
        DataError: an option without text, or is_chat, and the tokenizer has no chat template.
    """
    rows = encode_choices(choices, tokenizer, max_length, is_chat)
    n_options = torch.tensor([len(choice.options) for choice in choices], dtype=torch.int64)
    question = torch.arange(len(choices)).repeat_interleave(n_options)
    return EncodedQuestions(rows, question, torch.tensor([choice.label for choice in choices], dtype=torch.int64))


def question_tree(rows: Sequence[tuple[Sequence[int], int]]) -> QuestionTree:
    """The tree of some rows.

    Args:
        rows: (tokens, how many of them are scored, which are the last) of each option; the first token of a row is
            never scored, as nothing predicts it.
    """
    inputs = [tokens[:-1] for tokens, _ in rows]
    n_shared = _n_shared(inputs)
    ids, positions, branch = list(inputs[0][:n_shared]), list(range(n_shared)), [0] * n_shared
    predictions: dict[tuple[int, int], int] = {}  # (place, target) -> its number
    options, known = [], dict[tuple[int, ...], int]()
    for number, ((tokens, n_scored), taken) in enumerate(zip(rows, inputs, strict=True), 1):
        rest, scored = tuple(taken[n_shared:]), []
        is_new, start = rest not in known, known.setdefault(rest, len(ids))
        skipped = start - n_shared  # how much further to the right the branch is than in its own row
        for at in range(max(1, len(tokens) - n_scored), len(tokens)):
            place = at - 1 if at - 1 < n_shared else at - 1 + skipped
            scored.append(predictions.setdefault((place, tokens[at]), len(predictions)))
        options.append(tuple(scored))
        if is_new:
            ids += rest
            positions += range(n_shared, len(taken))
            branch += [number] * len(rest)
    places, targets = zip(*predictions, strict=True) if predictions else ((), ())
    return QuestionTree(tuple(ids), tuple(positions), tuple(branch), places, targets, tuple(options))


def _n_shared(rows: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning."""
    together = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, together))
