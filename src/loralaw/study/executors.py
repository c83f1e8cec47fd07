"""Executors by name."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

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


def check_executor(name: str, n_workers: int | None, ray_address: str | None = None) -> None:
    """Raise `InputError` unless there is an executor of this name, it takes so many workers, and it is installed."""
    if name not in EXECUTORS:
        raise InputError(f'executor is "{name}"; accepted: {", ".join(EXECUTORS)}.' + did_you_mean(name, EXECUTORS))
    if n_workers is not None and (n_workers < 1 or (name == "inline" and n_workers > 1)):
        accepted = "1, as all is done in one process" if name == "inline" else "at least 1"
        raise InputError(f"jobs is {n_workers}: give the number of packs to train at a time, {accepted}")
    if ray_address is not None and name != "ray":
        raise InputError(f'a Ray address ("{ray_address}") is for the executor ray, and this one is {name}: choose one')
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError(NOT_INSTALLED)


def hardware_of(name: str, ray_address: str | None) -> AbstractContextManager[Hardware]:
    """What an executor trains on: a connection to a Ray cluster, or this machine."""
    return RayCluster(ray_address) if name == "ray" else nullcontext(machine)


def make_executor(
    name: str, workload: Workload, plan: Plan, on_tick: Callable[[], None], hardware: Hardware
) -> Executor:
    """The executor of a run.

    Args:
        name: one that `check_executor` has accepted.
        workload: what all packs have in common.
        plan: how many packs at a time.
        on_tick: called now and then while packs train, by an executor that does not return to its caller meanwhile.
        hardware: of `hardware_of`.
    """
    if isinstance(hardware, RayCluster):
        return RayExecutor(workload, plan, hardware)
    if name == "inline":
        return InlineExecutor(workload, on_tick)
    return LocalExecutor(workload, plan.n_workers, plan.n_threads)
