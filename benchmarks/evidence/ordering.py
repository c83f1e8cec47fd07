"""Question 5: is there an internal metric that orders adapters as their held-out cross-entropy does?

Candidates are fixed on half of the configurations: their direction, and the weights of combinations. The other half is
looked at once.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from resampling import SETTINGS, Interval, configurations, kendall, kendalls, same
from tables import CONTROLS, CONVENTIONS, ESTIMATORS, INTERNAL, WITHOUT_LABELS, interval, label, markdown

from loralaw.models import find_model

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TARGET = "cross_entropy"
MATCHED = ("miub_nats", "jsd_nats")
"""Those that change with the norm of u."""
_RIDGE = 1e-3


@dataclass(frozen=True)
class Candidate:
    """A number of each configuration that might order them.

    Args:
        name: As the table says it.
        features: (n, k) from the configurations: one column is used as it is, several are combined.
    """

    name: str
    features: Callable[[pl.DataFrame], Floats]


def candidates() -> Iterator[Candidate]:
    for metric in INTERNAL:
        yield Candidate(label(metric), lambda t, m=metric: t[m].to_numpy()[:, None])
    for metric in ESTIMATORS:
        yield Candidate(
            f"{label(metric)} / norm ratio", lambda t, m=metric: (t[m] / t["norm_ratio"]).to_numpy()[:, None]
        )
        yield Candidate(f"{label(metric)} / log d", lambda t, m=metric: (t[m] / t["log_d"]).to_numpy()[:, None])
        yield Candidate(
            f"{label(metric)} / trainable parameters",
            lambda t, m=metric: (t[m] / t["n_params_trainable"]).to_numpy()[:, None],
        )
        yield Candidate(
            f"{label(metric)} / log trainable parameters",
            lambda t, m=metric: (t[m] / t["n_params_trainable"].log()).to_numpy()[:, None],
        )
    for metric, name in WITHOUT_LABELS.items():
        yield Candidate(f"{name} (not internal)", lambda t, m=metric: t[m].to_numpy()[:, None])
    yield Candidate("all estimators, combined", lambda t: _logs(t, ESTIMATORS))
    yield Candidate("all controls, combined", lambda t: _logs(t, CONTROLS))
    yield Candidate("all of them, combined", lambda t: _logs(t, INTERNAL))
    sizes = ("rank", "n_train_examples", "n_params_total")
    yield Candidate("sizes alone (rank, examples, parameters), combined", lambda t: _logs(t, sizes))
    yield Candidate("all of them and sizes, combined", lambda t: _logs(t, (*INTERNAL, *sizes)))


def _logs(table: pl.DataFrame, names: tuple[str, ...]) -> Floats:
    """Logarithms of what is positive."""
    columns = [table[name].to_numpy().astype(float) for name in names]
    return np.column_stack([np.log(column) if (column > 0).all() else column for column in columns])


def with_probes(cells: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Cells beside what their adapters measure at equal norms of u, and what their predictions say without labels."""
    matched = probes.filter(rows_of="matched").select(
        "key", *(pl.col(name).alias(f"matched_{name}") for name in MATCHED)
    )
    validation = probes.filter(rows_of="validation", n_rows=probes["n_rows"].max()).select("key", *WITHOUT_LABELS)
    return cells.join(matched, on="key", how="inner").join(validation, on="key", how="inner")


def prepared(cells: pl.DataFrame) -> pl.DataFrame:
    """Configurations with everything that a candidate uses, and which half they are in."""
    probed = [*(f"matched_{metric}" for metric in MATCHED), *WITHOUT_LABELS]
    columns = [*INTERNAL, *probed, TARGET, "n_params_trainable", "n_params_total"]
    means = configurations(cells, columns)
    widths = pl.DataFrame([{"base_model": name, "log_d": _log_width(name)} for name in means["base_model"].unique()])
    half = np.random.default_rng(0).permutation(np.arange(means.height) % 2)
    return means.join(widths, on="base_model", how="left", maintain_order="left").with_columns(half=pl.Series(half))


def _log_width(base_model: str) -> float:
    """Mean logarithm of the features over the layers of a block."""
    config = json.loads((Path(find_model(base_model).location) / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    keys = head * config["num_key_value_heads"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return float(np.log([hidden, keys, keys, hidden, inner, inner, hidden]).mean())


def scored(candidate: Candidate, chosen: pl.DataFrame, table: pl.DataFrame) -> Floats:
    """The candidate on a table, lower should be better; direction and weights are those of the chosen half."""
    x, y, asked = candidate.features(chosen), chosen[TARGET].to_numpy(), candidate.features(table)
    if x.shape[1] == 1:
        return np.asarray(asked[:, 0] * (np.sign(kendall(x[:, 0], y)) or 1.0))
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    x, asked = (x - centre) / scale, (asked - centre) / scale
    weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return np.asarray(asked @ weights)


def views(table: pl.DataFrame) -> dict[str, Bools]:
    """Which pairs are compared."""
    base, method, rank, size = (table[name] for name in SETTINGS)
    conventions = {name: same(method) & (method == key).to_numpy()[:, None] for key, name in CONVENTIONS.items()}
    return {
        **conventions,
        "both": np.ones((table.height, table.height), dtype=bool),
        "one base model": same(base),
        "along rank": same(base, method, size),
        "along data": same(base, method, rank),
        "along model": same(method, rank, size),
    }


@dataclass(frozen=True)
class Ordered:
    """How well a candidate orders configurations as held-out cross-entropy does.

    Args:
        chosen: The least tau of all views on the half that chose.
        held_out: By view, on the other half.
    """

    name: str
    chosen: float
    held_out: dict[str, Interval]

    @property
    def least(self) -> Interval:
        return min(self.held_out.values(), key=lambda tau: tau.value)


def ordering(cells: pl.DataFrame) -> list[Ordered]:
    """The best on the choosing half first."""
    means = prepared(cells)
    halves = [means.filter(half=half) for half in (0, 1)]
    every = list(candidates())
    found: list[list[dict[str, Interval]]] = []
    for half in halves:
        values = [scored(one, halves[0], half) for one in every]
        by_view = {view: kendalls(values, half[TARGET].to_numpy(), inside)[0] for view, inside in views(half).items()}
        found.append([{view: taus[i] for view, taus in by_view.items()} for i in range(len(every))])
    ordered = [
        Ordered(one.name, min(tau.value for tau in chosen.values()), held_out)
        for one, chosen, held_out in zip(every, *found, strict=True)
    ]
    return sorted(ordered, key=lambda one: -one.chosen)


def ordering_table(cells: pl.DataFrame) -> str:
    found = ordering(cells)
    rows = [
        [one.name, f"{one.chosen:.2f}", f"{one.least.value:.2f}"]
        + [interval(tau.value, tau.low, tau.high) for tau in one.held_out.values()]
        for one in found
    ]
    return markdown(["metric", "least τ, choosing half", "least τ, other half", *found[0].held_out], rows)
