"""Dependent features of a made-up layer."""

import torch
from hypothesis import strategies as st
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def features(seed: int, tokens: int, width: int, z_scale: float = 1.0, u_scale: float = 1.0) -> Pair:
    """Dependent z and u, float64."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(tokens, width, generator=random, dtype=torch.float64)
    own = torch.randn(tokens, width, generator=random, dtype=torch.float64)
    return z * z_scale, (0.5 * z + own) * u_scale


some_features = st.builds(
    features,
    st.integers(0, 10_000),
    st.integers(3, 40),
    st.integers(1, 24),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.sampled_from([0.0, 1e-4, 0.1, 1.0, 30.0]),
)
