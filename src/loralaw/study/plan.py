"""From a checked study to cells, and from cells to packs that train together."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from loralaw.errors import InputError
from loralaw.spec import Cell, points
from loralaw.study.cell_needs import Needs
from loralaw.study.check import CheckedStudy
from loralaw.study.pack_job import PackJob
from loralaw.training import machine, n_devices_of, n_steps_of

BEST_STEP_TOKENS = 4000
"""Packing gains up to 2,000 to 8,000 tokens a step (measured); beyond it only memory grows."""

MEMORY_SHARE = 0.7
"""Of the memory that is free when the study begins; the rest is for whatever else the machine does."""


def plan_cells(checked: CheckedStudy) -> list[Cell]:
    """The cells of a study, resolved: contents instead of names, numbers instead of defaults."""
    spec = checked.spec
    # Made once: cells that share settings share the objects, of which a large study would have many.
    methods = {id(method): method.model_dump(mode="json", exclude_none=True) for method in spec.methods}
    tasks = {task: task.model_dump(mode="json", exclude_none=True) for task in spec.all_tasks}
    training = spec.training.model_dump(mode="json")
    evaluation = spec.evaluation.model_dump(mode="json")
    return [
        Cell(
            base_model=point.base_model,
            base_model_hash=checked.models[point.base_model].source.hash,
            method=methods[id(point.method)],
            rank=point.rank,
            n_train_examples=checked.n_examples(point.n_train_examples, (point.task, point.template)),
            seed=point.seed,
            task=tasks[point.task],
            data_hash=checked.hashes[point.task, point.template],
            training=training,
            evaluation=evaluation,
            template=None if point.template is None else point.template.name,
            n_labels=checked.data[point.task, point.template].n_labels,
        )
        for point in points(spec)
    ]


class Hardware(Protocol):
    """What packs train on: this machine (the module `machine`), or a cluster."""

    def n_gpus(self) -> int: ...
    def n_gpus_of_a_machine(self) -> int: ...
    def n_cores(self) -> int: ...
    def available_bytes(self) -> int: ...


@dataclass(frozen=True)
class Plan:
    """The packs of the cells that are to be trained, and how many of them at a time."""

    jobs: list[PackJob]
    n_workers: int
    n_threads: int
    """Of one worker's products."""
    n_devices: int
    """GPUs of one worker, where there are any."""


def plan_jobs(
    cells: Sequence[Cell],
    checked: CheckedStudy,
    needs: Needs,
    n_workers: int | None = None,
    hardware: Hardware = machine,
) -> Plan:
    """Packs for so many workers, or for as many as suit the hardware."""
    n_workers = n_workers or _suitable_workers(cells, needs, hardware, checked.spec.training.devices_per_cell)
    n_threads = max(1, hardware.n_cores() // n_workers)  # the same for the last cells of a study: their bits hang on it
    n_workers = min(n_workers, max(1, len(cells)))
    packs = plan_packs(cells, checked, needs, n_workers, hardware)
    jobs = [PackJob(tuple(pack), n_bytes=needs.pack_bytes(pack)) for pack in packs]
    n_devices = checked.spec.training.devices_per_cell
    return Plan(jobs, n_workers, n_threads, n_devices)


def plan_packs(
    cells: Sequence[Cell], checked: CheckedStudy, needs: Needs, n_workers: int = 1, hardware: Hardware = machine
) -> list[list[Cell]]:
    """Group cells of one base model and one task into packs of nearly equal size.

    Cells of similar length train together: a pack shrinks when a cell is done, and few cells at once are slow. Cells
    that train alone are packs of one. Base models come in the order of the study. How cells are grouped does
    not change their results.
    """
    groups: dict[tuple[str, str, bool], list[Cell]] = defaultdict(list)
    for cell in cells:
        together = checked.spec.packing and needs.of(cell).path == "packed"
        groups[cell.base_model, cell.data_hash, together].append(cell)
    room = int(MEMORY_SHARE * hardware.available_bytes()) // n_workers
    packs = []
    for (base_model, _, together), group in groups.items():
        group.sort(key=n_steps_of)
        size = _pack_size(group, needs, room - needs.process_bytes(base_model)) if together else 1
        n_packs = -(-len(group) // size)
        if together:  # as many for each worker, if there are cells for it
            n_packs = min(len(group), -(-n_packs // n_workers) * n_workers)
        packs += [group[len(group) * i // n_packs : len(group) * (i + 1) // n_packs] for i in range(n_packs)]
    return packs


def check_hardware(cells: Iterable[Cell], needs: Needs, hardware: Hardware = machine) -> None:
    """Refuse a study of which not even one cell fits, a row at a time.

    Raises:
        InputError: with how much is needed and how much is there.
    """
    n_gpus, n_gpus_together = hardware.n_gpus(), hardware.n_gpus_of_a_machine()
    available = hardware.available_bytes()
    for cell in cells:
        n_devices = n_devices_of(cell)
        if n_gpus and n_devices > n_gpus_together:
            raise InputError(
                f"training.devices_per_cell is {n_devices}, and the GPUs of one machine are {n_gpus_together}: give at "
                "most as many"
            )
        free = available * n_devices // n_gpus if n_gpus else available
        of_weights = needs.base_bytes(cell.base_model)
        needed = needs.process_bytes(cell.base_model) + needs.of(cell).least_memory_bytes
        if needed > free:
            raise InputError(
                f'"{cell.base_model}" needs about {needed / 1e9:.1f} GB for one cell, {of_weights / 1e9:.1f} GB of it '
                f"for weights, and {free / 1e9:.1f} GB are free: free some, or use a smaller base model, max_length "
                "or rank, or more GPUs for a cell (training.devices_per_cell)"
            )


def _suitable_workers(cells: Iterable[Cell], needs: Needs, hardware: Hardware, n_devices: int) -> int:
    """One a GPU; without one, one a core, as far as memory allows: two workers with a thread each do 1.4 times as much
    as one with two (the quickstart study). Fewer where a cell takes several."""
    if n_gpus := hardware.n_gpus():
        return max(1, n_gpus // n_devices)
    of_largest = max((needs.pack_bytes([cell]) for cell in cells), default=1)
    n_at_a_time = int(MEMORY_SHARE * hardware.available_bytes()) // of_largest
    return max(1, min(hardware.n_cores() // n_devices, n_at_a_time))


def _pack_size(group: Sequence[Cell], needs: Needs, room: int) -> int:
    """As many cells as pay, and as there is room for."""
    training = group[0].training
    n_tokens = int(training["batch_size"] * training["max_length"])
    of_cell = max(needs.of(cell).memory_bytes for cell in group)
    return max(1, min(BEST_STEP_TOKENS // n_tokens, room // of_cell))
