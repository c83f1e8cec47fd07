"""Around passes through a model of somebody else's that only look at it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, uncompiled code; afterwards each module's own mode and torch's random state are as before."""
    with ExitStack() as undo:
        undo.enter_context(_evaluation(model))
        if any(
            getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod") for module in model.modules()
        ):
            undo.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code does not know of new hooks
        devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
        undo.enter_context(torch.random.fork_rng(devices=list(devices)))  # some models draw, also in evaluation
        yield


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
