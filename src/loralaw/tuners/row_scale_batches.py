"""Which rows the k-th step of α reads."""

from functools import lru_cache

import numpy as np


class RowScaleBatches:
    """The endless stream of α's batches, each one a pure function of its number.

    The rounds through the rows are laid end to end, and step k reads the positions k·B, …, (k + 1)·B - 1 of the whole,
    with B = `batch_size` · `world_size`; process r takes the r-th `batch_size` of them. A batch is therefore always
    full: where a round ends inside it, the next one begins. Nothing has to be saved to go on with it.

    Args:
        n_rows: rows of the data set; with fewer than B of them a row comes up more than once in a batch.
        batch_size: rows of one step in one process.
        seed: of the orders, one for each round.
        shuffle: a new order every round; else the order of the data set.
        world_size: processes that share a batch.
        rank: which of them this is, from 0.

    **Source**: ours.

    >>> batches = RowScaleBatches(5, 2, seed=0, shuffle=False)
    >>> [batches.rows(step) for step in range(4)]
    [[0, 1], [2, 3], [4, 0], [1, 2]]
    """

    def __init__(
        self, n_rows: int, batch_size: int, *, seed: int, shuffle: bool, world_size: int = 1, rank: int = 0
    ) -> None:
        self._n_rows, self._batch_size, self._seed, self._shuffle = n_rows, batch_size, seed, shuffle
        self._world_size, self._rank = world_size, rank

    def rows(self, step: int) -> list[int]:
        """The rows that this process reads in step number `step` of α, counted from 0."""
        first = (step * self._world_size + self._rank) * self._batch_size
        return [self._row(position) for position in range(first, first + self._batch_size)]

    def _row(self, position: int) -> int:
        n_round, place = divmod(position, self._n_rows)
        return int(_order(self._n_rows, self._seed, n_round)[place]) if self._shuffle else place


@lru_cache(maxsize=2)  # a batch may lie in two rounds
def _order(n_rows: int, seed: int, n_round: int) -> np.ndarray:
    return np.random.default_rng([seed, n_round]).permutation(n_rows)
