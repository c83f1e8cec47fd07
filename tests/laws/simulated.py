"""Tables of simulated studies whose law is known."""

from collections.abc import Callable

import numpy as np
import polars as pl

Law = Callable[[np.ndarray], np.ndarray]


def falling_law(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + x**-0.5)


def one_axis_table(
    law: Law = falling_law,
    *,
    levels: int = 6,
    seeds: int = 2,
    noise: float = 0.03,
    seed_effect: float = 0.0,
    octaves: float = 8.0,
    metric: str = "loss",
    rng: int = 0,
) -> pl.DataFrame:
    """One row a (level, seed) of one context; normal noise of this sd, and a shift shared by a seed."""
    random = np.random.default_rng(rng)
    x = np.repeat(2.0 ** np.linspace(0, octaves, levels), seeds)
    seed = np.tile(np.arange(seeds), levels)
    shift = seed_effect * random.standard_normal(seeds)
    y = law(x) + shift[seed] + noise * random.standard_normal(len(x))
    return pl.DataFrame({"rank": x, "seed": seed, metric: y})


def study_table(
    ranks: tuple[int, ...] = (1, 4, 16, 64),
    sizes: tuple[int, ...] = (64, 256, 1024),
    seeds: tuple[int, ...] = (0, 1),
    *,
    star: bool = False,
    noise: float = 0.01,
    rng: int = 0,
) -> pl.DataFrame:
    """A study of three base models, as a full grid or as a star around its middle, with the columns of a real table."""
    random = np.random.default_rng(rng)
    bases = {"small": 400_000, "middle": 1_300_000, "large": 6_310_000}
    rows = []
    for base, n_params in bases.items():
        for rank in ranks:
            for size in sizes:
                away = (base != "middle") + (rank != ranks[1]) + (size != sizes[1])
                if star and away > 1:
                    continue
                for seed in seeds:
                    loss = 2 + 30 * n_params**-0.25 + 0.3 * rank**-0.5 + 20 * size**-0.6
                    loss += noise * random.standard_normal()
                    rows.append(
                        {
                            "base_model": base,
                            "method": "lora",
                            "rank": rank,
                            "n_train_examples": size,
                            "n_train_tokens": 60 * size,
                            "n_params_total": n_params,
                            "n_params_trainable": n_params // 50 * rank,
                            "template": None,
                            "seed": seed,
                            "status": "finished",
                            "cross_entropy": loss,
                            "accuracy": 1 - loss / 10,
                            "choice_accuracy": None,
                        }
                    )
    return pl.DataFrame(rows, schema_overrides={"template": pl.String, "choice_accuracy": pl.Float64})
