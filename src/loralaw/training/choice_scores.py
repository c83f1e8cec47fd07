"""Losses of the options of multiple-choice questions, by one row a question where a model can be given that."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from loralaw.tasks import EncodedQuestions, QuestionTree, question_tree
from loralaw.training.head_loss import CHUNK_TOKENS, Head, token_losses
from loralaw.training.tree_rows import TreeRows, padded, tree_blocks

HEAD_TOKENS = 4 * CHUNK_TOKENS
"""Scored tokens of each cell that wait for the head: enough for its chunks to be full."""
LEAST_SHARED, LEAST_SAVED = 16, 256
"""Tokens of a beginning that all questions share, and those that it saves, from which it is run once for all."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""What models call the number of tokens that one of theirs looks back, if not all."""


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
        rows = questions.single_rows()
        number = {row: i for i, row in enumerate(dict.fromkeys(rows))}  # equal options get equal losses, bit for bit
        sums = _scored(list(number), hidden_of, n_cells, head, config, probe_with)
        return sums[:, [number[row] for row in rows]]
    return _scored(trees, hidden_of, n_cells, head, config, probe_with)


def _scored(
    trees: Sequence[QuestionTree], hidden_of: HiddenOf, n_cells: int, head: Head, config: Any, probe_with: HiddenOf
) -> Tensor:
    """(K, options), a beginning that many trees share run once if the model takes that."""
    n_before, group = shared_beginning(trees)
    if n_before and not takes_beginning([trees[i] for i in group], n_before, probe_with, head, config):
        n_before = 0
    if not n_before:
        return score_trees(trees, hidden_of, n_cells, head)
    first = [0, *itertools.accumulate(len(tree.options) for tree in trees)]
    sums = torch.zeros(n_cells, first[-1], dtype=torch.float64)
    for members, n_kept in ((group, n_before), (sorted({*range(len(trees))} - {*group}), 0)):
        if members:
            columns = [column for i in members for column in range(first[i], first[i + 1])]
            sums[:, columns] = score_trees([trees[i] for i in members], hidden_of, n_cells, head, n_kept)
    return sums


def shared_beginning(trees: Sequence[QuestionTree]) -> tuple[int, list[int]]:
    """How many tokens to run once for all trees that begin with them, and the numbers of these trees.

    Such tokens are an instruction that never changes: those of the tree in the middle of the alphabet that save the
    most; 0 where there are too few to be worth it.
    """
    reference = sorted(tree.ids for tree in trees)[len(trees) // 2]
    # Not what predicts something, and not what is in a branch.
    common = [min(_n_common(tree.ids, reference), *tree.places, tree.branch.count(0)) for tree in trees]
    saved, n_before = max((n * rank, n) for rank, n in enumerate(sorted(common, reverse=True)))
    if n_before < LEAST_SHARED or saved < LEAST_SAVED:
        return 0, []
    return n_before, [i for i, n in enumerate(common) if n >= n_before]


def takes_beginning(trees: Sequence[QuestionTree], n_before: int, hidden_of: HiddenOf, head: Head, config: Any) -> bool:
    """Whether the model goes on from what it keeps of a beginning as if the beginning were in the row."""
    longest = max(trees, key=lambda tree: len(tree.ids))
    if _window(config) < len(longest.ids):
        return False
    return _agree(
        lambda: score_trees([longest], hidden_of, 1, head, n_before),
        lambda: score_trees([longest], hidden_of, 1, head),
        head,
    )


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
    return _agree(
        lambda: score_trees([fork], hidden_of, 1, head)[:, 1],
        lambda: score_trees([alone], hidden_of, 1, head)[:, 0],
        head,
    )


def score_trees(
    trees: Sequence[QuestionTree], hidden_of: HiddenOf, n_cells: int, head: Head, n_before: int = 0
) -> Tensor:
    """(K, options) summed losses of the options of all trees, one tree after the other.

    The first n_before tokens, with which all of these trees begin, go through the model once.
    """
    before = None
    if n_before:
        before = DynamicCache()
        hidden_of(TreeRows(torch.tensor([trees[0].ids[:n_before]]), None, None, before))
    n_options = [len(tree.options) for tree in trees]
    first = [0, *itertools.accumulate(n_options)]
    sums = torch.zeros(n_cells, first[-1], dtype=torch.float64)
    waiting, hidden_of_waiting = list[int](), list[Tensor]()
    blocks = list(tree_blocks(trees, n_before))
    for number, block in enumerate(blocks, 1):
        rows = TreeRows.of([trees[i] for i in block], n_before, before)
        hidden = hidden_of(rows)
        hidden = hidden.view(n_cells, len(block), *hidden.shape[1:])
        places = [(row, place - n_before) for row, i in enumerate(block) for place in trees[i].places]
        row, place = torch.tensor(places, dtype=torch.int64, device=hidden.device).view(-1, 2).T
        hidden_of_waiting.append(hidden[:, row, place])
        waiting += block
        if number == len(blocks) or sum(each.shape[1] for each in hidden_of_waiting) >= HEAD_TOKENS:
            which = [first[i] + option for i in waiting for option in range(n_options[i])]
            sums[:, which] = _sums([trees[i] for i in waiting], torch.cat(hidden_of_waiting, 1), head).cpu()
            waiting, hidden_of_waiting = [], []
    return sums


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
    losses = F.pad(losses, (0, 1))  # where options with fewer tokens than others point to
    first = [0, *itertools.accumulate(len(tree.targets) for tree in trees)]
    options = [[at + p for p in option] for at, tree in zip(first, trees, strict=False) for option in tree.options]
    return losses[:, padded(options, first[-1]).to(hidden.device)].sum(-1)


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _agree(one: Callable[[], Tensor], other: Callable[[], Tensor], head: Head) -> bool:
    """Whether two ways of scoring give the same, where a model may not know of the first."""
    try:
        losses = one()
    except torch.OutOfMemoryError:
        raise  # it says nothing of the model, and how a cell is scored must not hang on free memory
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError):
        return False  # it has no such arguments, or no attention that could be told what to see
    tolerance = 1e-4 if head.weight.dtype == torch.float32 else 3e-2
    return torch.allclose(losses, other(), rtol=tolerance, atol=tolerance)


def _window(config: Any) -> float:
    """Tokens that the model looks back at most."""
    text = config.get_text_config()
    return min((w for name in _WINDOWS if isinstance(w := getattr(text, name, None), int)), default=float("inf"))
