"""From a checked study to cells, and from cells to packs that train together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loralaw.errors import InputError
from loralaw.spec import Cell, points
from loralaw.study.check import CheckedStudy
from loralaw.study.pack_job import PackJob
from loralaw.training import is_packed, machine, n_params_trainable, n_steps_of

BEST_STEP_TOKENS = 4000
"""Packing gains up to 2,000 to 8,000 tokens a step (measured); beyond it only memory grows."""

MEMORY_SHARE = 0.7
"""Of the memory that is free when the study begins; the rest is for whatever else the machine does."""


def plan_cells(checked: CheckedStudy) -> list[Cell]:
    """The cells of a study, resolved: contents instead of names, numbers instead of defaults."""
    spec, data_hash = checked.spec, checked.data.hash
    # Made once: cells that share settings share the objects, of which a large study would have many.
    methods = {id(method): method.model_dump(mode="json", exclude_none=True) for method in spec.methods}
    task, training = spec.task.model_dump(mode="json", exclude_none=True), spec.training.model_dump(mode="json")
    evaluation = spec.evaluation.model_dump(mode="json")
    return [
        Cell(
            base_model=point.base_model,
            base_model_hash=checked.models[point.base_model].source.hash,
            method=methods[id(point.method)],
            rank=point.rank,
            n_train_examples=point.n_train_examples,
            seed=point.seed,
            task=task,
            data_hash=data_hash,
            training=training,
            evaluation=evaluation,
        )
        for point in points(spec)
    ]


class Hardware(Protocol):
    """What packs train on: this machine (the module `machine`), or a cluster."""

    def n_gpus(self) -> int: ...
    def n_cores(self) -> int: ...
    def available_bytes(self) -> int: ...


@dataclass(frozen=True)
class Plan:
    """The packs of the cells that are to be trained, and how many of them at a time."""

    jobs: list[PackJob]
    n_workers: int
    n_threads: int
    """Of one worker's products."""


def plan_jobs(
    cells: Sequence[Cell], checked: CheckedStudy, n_workers: int | None = None, hardware: Hardware = machine
) -> Plan:
    """Packs for so many workers, or for as many as suit the hardware.

    Raises:
        InputError: too little memory for a single cell.
    """
    check_memory(cells, checked, hardware)
    n_workers = n_workers or _suitable_workers(cells, checked, hardware)
    packs = plan_packs(cells, checked, n_workers, hardware)
    jobs = [PackJob(tuple(pack), n_bytes=pack_bytes(pack, checked)) for pack in packs]
    return Plan(jobs, n_workers, max(1, hardware.n_cores() // n_workers))


def plan_packs(
    cells: Sequence[Cell], checked: CheckedStudy, n_workers: int = 1, hardware: Hardware = machine
) -> list[list[Cell]]:
    """Group cells of one base model and one number of steps into packs of nearly equal size.

    Cells of a method that trains alone are packs of one. Base models come in the order of the study. How cells are
    grouped does not change their results.
    """
    groups: dict[tuple[str, int, bool], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.base_model, n_steps_of(cell), is_packed(cell.method)].append(cell)
    room = int(MEMORY_SHARE * hardware.available_bytes()) // n_workers
    packs = []
    for (_, _, together), group in groups.items():
        size = _pack_size(group, checked, room) if together else 1
        n_packs = -(-len(group) // size)
        n_packs = min(len(group), -(-n_packs // n_workers) * n_workers) if together else n_packs
        packs += [group[len(group) * i // n_packs : len(group) * (i + 1) // n_packs] for i in range(n_packs)]
    return packs


def pack_bytes(pack: Sequence[Cell], checked: CheckedStudy) -> int:
    """Estimated peak memory of a pack with the weights of its base, in bytes."""
    largest = max(pack, key=_rank)
    return weights_bytes(largest, checked) + len(pack) * _cell_bytes(largest, checked)


def weights_bytes(cell: Cell, checked: CheckedStudy) -> int:
    """Of the base: in float32, and where products are in bfloat16 a copy in that."""
    return (6 if cell.training["dtype"] == "bfloat16" else 4) * checked.models[cell.base_model].n_params


def check_memory(cells: Sequence[Cell], checked: CheckedStudy, hardware: Hardware = machine) -> None:
    """Refuse a study of which not even one cell fits, a row at a time.

    Raises:
        InputError: with how much is needed and how much is free.
    """
    free = hardware.available_bytes()
    largest = {cell.base_model: cell for cell in sorted(cells, key=_rank)}
    for name, cell in largest.items():
        of_weights = weights_bytes(cell, checked)
        needed = of_weights + _cell_bytes(cell, checked, n_rows=1)
        if needed > free:
            raise InputError(
                f'a cell of "{name}" needs about {needed / 1e9:.1f} GB, {of_weights / 1e9:.1f} GB of it for weights, '
                f"and {free / 1e9:.1f} GB are free: free some, or use a smaller base model, max_length or rank"
            )


def _suitable_workers(cells: Sequence[Cell], checked: CheckedStudy, hardware: Hardware) -> int:
    """One a GPU; without one, one a core, as far as memory allows: two workers with a thread each do more than one with
    two (measured)."""
    if n_gpus := hardware.n_gpus():
        return n_gpus
    of_largest = max((pack_bytes([cell], checked) for cell in cells), default=1)
    return max(1, min(hardware.n_cores(), int(MEMORY_SHARE * hardware.available_bytes()) // of_largest))


def _pack_size(group: Sequence[Cell], checked: CheckedStudy, room: int) -> int:
    spec = checked.spec
    if not spec.packing:
        return 1
    n_tokens = spec.training.batch_size * spec.training.max_length
    largest = max(group, key=_rank)
    room_of_cells = room - weights_bytes(largest, checked)
    return max(1, min(BEST_STEP_TOKENS // n_tokens, room_of_cells // _cell_bytes(largest, checked)))


def _cell_bytes(cell: Cell, checked: CheckedStudy, n_rows: int | None = None) -> int:
    """Of one cell in a pack, without the base's weights."""
    model, training = checked.models[cell.base_model], cell.training
    n_tokens = (n_rows or training["batch_size"]) * training["max_length"]
    n_trainable = n_params_trainable(model.skeleton, cell.method, cell.rank)
    return machine.cell_bytes(model.skeleton.config, n_tokens, _rank(cell), n_trainable, training["dtype"])


def _rank(cell: Cell) -> int:
    """0 where the method has none."""
    return cell.rank or 0
