"""What is tried again after a pack has failed, by the kind of failure."""

from collections.abc import Sequence
from dataclasses import replace

from loralaw.spec import Cell
from loralaw.study.failure import Failure
from loralaw.study.pack_job import PackJob
from loralaw.training import micro_batch_counts, n_devices_of

DEATHS_BEFORE_HALVES = 2
"""A worker that dies once may have been killed by anything; one that dies twice, perhaps by its pack."""
DEATHS_OF_A_CELL = 4


def next_jobs(job: PackJob, failure: Failure, left: Sequence[Cell]) -> list[PackJob]:
    """What to try instead. Empty: the failure is the result of the cells that are left.

    | kind | several cells left | one cell left |
    | --- | --- | --- |
    | out-of-memory | halves | the batch of a step in more parts, until a part is a row |
    | killed | once more, then halves | as it was, up to 4 deaths |
    | error | halves, so that it costs only the cells that cause it | its result |
    | model, storage | their result | its result |

    Args:
        job: what failed.
        failure: why.
        left: its cells without a record.
    """
    cells, n_deaths = tuple(left), job.n_deaths + (failure.kind == "killed")
    again = replace(job, cells=cells, n_deaths=n_deaths)
    if not cells or failure.kind in ("model", "storage"):
        return []
    if failure.kind == "killed" and n_deaths < (DEATHS_BEFORE_HALVES if len(cells) > 1 else DEATHS_OF_A_CELL):
        return [again]
    if len(cells) > 1:
        half = len(cells) // 2
        return [replace(again, cells=part, n_deaths=0) for part in (cells[:half], cells[half:])]
    if failure.kind == "out-of-memory":
        return [replace(again, n_micro_batches=n) for n in _more_parts(job)]
    return []


def _more_parts(job: PackJob) -> list[int]:
    """The next number of equal parts that a device's rows of a batch can be cut into, if there is one."""
    cell = job.cells[0]
    counts = micro_batch_counts(int(cell.training["batch_size"]) // n_devices_of(cell))
    return [n for n in counts if n > job.n_micro_batches][:1]
