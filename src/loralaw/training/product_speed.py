"""How fast this machine multiplies matrices of the shape that a model has, measured in a moment."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loralaw.training import machine

_N_TOKENS = 2048
_SECONDS = 0.2


def product_flops_per_second(n_in: int, n_out: int, n_threads: int) -> float:
    """Operations a second of a float32 product (2048, n_in) × (n_in, n_out); a multiplication and an addition are two.

    Of as many as a fifth of a second has room for, beside whatever else the machine does, after one to warm up.

    Args:
        n_in: features in, such as a model's hidden size.
        n_out: features out, such as its intermediate size.
        n_threads: that multiply, on a processor.

    **Source**: ours.
    """
    x, weight = (torch.ones(*shape, device=machine.device()) for shape in ((_N_TOKENS, n_in), (n_in, n_out)))
    with _threads(n_threads):
        x @ weight
        n_products, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < _SECONDS:
            x @ weight
            if x.is_cuda:
                torch.cuda.synchronize()
            n_products += 1
    return 2.0 * _N_TOKENS * n_in * n_out * n_products / seconds


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
