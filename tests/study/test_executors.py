"""What every executor promises: one suite over all of them, with real deaths; and what is Ray's alone."""

import importlib.util
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from polars.testing import assert_frame_equal

import loralaw
from loralaw.errors import InputError, ModelError, StorageError
from loralaw.models import find_model
from loralaw.report import RunState
from loralaw.spec import Cell, StudySpec, parse_study
from loralaw.store import COSTS_OF_A_RUN, RunLease, Study, write_study
from loralaw.study import RunProgress, check, plan_cells
from loralaw.study.cell_needs import Needs
from loralaw.study.driver import Driver
from loralaw.study.executor import Executor
from loralaw.study.executors import ExecutorChoice
from loralaw.study.local_executor import LocalExecutor
from loralaw.study.pack_job import PackJob, Workload
from loralaw.study.plan import Plan
from loralaw.study.time_left import TimeLeft
from loralaw.study.trackers import Trackers
from loralaw.training import machine

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed (loralaw[ray])")
INLINE, LOCAL = "inline", "local"
RAY, RAY_AFAR = "ray", "ray without the study folder"
OTHER_PROCESS = [LOCAL, pytest.param(RAY, marks=needs_ray), pytest.param(RAY_AFAR, marks=needs_ray)]
ALL = [INLINE, *OTHER_PROCESS]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One for all tests, as starting one takes seconds. Of one core: a worker has one thread then, as this process has,
    and the bits of a product depend on their number."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    signal.signal(signal.SIGTERM, handler)
    yield
    ray.shutdown()


@pytest.fixture
def executor_name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a test trains. A node that does not see the study folder is one that does not see the lease."""
    monkeypatch.setattr(machine, "n_cores", lambda: 1)
    place: str = request.param
    if place in (RAY, RAY_AFAR):
        request.getfixturevalue("ray_cluster")
    if place == RAY_AFAR:
        monkeypatch.setattr(RunLease, "path", tmp_path / "not seen from there")
    return place.partition(" ")[0]


def study(model: Path, rows: Path, **changes: Any) -> StudySpec:
    settings = {
        "name": "s",
        "base_models": [str(model)],
        "task": str(rows),
        "ranks": [1, 4],
        "sizes": [8, 16],
        "seeds": [0],
        "training": {"steps": 12, "batch_size": 2, "max_length": 16, "dtype": "float32"},
        "evaluation": {"test_examples": 4, "probe_examples": 4},
    }
    return parse_study({**settings, **changes}, "s")


def short_study(model: Path, rows: Path) -> StudySpec:
    """Of an adapter and of a whole model."""
    return study(model, rows, methods=["lora", {"name": "full", "learning_rate": 1e-4}], ranks=[1], sizes=[8])


def long_study(model: Path, rows: Path) -> StudySpec:
    """Of two packs that take seconds, so that something can happen meanwhile."""
    training = {"steps": 400, "batch_size": 2, "max_length": 16, "dtype": "float32"}
    return study(model, rows, training=training, sizes=[16], packing=False)


@pytest.fixture(scope="module")
def here(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The short study, trained in this process."""
    return loralaw.run(short_study(tiny_model, rows), tmp_path_factory.mktemp("here"), executor="inline")


@pytest.fixture(scope="module")
def whole(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The long study, trained in this process."""
    return loralaw.run(long_study(tiny_model, rows), tmp_path_factory.mktemp("whole"), executor="inline")


def without_costs(done: Study) -> Any:
    return done.table().drop(COSTS_OF_A_RUN).sort("key")


def workers() -> list[psutil.Process]:
    """The processes below this one that train, or could."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "ray::train_on_node" in command or "loky.backend.popen_loky" in command:
            found.append(process)
    return found


class DoAt(RunProgress):
    """Does something once, when a pack is well under way."""

    def __init__(self) -> None:
        self.has_happened = False
        self.said: list[str] = []

    def update(self, state: RunState) -> None:
        if not self.has_happened and any(pack.share_done > 0 for pack in state.packs):
            self.has_happened = True
            self.happen()

    def say(self, line: str) -> None:
        self.said.append(line)

    def happen(self) -> None: ...


class KillWorker(DoAt):
    def happen(self) -> None:
        busiest = max(workers(), key=lambda process: sum(process.cpu_times()[:2]))
        busiest.send_signal(signal.SIGKILL)


class Interrupt(DoAt):
    def happen(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("executor_name", OTHER_PROCESS, indirect=True)
def test_every_cell_gets_its_record_and_it_is_the_same_everywhere(
    executor_name: str, here: Study, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    there = loralaw.run(short_study(tiny_model, rows), tmp_path / "there", executor=executor_name, jobs=1)
    assert here.table()["status"].to_list() == ["finished"] * 2
    assert_frame_equal(without_costs(there), without_costs(here), check_exact=True)
    files = {path.relative_to(here.path) for path in here.path.glob("cells/**/*") if path.is_file()}
    assert files == {path.relative_to(there.path) for path in there.path.glob("cells/**/*") if path.is_file()}
    for name in files:
        if name.name != "record.json":  # which has times
            assert (here.path / name).read_bytes() == (there.path / name).read_bytes(), name


@pytest.mark.parametrize("executor_name", OTHER_PROCESS, indirect=True)
def test_a_worker_that_is_killed_costs_only_its_pack(
    executor_name: str, whole: Study, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    killer = KillWorker()
    spec = long_study(tiny_model, rows)
    killed = loralaw.run(spec, tmp_path / "killed", killer, executor=executor_name, jobs=1)
    assert killer.has_happened
    (line,) = killer.said
    assert "died" in line
    assert "trying again" in line
    assert killed.table()["status"].to_list() == ["finished"] * 2
    assert_frame_equal(without_costs(killed), without_costs(whole), check_exact=True)


@pytest.mark.parametrize("executor_name", OTHER_PROCESS, indirect=True)
def test_ctrl_c_leaves_no_process_and_no_half_record(
    executor_name: str, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        loralaw.run(long_study(tiny_model, rows), tmp_path / "out", Interrupt(), executor=executor_name, jobs=1)
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers() == []
    assert not list((tmp_path / "out").glob("cells/*/record.json"))
    assert not list((tmp_path / "out" / "leases").glob("*.json"))


@pytest.mark.parametrize("executor_name", ALL, indirect=True)
def test_what_fails_costs_only_itself(executor_name: str, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """Beside good cells: one that cannot be, and one that no memory could hold, a row at a time."""
    checked = check(study(tiny_model, rows))
    good, broken, huge, also_good = plan_cells(checked)
    broken = replace(broken, rank=-1)
    huge = replace(huge, rank=10**11)
    jobs = [PackJob((good, broken)), PackJob((huge, also_good))]
    done = run_jobs(executor_name, checked, jobs, tmp_path / "out")
    statuses = [record["status"] for record in done.records()]
    assert statuses == ["finished", "error", "out-of-memory", "finished"]
    assert "positive" in (done.cell_folder(broken.key) / "error.txt").read_text()
    assert "Traceback" in (done.cell_folder(huge.key) / "error.txt").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("executor_name", ALL, indirect=True)
def test_a_full_disk_ends_the_run(executor_name: str, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    spec = study(tiny_model, rows, sizes=[8])
    last = plan_cells(check(spec))[-1]
    folder = tmp_path / "out" / "cells" / last.key
    folder.mkdir(parents=True)
    (folder / "cell.json").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        loralaw.run(spec, tmp_path / "out", executor=executor_name)


def test_executors_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r'accepted: local, ray, inline. Did you mean "local"'):
        ExecutorChoice("locla", None)
    with pytest.raises(InputError, match="at least 1"):
        ExecutorChoice("local", 0)
    with pytest.raises(InputError, match="for the executor ray"):
        ExecutorChoice("local", None, "ray://somewhere:10001")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'loralaw\[ray\]'"):
        ExecutorChoice("ray", None)


@needs_ray
@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_an_address_where_no_ray_answers(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that listens and says nothing: what Ray itself would wait for up to two minutes."""
    monkeypatch.setattr("loralaw.study.ray_cluster.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(InputError, match="no Ray cluster answers at"),
            ExecutorChoice("ray", ray_address=address).hardware(),
        ):
            pass


@needs_ray
def test_a_node_must_have_this_loralaw_and_the_same_model(tiny_model: Path) -> None:
    from loralaw.study.ray_worker import _source_here, train_on_node

    with pytest.raises(InputError, match=rf"{socket.gethostname()} has loralaw .*, the driver 0\.0\.0"):
        train_on_node("0.0.0", [], None, 0, None, 1)  # type: ignore[arg-type]
    source = find_model(str(tiny_model))
    assert _source_here(source) == source
    with pytest.raises(ModelError, match=f"on {socket.gethostname()} is another model"):
        _source_here(replace(source, hash="0" * 32))
    with pytest.raises(ModelError, match=rf"on {socket.gethostname()}: .* \(put it there, at the same path"):
        _source_here(replace(source, location="/not/here"))
    embedded = find_model("micro-0.4m")
    assert _source_here(replace(embedded, location="/elsewhere/micro-0.4m")) == embedded


@needs_ray
def test_what_a_pack_asks_of_the_cluster(ray_cluster: None) -> None:
    import ray

    with ExecutorChoice("ray").hardware() as cluster:
        memory = int(ray.cluster_resources()["memory"])
        assert (cluster.n_gpus(), cluster.n_cores(), cluster.available_bytes()) == (0, 1, memory)
        assert cluster.resources_of(10**6, 1) == {"num_cpus": 1, "memory": 10**6}
        assert cluster.resources_of(10**15, 8) == {"num_cpus": 1, "memory": memory}  # or it would wait for ever
        cluster._bytes_of_a_gpu = 10 * 10**9
        assert cluster.resources_of(1_930_000_000, 1) == {"num_cpus": 1, "num_gpus": 0.25}  # 24.3 % with CUDA's own
        assert cluster.resources_of(10**12, 1) == {"num_cpus": 1, "num_gpus": 1.0}
    assert ray.is_initialized()  # it was not begun by the run


def run_jobs(executor_name: str, checked: Any, jobs: list[PackJob], folder: Path) -> Study:
    """A run of these packs, whatever a plan would say."""
    cells: list[Cell] = [cell for job in jobs for cell in job.cells]
    choice = ExecutorChoice(executor_name)
    with RunLease(folder) as lease, choice.hardware() as hardware:
        done = write_study(folder, checked.spec.settings(), [cell.key for cell in cells], {})
        time_left = TimeLeft(checked, Needs(checked), [job.cells for job in jobs], 1, 1)
        driver = Driver(done, jobs, time_left, lease, RunProgress(), Trackers([]))
        workload = Workload(
            folder / "cells",
            {name: model.source for name, model in checked.models.items()},
            checked.data_by_hash,
            max(checked.spec.sizes),
            lease.path,
        )
        executor: Executor = choice.executor(workload, Plan(jobs, 1, 1, 1), hardware, driver.look)
        try:
            driver.train(executor)
        finally:
            executor.close()
    return done


def test_a_worker_that_died_while_idle_is_replaced() -> None:
    class Broken:
        def submit(self, *_: Any) -> None:
            raise BrokenProcessPool("A worker process managed by the executor was unexpectedly terminated")

        def shutdown(self, **_: Any) -> None: ...

    executor = LocalExecutor(None, 1, 1)  # type: ignore[arg-type]  # nothing is trained
    executor._free[0]._pool = Broken()  # type: ignore[assignment]
    try:
        executor.submit(PackJob(()))
        assert executor.n_free == 0
    finally:
        executor.close()
    assert workers() == []
