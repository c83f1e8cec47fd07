"""Executors by name."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from loralaw.errors import InputError, did_you_mean
from loralaw.study.executor import Executor
from loralaw.study.inline_executor import InlineExecutor
from loralaw.study.local_executor import LocalExecutor
from loralaw.study.pack_job import Workload
from loralaw.study.plan import Hardware, Plan
from loralaw.study.ray_cluster import NOT_INSTALLED, RayCluster
from loralaw.study.ray_executor import RayExecutor
from loralaw.training import machine

EXECUTORS = ("local", "ray", "inline")


@dataclass(frozen=True)
class ExecutorChoice:
    """Which executor a run asks for.

    Args:
        name: one of `EXECUTORS`.
        n_workers: packs at a time; None for what suits the hardware.
        ray_address: as in `RayCluster`; for ray only.

    Raises:
        InputError: there is no such executor, it does not take these settings, or it is not installed.
    """

    name: str
    n_workers: int | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        name, n_workers = self.name, self.n_workers
        if name not in EXECUTORS:
            raise InputError(f'executor is "{name}"; accepted: {", ".join(EXECUTORS)}.' + did_you_mean(name, EXECUTORS))
        if n_workers is not None and (n_workers < 1 or (name == "inline" and n_workers > 1)):
            accepted = "1, as all is done in one process" if name == "inline" else "at least 1"
            raise InputError(f"jobs is {n_workers}: give the number of packs to train at a time, {accepted}")
        if self.ray_address is not None and name != "ray":
            raise InputError(
                f'a Ray address ("{self.ray_address}") is for the executor ray, and this one is {name}: choose one'
            )
        if name == "ray" and importlib.util.find_spec("ray") is None:
            raise InputError(NOT_INSTALLED)
        if name == "inline":
            object.__setattr__(self, "n_workers", 1)

    def hardware(self) -> AbstractContextManager[Hardware]:
        """What packs are trained on: a connection to a Ray cluster, or this machine."""
        return RayCluster(self.ray_address) if self.name == "ray" else nullcontext(machine)

    def executor(self, workload: Workload, plan: Plan, hardware: Hardware, on_tick: Callable[[], None]) -> Executor:
        """The executor of a run.

        Args:
            workload: what all packs have in common.
            plan: how many packs at a time.
            hardware: what `hardware` gave.
            on_tick: called now and then while packs train, by an executor that does not return to its caller meanwhile.
        """
        if isinstance(hardware, RayCluster):
            return RayExecutor(workload, plan, hardware)
        if self.name == "inline":
            return InlineExecutor(workload, on_tick)
        return LocalExecutor(workload, plan.n_workers, plan.n_threads, plan.n_devices)
