"""Memory that is used again and again."""

import torch
from torch import Tensor


class Scratch:
    """Buffers by role, for what is made of a few tokens and forgotten.

    On a processor the first touch of fresh memory costs more than the arithmetic on it (page faults: twice to five
    times the time of all our sums, measured), and features are large enough for the allocator to ask for it anew.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        self._views: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[type["Scratch"], tuple[()]]:
        return Scratch, ()  # what goes to another process needs no buffers

    def like(self, role: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """An uninitialised tensor, valid until the same role is asked for again."""
        last = self._views.get(role)
        if last is None or (last.shape, last.dtype, last.device) != (shape, dtype, device):
            key = (role, dtype, device)
            if key not in self._buffers or self._buffers[key].numel() < shape.numel():
                self._buffers[key] = torch.empty(shape.numel(), dtype=dtype, device=device)
            last = self._views[role] = self._buffers[key][: shape.numel()].view(shape)
        return last
