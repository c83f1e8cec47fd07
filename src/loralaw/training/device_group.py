"""The processes that train one cell together, one a device, as torch.distributed knows them; usually there is one."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


def join_group(rank: int, n_devices: int, meeting_place: Path) -> None:
    """Become one of the processes; returns when all have come.

    Args:
        rank: of this process, from 0. Where there are GPUs, it computes on that one.
        n_devices: how many there are.
        meeting_place: a file that does not exist yet, the same for all.
    """
    # Accelerate, below the Trainer, asks these what it is part of, although the group is there already.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(n_devices), "LOCAL_WORLD_SIZE": str(n_devices)}
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # or it would take all cores
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=dist.FileStore(str(meeting_place), n_devices),  # type: ignore[attr-defined]
        rank=rank,
        world_size=n_devices,
    )


def rank() -> int:
    """Of this process in its group; 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_group(value: Tensor) -> Tensor:
    """The sum of the values that the processes have, for each of them."""
    if not dist.is_initialized():
        return value
    summed = value.clone()
    dist.all_reduce(summed)
    return summed
