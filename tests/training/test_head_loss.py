"""The loss from hidden states against torch's cross-entropy on all logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from loralaw.training.head_loss import CHUNK_TOKENS, Head, ScoredTokens, mean_losses, token_scores

COUNTS = [CHUNK_TOKENS + 30, 1, 2 * CHUNK_TOKENS]


@pytest.fixture(params=[1.0, 60.0], ids=["usual", "with targets of probability 0 in float32"])
def case(request: pytest.FixtureRequest) -> tuple[Tensor, Head, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(sum(COUNTS), 16, generator=draw) * request.param
    head = Head(torch.randn(40, 16, generator=draw), torch.randn(40, generator=draw))
    return hidden, head, torch.randint(0, 40, (len(hidden),), generator=draw)


def reference(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    assert head.bias is not None
    logits = hidden.double() @ head.weight.double().T + head.bias.double()
    return F.cross_entropy(logits, targets, reduction="none")


def test_losses_and_gradients_of_each_cell(case: tuple[Tensor, Head, Tensor]) -> None:
    hidden, head, targets = case
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    losses = mean_losses(ours, head, targets, COUNTS)
    expected = torch.stack([part.mean() for part in reference(theirs, head, targets).split(COUNTS)])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
    weights = torch.tensor([1.0, -2.0, 0.5])
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_token_scores(case: tuple[Tensor, Head, Tensor]) -> None:
    hidden, head, targets = case
    losses, hits = token_scores(hidden, head, targets)
    # Absolute: logits of up to 1,000 are 6e-5 apart in float32.
    torch.testing.assert_close(losses.double(), reference(hidden, head, targets), rtol=1e-5, atol=1.5e-4)
    assert hits.tolist() == ((hidden @ head.weight.T + head.bias).argmax(-1) == targets).tolist()


def test_a_token_is_not_touched_by_its_neighbours_in_the_chunk(case: tuple[Tensor, Head, Tensor]) -> None:
    hidden, head, targets = case
    alone = mean_losses(hidden[: COUNTS[0]], head, targets[: COUNTS[0]], COUNTS[:1])
    broken = hidden.clone()
    broken[COUNTS[0] :] = math.nan
    losses = mean_losses(broken, head, targets, COUNTS)
    assert losses[0] == alone[0]
    assert losses[1:].isnan().all()


def test_scored_tokens_are_those_after_the_first_with_a_label() -> None:
    labels = torch.tensor([[7, 8, -100, 9], [-100, -100, 5, -100]])
    scored = ScoredTokens.of(labels)
    assert scored.positions.tolist() == [0, 2, 5]  # position t predicts label t + 1
    assert scored.targets.tolist() == [8, 9, 5]


def test_no_bit_of_a_cell_depends_on_the_number_of_tokens_beside_it() -> None:
    """In a vocabulary so large that bfloat16 products of few and of many rows are summed in another order."""
    draw = torch.Generator().manual_seed(0)
    head = Head(torch.randn(4096, 128, generator=draw).bfloat16(), None)
    hidden, targets = torch.randn(700, 128, generator=draw), torch.randint(0, 4096, (700,), generator=draw)
    for n_beside in (0, 33, 100, 400):
        together = hidden[: 252 + n_beside].clone().requires_grad_()
        losses = mean_losses(together, head, targets[: 252 + n_beside], [n_beside, 252] if n_beside else [252])
        losses[-1].backward()
        own, alone = hidden[n_beside : n_beside + 252].clone().requires_grad_(), targets[n_beside : n_beside + 252]
        expected = mean_losses(own, head, alone, [252])
        expected.sum().backward()
        assert losses[-1] == expected[0]
        assert together.grad is not None
        assert own.grad is not None
        assert torch.equal(together.grad[n_beside:], own.grad)
