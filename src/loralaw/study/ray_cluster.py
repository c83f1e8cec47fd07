"""A connection to a Ray cluster, and what it has for packs."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from loralaw.errors import InputError
from loralaw.models.source import first_line
from loralaw.study.ray_worker import gpu_bytes

ANSWER_SECONDS = 10.0
"""A cluster that has not answered by then is taken for absent; Ray itself would try for 30 s to 2 min (measured)."""

_HOST_AND_PORT = re.compile(r"^(?:ray://)?([^/?]+:\d+)")
NOT_INSTALLED = "the executor ray needs an extra that is not installed: pip install 'loralaw[ray]'"


class RayCluster:
    """A cluster from entering to leaving it; the hardware that packs are planned for. Ray is imported here, not before.

    If this process is connected to a cluster already, that one is used, and stays connected.

    Args:
        address: `ray://HOST:10001` (Ray Client, from outside the cluster), `HOST:6379` (from one of its machines) or
            `auto` (the one that this machine is part of). If None: that of the environment variable RAY_ADDRESS, or
            else a new cluster of this machine alone, which ends with the run.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        import ray

        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._is_ours = not ray.is_initialized()

    def __enter__(self) -> Self:
        if self._is_ours:
            _connect(self._address)
        self._bytes_of_a_gpu = min(_gpu_bytes(self._nodes("GPU")), default=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self._is_ours:
            with _own_sigterm_handler():
                ray.shutdown()

    def n_gpus(self) -> int:
        """GPUs of all living nodes."""
        return int(self._total("GPU"))

    def n_gpus_of_a_machine(self) -> int:
        """GPUs of the living node that has most of them."""
        return int(max((node["GPU"] for node in self._nodes("GPU")), default=0))

    def n_cores(self) -> int:
        """Processor cores of all living nodes, as Ray counts them."""
        return int(self._total("CPU"))

    def available_bytes(self) -> int:
        """Memory of all living nodes: of their GPUs, each taken for the smallest, or else what Ray gives to tasks."""
        return self.n_gpus() * self._bytes_of_a_gpu or int(self._total("memory"))

    def resources_of(self, n_bytes: int, n_threads: int, n_devices: int = 1) -> dict[str, float]:
        """What a pack asks for, as options of a Ray task: never more than one node has, or it would wait for ever.

        Args:
            n_bytes: its estimated peak memory.
            n_threads: of its products.
            n_devices: GPUs that it trains on, where there are any; more than one are for it alone.
        """
        if self._bytes_of_a_gpu and n_devices > 1:
            return {"num_cpus": 1, "num_gpus": n_devices}
        if self._bytes_of_a_gpu:
            hundredths = -(-100 * (n_bytes + _BYTES_OF_A_CONTEXT) // self._bytes_of_a_gpu)
            return {"num_cpus": 1, "num_gpus": min(100, hundredths) / 100}
        largest = {name: max((node[name] for node in self._nodes(name)), default=0.0) for name in ("CPU", "memory")}
        return {"num_cpus": min(n_threads, largest["CPU"]), "memory": min(n_bytes, int(largest["memory"]))}

    def n_idle(self, n_bytes: int, n_threads: int, n_devices: int = 1) -> int:
        """How many packs could begin now; the cluster may have other users. Some tenths of a second old."""
        import ray

        free = ray.available_resources()
        if self._bytes_of_a_gpu:
            return int(free.get("GPU", 0) // n_devices)
        asked = self.resources_of(n_bytes, n_threads)
        return int(min(free.get("CPU", 0) // asked["num_cpus"], free.get("memory", 0) // max(1, asked["memory"])))

    def _total(self, resource: str) -> float:
        return sum(node[resource] for node in self._nodes(resource))

    def _nodes(self, resource: str) -> list[dict[str, float]]:
        """The resources of the living nodes that have this one."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get(resource)]


_BYTES_OF_A_CONTEXT = 500_000_000
"""What CUDA and its libraries take in every process."""


def _connect(address: str) -> None:
    import ray

    if found := _HOST_AND_PORT.match(address):
        _check_answers(address, found[1])
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        with _own_sigterm_handler():
            ray.init(address, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # connection, versions, authentication: each has its own kind
        raise InputError(f'Ray at "{address}" cannot be used: {first_line(error)}') from error


def _check_answers(address: str, host_and_port: str) -> None:
    """Both of Ray's servers speak gRPC; what does not is no Ray."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return  # it answers only to those who have its certificate
    with grpc.insecure_channel(host_and_port, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise InputError(
                f'no Ray cluster answers at "{address}" (waited {ANSWER_SECONDS:.0f} s): give ray://HOST:10001 from '
                "outside the cluster, or HOST:6379 or auto on one of its machines, and see that it runs (ray status); "
                "without an address (--ray-address, RAY_ADDRESS) a cluster of this machine alone is started"
            ) from None


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Ray puts its own handler in place and leaves it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ours)


def _gpu_bytes(nodes: list[dict[str, float]]) -> list[int]:
    """Memory of a GPU of each node that has some, in bytes."""
    import ray

    asked: list[Any] = []
    for node in nodes:
        place = next(name for name in node if name.startswith("node:") and not name.startswith("node:__"))
        asked.append(ray.remote(gpu_bytes).options(num_cpus=0, num_gpus=0.01, resources={place: 0.001}).remote())
    try:
        return list(ray.get(asked))
    except ray.exceptions.RayError as error:
        raise InputError(f"the GPUs of the Ray cluster cannot be used: {first_line(error)}") from error
