"""Losses of the options of multiple-choice questions, by one row a question where a model can be given that."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loralaw.tasks import EncodedQuestions, QuestionTree, question_tree
from loralaw.training import scores
from loralaw.training.head_loss import CHUNK_TOKENS, Head, token_losses

HEAD_TOKENS = 4 * CHUNK_TOKENS
"""Scored tokens of each cell that wait for the head: enough for its chunks to be full."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""What models call the number of tokens that one of theirs looks back, if not all."""


@dataclass(frozen=True)
class TreeRows:
    """Rows of trees that go through a model together: see `QuestionTree`."""

    ids: Tensor
    """(rows, length) int64, padded on the right."""
    positions: Tensor | None
    """(rows, length) int64; None where no tree forks: then tokens see all before them, as ever."""
    mask: Tensor | None
    """(rows, 1, length, length) float32, 0 where a token sees another, else -inf; None as positions."""

    @classmethod
    def of(cls, trees: Sequence[QuestionTree]) -> "TreeRows":
        """Pad trees to the longest of them."""
        ids = _padded([tree.ids for tree in trees], 0)
        if not any(tree.n_branches > 1 for tree in trees):
            return cls(ids, None, None)
        branch = _padded([tree.branch for tree in trees], -1)  # padding sees what is shared, so that nothing is NaN
        is_seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        is_seen &= torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        mask = torch.zeros(is_seen.shape).masked_fill_(~is_seen, -torch.inf)
        return cls(ids, _padded([tree.positions for tree in trees], 0), mask[:, None])

    def to(self, device: torch.device) -> "TreeRows":
        """The same there."""
        mask, positions = (None if each is None else each.to(device) for each in (self.mask, self.positions))
        return TreeRows(self.ids.to(device), positions, mask)

    def repeated(self, n_times: int) -> "TreeRows":
        """All rows again and again."""
        if self.mask is None or self.positions is None:
            return TreeRows(self.ids.repeat(n_times, 1), None, None)
        mask, positions = self.mask.repeat(n_times, 1, 1, 1), self.positions.repeat(n_times, 1)
        return TreeRows(self.ids.repeat(n_times, 1), positions, mask)


HiddenOf = Callable[[TreeRows], Tensor]
"""Puts rows through a model: (K·rows, length, hidden), the rows for each of K cells after the other."""


def score_choices(
    questions: EncodedQuestions, hidden_of: HiddenOf, n_cells: int, head: Head, config: Any, probe_with: HiddenOf
) -> Tensor:
    """The summed loss of every option's tokens, the context not counted.

        Σ_t -log p(option token t | context, option tokens before t)

    Args:
        questions: with at least one.
        hidden_of: runs all cells.
        n_cells: K.
        head: frozen.
        config: of the model.
        probe_with: runs what decides whether the model can be given trees; not a cell with others, or one cell's way
            of being scored would depend on its company.

    Returns:
        (K, options) float64, nats, on the CPU; the options of a question after those of the one before.
    """
    trees = questions.trees()
    if any(tree.n_branches > 1 for tree in trees) and not takes_trees(trees, probe_with, head, config):
        trees = questions.single_rows()
    return score_trees(trees, hidden_of, n_cells, head)


def takes_trees(trees: Sequence[QuestionTree], hidden_of: HiddenOf, head: Head, config: Any) -> bool:
    """Whether the model heeds a mask and positions that are given to it, so that a branch is as a row alone.

    Seen by scoring an option of the longest question both ways, after another one and alone. Models that look back over
    fewer tokens than that by a rule of their own are known by their configuration as well, since what they leave out
    may hardly matter there.
    """
    longest = max((tree for tree in trees if tree.n_branches > 1), key=lambda tree: tree.longest_row)
    if _window(config) < max(len(tree.ids) for tree in trees):
        return False
    fork, alone = second_option(longest)
    try:
        by_tree, by_row = score_trees([fork], hidden_of, 1, head)[:, 1], score_trees([alone], hidden_of, 1, head)[:, 0]
    except (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError):
        return False  # it has no such arguments, or no attention that could be told what to see
    exact = head.weight.dtype == torch.float32
    return torch.allclose(by_tree, by_row, rtol=1e-4 if exact else 3e-2, atol=1e-4 if exact else 3e-2)


def score_trees(trees: Sequence[QuestionTree], hidden_of: HiddenOf, n_cells: int, head: Head) -> Tensor:
    """(K, options) summed losses of the options of all trees, one tree after the other."""
    n_options = [len(tree.options) for tree in trees]
    first = [0, *itertools.accumulate(n_options)]
    sums = torch.zeros(n_cells, first[-1], dtype=torch.float64)
    waiting, hidden_of_waiting = list[int](), list[Tensor]()
    blocks = list(tree_blocks(trees))
    for number, block in enumerate(blocks, 1):
        rows = TreeRows.of([trees[i] for i in block])
        hidden = hidden_of(rows)
        hidden = hidden.view(n_cells, len(block), *hidden.shape[1:])
        places = [(row, place) for row, i in enumerate(block) for place in trees[i].places]
        row, place = torch.tensor(places, dtype=torch.int64, device=hidden.device).view(-1, 2).T
        hidden_of_waiting.append(hidden[:, row, place])
        waiting += block
        if number == len(blocks) or sum(each.shape[1] for each in hidden_of_waiting) >= HEAD_TOKENS:
            which = [first[i] + option for i in waiting for option in range(n_options[i])]
            sums[:, which] = _sums([trees[i] for i in waiting], torch.cat(hidden_of_waiting, 1), head).cpu()
            waiting, hidden_of_waiting = [], []
    return sums


def tree_blocks(trees: Sequence[QuestionTree]) -> Iterator[list[int]]:
    """The numbers of trees that go through a model together: of about one length, so that little is padded."""
    block = list[int]()
    for i in sorted(range(len(trees)), key=lambda i: len(trees[i].ids)):
        if block and (len(block) + 1) * len(trees[i].ids) > scores.SCORE_TOKENS_PER_CELL:
            yield block
            block = []
        block.append(i)
    if block:
        yield block


def second_option(tree: QuestionTree) -> tuple[QuestionTree, QuestionTree]:
    """The first two branches of a tree that forks, and the second of them alone, predicting at all of their tokens."""
    shared = [token for token, branch in zip(tree.ids, tree.branch, strict=True) if branch == 0]
    branches = [number for number in dict.fromkeys(tree.branch) if number][:2]
    rests = [[token for token, of in zip(tree.ids, tree.branch, strict=True) if of == number] for number in branches]
    rows = [([*shared, *rest, tree.ids[0]], len(rest) + 1) for rest in rests]
    return question_tree(rows), question_tree(rows[1:])


def _sums(trees: Sequence[QuestionTree], hidden: Tensor, head: Head) -> Tensor:
    """hidden (K, predictions of the trees, hidden) -> (K, options of the trees)."""
    n_cells = len(hidden)
    targets = torch.tensor([target for tree in trees for target in tree.targets], device=hidden.device)
    losses = token_losses(hidden.flatten(0, 1), head, targets.repeat(n_cells)).double().view(n_cells, -1)
    losses = torch.nn.functional.pad(losses, (0, 1))  # where options with fewer tokens than others point to
    first = [0, *itertools.accumulate(len(tree.targets) for tree in trees)]
    options = [[at + p for p in option] for at, tree in zip(first, trees, strict=False) for option in tree.options]
    return losses[:, _padded(options, first[-1]).to(hidden.device)].sum(-1)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """(rows, length of the longest) int64."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], dtype=torch.int64)


def _window(config: Any) -> float:
    """Tokens that the model looks back at most."""
    text = config.get_text_config()
    return min((w for name in _WINDOWS if isinstance(w := getattr(text, name, None), int)), default=float("inf"))
