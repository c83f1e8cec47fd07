"""α's stream of rows, and the steps at which it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loralaw.spec import AlphaLoraMethod
from loralaw.tuners.row_scale_batches import RowScaleBatches
from loralaw.tuners.row_scale_protocol import RowScaleProtocol

counts = st.integers(1, 9)


@given(n_rows=st.integers(1, 20), batch_size=counts, seed=st.integers(0, 3))
def test_every_round_reads_every_row_once_in_an_order_of_its_own(n_rows: int, batch_size: int, seed: int) -> None:
    batches = RowScaleBatches(n_rows, batch_size, seed=seed, shuffle=True)
    stream = [row for step in range(3 * n_rows) for row in batches.rows(step)][: 3 * n_rows]
    rounds = [stream[first : first + n_rows] for first in (0, n_rows, 2 * n_rows)]
    assert all(sorted(one) == list(range(n_rows)) for one in rounds)
    assert n_rows < 8 or len({tuple(one) for one in rounds}) == 3


@given(n_rows=st.integers(1, 20), batch_size=counts, world_size=st.integers(1, 4), step=st.integers(0, 50))
def test_processes_share_the_batch_of_one(n_rows: int, batch_size: int, world_size: int, step: int) -> None:
    alone = RowScaleBatches(n_rows, batch_size * world_size, seed=1, shuffle=True).rows(step)
    parts = [
        RowScaleBatches(n_rows, batch_size, seed=1, shuffle=True, world_size=world_size, rank=rank).rows(step)
        for rank in range(world_size)
    ]
    assert [row for part in parts for row in part] == alone


def test_another_seed_is_another_order() -> None:
    first, second = (RowScaleBatches(50, 50, seed=seed, shuffle=True).rows(0) for seed in (0, 1))
    assert first != second


def test_without_shuffling_it_goes_round_in_file_order() -> None:
    batches = RowScaleBatches(5, 3, seed=0, shuffle=False)
    assert [batches.rows(step) for step in range(4)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("steps_per_epoch", [None, 1, 5, 6])
def test_steps_are_numbered_as_a_loop_that_counts_them(every: int, steps_per_epoch: int | None) -> None:
    """i % T == 0, with i from 0 through the training, or in each epoch as in the authors' loop."""
    protocol, n_done = RowScaleProtocol("held-out", every=every), 0
    for n_epoch in range(4):
        for i in range(steps_per_epoch or 5):
            before = n_epoch * (steps_per_epoch or 5) + i
            due = (i if steps_per_epoch else before) % every == 0
            assert protocol.step_number(before + 1, steps_per_epoch) == (n_done if due else None)
            n_done += due


def test_jointly_there_are_no_steps_of_its_own() -> None:
    for every in (None, 1):
        assert RowScaleProtocol("joint", every=every).step_number(1, None) is None


def test_a_study_and_the_trainer_mean_the_same_by_default() -> None:
    """The design's schedule: every 10 steps, learning rate 5e-3, a tenth of the rows."""
    protocol, method = RowScaleProtocol(), AlphaLoraMethod()
    assert (method.row_scale_protocol, method.row_scale_learning_rate) == (protocol.name, protocol.learning_rate)
    assert method.row_scale_share == protocol.share == 0.1
    steps = [step for step in range(1, 41) if protocol.step_number(step, None) is not None]
    assert steps == [1, 11, 21, 31]
    assert method.n_row_scale_steps(40) == len(steps)
    assert [method.n_row_scale_steps(n) for n in (1, 10, 11)] == [1, 1, 2]
