"""Executors by name."""

from collections.abc import Callable

from loralaw.errors import InputError, did_you_mean
from loralaw.study.executor import Executor
from loralaw.study.inline_executor import InlineExecutor
from loralaw.study.local_executor import LocalExecutor
from loralaw.study.pack_job import Workload
from loralaw.study.plan import Plan

EXECUTORS = ("local", "ray", "inline")


def check_executor(name: str, n_workers: int | None) -> None:
    """Raise `InputError` unless there is an executor of this name, it takes so many workers, and it is installed."""
    if name not in EXECUTORS:
        raise InputError(f'executor is "{name}"; accepted: {", ".join(EXECUTORS)}.' + did_you_mean(name, EXECUTORS))
    if n_workers is not None and (n_workers < 1 or (name == "inline" and n_workers > 1)):
        accepted = "1, as all is done in one process" if name == "inline" else "at least 1"
        raise InputError(f"jobs is {n_workers}: give the number of packs to train at a time, {accepted}")


def make_executor(name: str, workload: Workload, plan: Plan, on_tick: Callable[[], None]) -> Executor:
    """The executor of a run.

    Args:
        name: one that `check_executor` has accepted.
        workload: what all packs have in common.
        plan: how many packs at a time.
        on_tick: called now and then while packs train, by an executor that does not return to its caller meanwhile.
    """
    if name == "inline":
        return InlineExecutor(workload, on_tick)
    return LocalExecutor(workload, plan.n_workers, plan.n_threads)
