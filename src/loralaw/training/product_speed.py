"""How fast this machine multiplies matrices of the shape that a model has, measured in a moment."""

import time

import torch

from loralaw.training import machine

_N_TOKENS = 2048
_SECONDS = 0.2


def product_flops_per_second(n_in: int, n_out: int) -> float:
    """Operations a second of a float32 product (2048, n_in) × (n_in, n_out); a multiplication and an addition are two.

    Of as many as a fifth of a second has room for, beside whatever else the machine does, after one to warm up.

    Args:
        n_in: features in, such as a model's hidden size.
        n_out: features out, such as its intermediate size.

    **Source**: ours.
    """
    x, weight = (torch.ones(*shape, device=machine.device()) for shape in ((_N_TOKENS, n_in), (n_in, n_out)))
    x @ weight
    n_products, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < _SECONDS:
        x @ weight
        if x.is_cuda:
            torch.cuda.synchronize()
        n_products += 1
    return 2.0 * _N_TOKENS * n_in * n_out * n_products / seconds
