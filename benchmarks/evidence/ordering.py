"""Question 5: is there an internal metric that orders adapters as their held-out cross-entropy does?

Candidates are fixed on half of the configurations: their direction, and the weights of combinations. The one that
orders that half best is the pick, and the other half judges it. The halves are drawn at random from one grid, so this
asks for the order of adapters of the same kind, not of another model or task.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from resampling import Interval, configurations, interval_of, kendall, once, resampled, same
from tables import CONTROLS, CONVENTIONS, ESTIMATORS, INTERNAL, WITHOUT_LABELS, interval, label, markdown

from loralaw.models import find_model

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TARGET = "cross_entropy"
ASKED = 0.8
MATCHED = ("miub_nats", "jsd_nats")
"""Those that change with the norm of u."""
NORMALISATIONS = {
    "norm ratio": pl.col("norm_ratio"),
    "log d": pl.col("log_d"),
    "trainable parameters": pl.col("n_params_trainable"),
    "log trainable parameters": pl.col("n_params_trainable").log(),
}
NOTHING_MEASURED = "rank, examples, parameters and scale, combined: nothing measured"
SIZES = ("rank", "n_train_examples", "n_params_total", "scale")
CEILING = "probed_cross_entropy"
"""What the same few rows give to whoever has labels."""
_RIDGE = 1e-3


@dataclass(frozen=True)
class Candidate:
    """A number of each configuration that might order them.

    Args:
        name: As the table says it.
        features: (n, k) from the configurations: one column is used as it is, several are combined.
        is_internal: It comes from inside the adapter. The others are what such a metric has to beat.
    """

    name: str
    features: Callable[[pl.DataFrame], Floats]
    is_internal: bool = True


def candidates() -> Iterator[Candidate]:
    for metric in INTERNAL:
        yield _single(label(metric), pl.col(metric))
    for metric in ESTIMATORS:
        for name, divisor in NORMALISATIONS.items():
            yield _single(f"{label(metric)} / {name}", pl.col(metric) / divisor)
    for metric in MATCHED:
        yield _single(f"{label(metric)}, at equal norms", pl.col(f"matched_{metric}"))
    yield Candidate("all estimators, combined", lambda t: _logs(t, ESTIMATORS))
    yield Candidate("all controls, combined", lambda t: _logs(t, CONTROLS))
    yield Candidate("all of them, combined", lambda t: _logs(t, INTERNAL))
    for metric, name in WITHOUT_LABELS.items():
        yield _single(name, pl.col(metric), is_internal=False)
    yield _single("trainable parameters: nothing measured", pl.col("n_params_trainable"), is_internal=False)
    yield Candidate(NOTHING_MEASURED, lambda t: _logs(t, SIZES), is_internal=False)
    yield Candidate("all of them and these sizes, combined", lambda t: _logs(t, (*INTERNAL, *SIZES)), False)
    yield _single("cross-entropy on the rows that all of them see: with labels", pl.col(CEILING), is_internal=False)


def _single(name: str, column: pl.Expr, is_internal: bool = True) -> Candidate:
    return Candidate(name, lambda table: table.select(column).to_numpy(), is_internal)


def _logs(table: pl.DataFrame, names: tuple[str, ...]) -> Floats:
    """Logarithms, but of the cosine, which has a sign."""
    columns = {name: table[name].to_numpy().astype(float) for name in names}
    return np.column_stack([column if name == "cosine" else np.log(column) for name, column in columns.items()])


def with_probes(cells: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Cells beside what their adapters measure at equal norms of u, and what their predictions say with and without
    labels."""
    matched = probes.filter(rows_of="matched").select(
        "key", *(pl.col(name).alias(f"matched_{name}") for name in MATCHED)
    )
    validation = probes.filter(rows_of="validation", n_rows=probes["n_rows"].max()).select(
        "key", *WITHOUT_LABELS, pl.col("cross_entropy").alias(CEILING)
    )
    return cells.join(matched, on="key", how="inner").join(validation, on="key", how="inner")


def prepared(cells: pl.DataFrame) -> pl.DataFrame:
    """Configurations with everything that a candidate uses, and which half they are in."""
    probed = [*(f"matched_{metric}" for metric in MATCHED), *WITHOUT_LABELS, CEILING]
    columns = [*INTERNAL, *probed, TARGET, "n_params_trainable", "n_params_total"]
    means = once(configurations(cells, columns))
    widths = pl.DataFrame([{"base_model": name, "log_d": _log_width(name)} for name in means["base_model"].unique()])
    half = np.random.default_rng(0).permutation(np.arange(means.height) % 2)
    scale = pl.col("rank").cast(pl.Float64) ** pl.when(method="rslora").then(-0.5).otherwise(-1.0)
    return means.join(widths, on="base_model", how="left", maintain_order="left").with_columns(
        scale=scale, half=pl.Series(half)
    )


def _log_width(base_model: str) -> float:
    """Mean logarithm of the features over the layers of a block."""
    config = json.loads((Path(find_model(base_model).location) / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    keys = head * config["num_key_value_heads"]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return float(np.log([hidden, keys, keys, hidden, inner, inner, hidden]).mean())


def scores(candidate: Candidate, chosen: pl.DataFrame, other: pl.DataFrame) -> tuple[Floats, Floats]:
    """The candidate on both halves, lower should be better; direction and weights are those of the chosen half, and on
    that half a combination is fitted without the configuration that it scores."""
    x, y, asked = candidate.features(chosen), chosen[TARGET].to_numpy(), candidate.features(other)
    if x.shape[1] == 1:
        sign = np.sign(kendall(x[:, 0], y)) or 1.0
        return sign * x[:, 0], sign * asked[:, 0]
    every = np.arange(len(y))
    left_out = [_combined(x[every != i], y[every != i], x[i : i + 1])[0] for i in every]
    return np.array(left_out), _combined(x, y, asked)


def _combined(x: Floats, y: Floats, asked: Floats) -> Floats:
    """A ridge regression on standardised features."""
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    x, asked = (x - centre) / scale, (asked - centre) / scale
    weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return np.asarray(y.mean() + asked @ weights)


def views(table: pl.DataFrame) -> dict[str, Bools]:
    """Which pairs are compared. Adapters of rank 1 are of both conventions."""
    base, rank, size = (table[name] for name in ("base_model", "rank", "n_train_examples"))
    members = {name: ((table["method"] == key) | (rank == 1)).to_numpy() for key, name in CONVENTIONS.items()}
    of_one = {name: member[:, None] & member[None] for name, member in members.items()}
    either = np.any(list(of_one.values()), axis=0)
    return {
        **of_one,
        "both": np.ones_like(either),
        "one base model": same(base),
        "along rank": same(base, size) & either,
        "along data": same(base, rank, table["method"]),
        "along model": same(rank, size, table["method"]),
    }


@dataclass(frozen=True)
class Ordered:
    """How well a candidate orders configurations as held-out cross-entropy does.

    Args:
        chosen: The least tau of all views on the half that chose.
        held_out: By view, on the other half.
        least: The least tau of all views there; its interval is that of the least one.
        more: That less the least tau of what measures nothing.
    """

    name: str
    is_internal: bool
    chosen: float
    held_out: dict[str, Interval]
    least: Interval
    more: Interval


def ordering(cells: pl.DataFrame) -> list[Ordered]:
    """The best on the choosing half first."""
    means = prepared(cells)
    halves = [means.filter(half=half) for half in (0, 1)]
    every = list(candidates())
    values = list(zip(*(scores(one, *halves) for one in every), strict=True))
    (chosen, _), (judged, again) = (_by_view(half, list(of_half)) for half, of_half in zip(halves, values, strict=True))
    least, least_again = judged.min(axis=0), again.min(axis=0)
    nothing = [one.name for one in every].index(NOTHING_MEASURED)
    found = [
        Ordered(
            one.name,
            one.is_internal,
            float(chosen[:, i].min()),
            {view: interval_of(judged[v, i], again[v, i]) for v, view in enumerate(views(means))},
            interval_of(least[i], least_again[i]),
            interval_of(least[i] - least[nothing], least_again[i] - least_again[nothing]),
        )
        for i, one in enumerate(every)
    ]
    return sorted(found, key=lambda one: -one.chosen)


def _by_view(half: pl.DataFrame, values: list[Floats]) -> tuple[Floats, Floats]:
    """Taus (views, candidates), and as the bootstrap draws them (views, candidates, draws)."""
    found = [resampled(values, half[TARGET].to_numpy(), inside) for inside in views(half).values()]
    return np.array([taus for taus, _ in found]), np.array([again for _, again in found])


def ordering_table(cells: pl.DataFrame) -> str:
    found = ordering(cells)
    rows = [
        [one.name, f"{one.chosen:.2f}"]
        + [interval(tau.value, tau.low, tau.high) for tau in (one.least, *one.held_out.values())]
        for one in found
    ]
    return markdown(["metric", "least τ, choosing half", "least τ, other half", *found[0].held_out], rows)


def ordering_answer(cells: pl.DataFrame) -> str:
    """The pick of the half that chose, on the other half, beside what it has to beat."""
    found = ordering(cells)
    internal = [one for one in found if one.is_internal]
    best = internal[0]
    verdict = "reached" if best.least.low >= ASKED else "not reached" if best.least.high < ASKED else "not established"
    usual = [one for one in internal if one.name in (label("miub_nats"), label("norm_ratio"))]
    beside = "; ".join(f"{one.name}: {_text(one.least)}" for one in (*usual, *(o for o in found if not o.is_internal)))
    return (
        f"Of {len(internal)} internal candidates, this ordered the choosing half best: {best.name}. On the other half "
        f"its least τ over {len(best.held_out)} views is {_text(best.least)}; {ASKED} was asked and is {verdict}. Less "
        f"that of what measures nothing: {_text(best.more)}. The least τ of others there: {beside}."
    )


def _text(tau: Interval) -> str:
    return interval(tau.value, tau.low, tau.high)
