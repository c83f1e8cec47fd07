"""The estimators by name."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from torch import Tensor

from loralaw.errors import InputError, did_you_mean
from loralaw.miub.channel_bound import ChannelBound
from loralaw.miub.channel_exact import ChannelExact
from loralaw.miub.estimator import Estimate, Estimator
from loralaw.miub.gaussian_coordinate import GaussianCoordinate
from loralaw.miub.gaussian_noise import GaussianNoise
from loralaw.miub.jensen_shannon import JensenShannon, StandardisedJensenShannon
from loralaw.miub.learned_bound import LearnedBound
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import check_features

Kind = TypeVar("Kind")

STATISTICS: dict[str, type[Statistic]] = {
    statistic.name: statistic
    for statistic in (
        ChannelBound,
        JensenShannon,
        StandardisedJensenShannon,
        ChannelExact,
        GaussianCoordinate,
        GaussianNoise,
    )
}
"""Those that are made from sums, so that they can run at every layer of a model."""

ESTIMATORS: dict[str, type[Estimator]] = {**STATISTICS, LearnedBound.name: LearnedBound}
"""Every estimator by the name that `estimate` takes; called without arguments, each gives its streaming form."""


DEFAULT_ESTIMATORS = ("channel", "jsd")
"""Measured where nothing else is asked for: the provable bound, and the ingredient of the source."""


def estimate(base: Tensor, adapter: Tensor, estimator: str = "channel", sequence: Tensor | None = None) -> Estimate:
    """How much does an adapter's output tell of the frozen layer's? One number in nats, with its standard error.

    Args:
        base: z, what the frozen layer gives, (tokens, features), any floating type.
        adapter: u, what the adapter adds, of the same shape.
        estimator: a name of `ESTIMATORS`; docs/miub.md says which to choose.
        sequence: (tokens,) int64, at least 0: the number of each token's sequence. Tokens of a sequence are not
            independent, and the standard error is clustered by it; None: every token is a sequence of its own.

    Returns:
        `value_nats`, `stderr_nats` (None with one sequence) and `n_tokens`.

    Raises:
        InputError: an unknown estimator, shapes or types that do not fit, too few tokens, numbers that are not finite.

    **Source**: the estimator's own.

    >>> import torch
    >>> z = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    >>> estimate(z, torch.zeros_like(z))
    Estimate(estimator='channel', value_nats=0.0, stderr_nats=0.0, n_tokens=1000)
    """
    check_features(base, adapter)
    if base.dim() != 2:
        raise InputError(f"base has shape {tuple(base.shape)}: give (tokens, features); reshape(-1, features) does it")
    streaming = _named(estimator, ESTIMATORS)()
    streaming.update(base, adapter, sequence)
    return streaming.result()


def statistics_named(names: Collection[str]) -> list[type[Statistic]]:
    """The estimators of these names that can run at every layer, each once.

    Raises:
        InputError: no name, an unknown one, or one that must keep all tokens.
    """
    if not names or isinstance(names, str) or not isinstance(names, Collection):
        raise InputError(f"estimators is {names!r}: give a list of names out of {', '.join(STATISTICS)}")
    if LearnedBound.name in names:
        raise InputError(
            f'"{LearnedBound.name}" keeps every token of a layer and learns for seconds, so it does not run at every '
            f"layer: use loralaw.miub.estimate for one layer, or choose from {', '.join(STATISTICS)}"
        )
    return list(dict.fromkeys(_named(name, STATISTICS) for name in names))


def column_of(estimator: str) -> str:
    """What an estimator is called in rows and tables: `miub_nats` is the channel bound's, the others go by name."""
    return "miub_nats" if estimator == ChannelBound.name else f"{estimator}_nats"


def stderr_column_of(estimator: str) -> str:
    return column_of(estimator).replace("_nats", "_stderr_nats")


def _named(name: str, known: Mapping[str, type[Kind]]) -> type[Kind]:
    if not isinstance(name, str) or name not in known:
        raise InputError(f'"{name}" is not an estimator; there are {", ".join(known)}.{did_you_mean(name, known)}')
    return known[name]
