"""What the machine can do and what a pack needs of it: device, arithmetic, memory."""

import ctypes
import gc
import mmap
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

SAFETY = 1.2
"""Measured peaks came to 1.02 to 1.11 of the estimate in large packs; plan with a little more."""

PROCESS_BYTES = 600_000_000
"""What a process that trains holds before it has loaded a base: torch, transformers and PEFT. Measured on a processor:
540 MB; on a GPU its context takes the place of that."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_IN_HEAP = 2**25  # glibc takes no larger threshold
_MADV_HUGEPAGE = 14  # of Linux's mman.h


def device() -> torch.device:
    """The GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def n_gpus() -> int:
    """GPUs that this process may use."""
    return torch.cuda.device_count()


def n_gpus_of_a_machine() -> int:
    """As many, as this is one machine."""
    return n_gpus()


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name() -> str:
    """The name of the GPU or of the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.machine())


def native_dtype() -> str:
    """`bfloat16` where the device computes in it, else `float32` (emulated bfloat16 is slower than float32)."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def cell_bytes(
    config: Any, n_tokens: int, rank: int, n_params_trainable: int, dtype: str, has_row_scale: bool = False
) -> int:
    """Estimated peak memory that one more cell adds to a training step, in bytes.

    Saved activations of a Llama-like block, the head's chunk, and value, gradient and two moments of the adapter;
    measured for packs of 29 to 920 MB.

    Args:
        config: a transformers configuration with hidden_size, num_hidden_layers and vocab_size.
        n_tokens: tokens of the cell's batch.
        rank: its rank.
        n_params_trainable: of its adapter.
        dtype: "bfloat16" or "float32".
        has_row_scale: whether it learns α, for whose gradient the layers' frozen outputs are kept.

    **Source**: ours.
    """
    text = config.get_text_config()
    hidden, layers, rank = text.hidden_size, text.num_hidden_layers, max(16, rank)  # small ranks are padded
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    per_layer = 30 * hidden + 8 * inner + 14 * rank if dtype == "bfloat16" else 32 * hidden + 16 * inner + 28 * rank
    if has_row_scale:
        per_layer += (5 * hidden + 2 * inner) * (2 if dtype == "bfloat16" else 4)
    activations = n_tokens * (layers * per_layer + 12 * hidden) + 128 * text.vocab_size * 10
    return int(SAFETY * activations + 16 * n_params_trainable)


def available_bytes() -> int:
    """Memory that is free now on the devices that train: of all GPUs, each taken for the fullest, or of the machine."""
    if torch.cuda.is_available():
        return n_gpus() * min(int(torch.cuda.mem_get_info(gpu)[0]) for gpu in range(n_gpus()))
    return int(psutil.virtual_memory().available)


def prepare_memory() -> None:
    """Ask glibc and Linux for memory that suits a training step; elsewhere nothing is done, and nothing fails.

    The process keeps what a step frees, where it would otherwise give large tensors back to the system after every step
    and touch as many fresh pages in the next. And its heap begins with a gigabyte of addresses (no memory until they
    are used) that are backed by huge pages. Together a tenth of a packed step's time and more.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        blocks = [libc.malloc(_LARGEST_IN_HEAP // 2) for _ in range(64)]
        for block in filter(None, blocks):
            libc.madvise(block - block % mmap.PAGESIZE, _LARGEST_IN_HEAP // 2, _MADV_HUGEPAGE)
        for block in blocks:
            libc.free(block)


def reset_peak_memory() -> None:
    """Begin a new measurement of the peak, where the system can; what is no longer used is given back before.

    A Trainer and its model refer to each other, so that they wait for the collector; and a process keeps memory that it
    has freed: the peak of what comes next would be that of what was before.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError, AttributeError):  # glibc only
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # not permitted in some containers: the peak is then that of the whole process


def peak_memory_bytes() -> int | None:
    """Peak since the last reset: of the GPU's allocations, or of the process's resident memory; None if unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if os.name == "posix":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None
