"""What is tried again after a failure."""

import pytest

from loralaw.spec import Cell
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob
from loralaw.study.retry import next_jobs


def cells(n: int, batch_size: int = 6) -> tuple[Cell, ...]:
    training = {"batch_size": batch_size, "devices_per_cell": 1}
    return tuple(Cell("m", "h", {}, 4, 8, seed, {}, "d", training, {}) for seed in range(n))


def failure(kind: str) -> Failure:
    return Failure(kind, "why", "trace")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["error", "out-of-memory"])
def test_several_cells_are_halved_and_those_with_a_record_left_out(kind: str) -> None:
    job = PackJob(cells(5))
    halves = next_jobs(job, failure(kind), job.cells[1:])
    assert [[cell.seed for cell in half.cells] for half in halves] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", ["model", "storage"])
def test_what_no_smaller_pack_can_mend_is_not_tried_again(kind: str) -> None:
    job = PackJob(cells(5))
    assert next_jobs(job, failure(kind), job.cells) == []


def test_an_error_of_one_cell_is_its_result() -> None:
    job = PackJob(cells(1))
    assert next_jobs(job, failure("error"), job.cells) == []


def test_a_cell_that_does_not_fit_gets_ever_smaller_parts_down_to_single_rows() -> None:
    job, tried = PackJob(cells(1, batch_size=6)), []
    while again := next_jobs(job, failure("out-of-memory"), job.cells):
        (job,) = again
        tried.append(job.n_micro_batches)
    assert tried == [2, 3, 6]


def test_a_killed_pack_is_tried_whole_then_in_halves_and_a_cell_not_for_ever() -> None:
    (job,) = next_jobs(PackJob(cells(4)), failure("killed"), cells(4))
    assert len(job.cells) == 4
    halves = next_jobs(job, failure("killed"), job.cells)
    assert [len(half.cells) for half in halves] == [2, 2]
    one, n_tries = PackJob(cells(1)), 1
    while again := next_jobs(one, failure("killed"), one.cells):
        (one,) = again
        n_tries += 1
    assert n_tries == 4


def test_nothing_is_left_to_try_where_every_cell_has_a_record() -> None:
    assert next_jobs(PackJob(cells(2)), failure("error"), []) == []
