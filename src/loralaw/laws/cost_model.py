"""What a cell costs in seconds, learned from the cells that have ended: a few coefficients and how wrong they were.

    train_seconds    = f · (a · n_steps / K + b · train_flops)
    evaluate_seconds = f · (a′ / K + b′ · evaluate_flops)

K cells share what a step costs whatever its size. All coefficients are at least 0 and belong to one path (packed, or
alone with the Trainer); f is a base model's own factor, 1 for one that has no records. They minimise the sum of squared
*relative* errors, so that a short cell counts as much as a long one.

Memory is not fitted: a record's peak is that of the whole process, and `loralaw.training.machine` has an estimate.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import nnls

from loralaw.errors import TableError

COLUMNS = (
    "base_model", "path", "n_cells_together", "n_steps", "train_flops", "train_seconds", "evaluate_flops",
    "evaluate_seconds",
)  # fmt: skip
"""What `fit_costs` reads of a study's table; besides `status`, where it is there."""
# With fewer settings, or settings as much alike as the ranks of one base model, what a step costs cannot be told from
# what its operations do.
_FEWEST_SETTINGS, _LEAST_SPREAD = 3, 4.0
_MAX_FOLDS = 10
Floats = NDArray[np.float64]


class Basis(StrEnum):
    """What a prediction rests on."""

    THIS_MODEL = "this-model"
    """Cells of the same path and base model."""
    OTHER_MODELS = "other-models"
    """Cells of the same path and other base models."""
    NOTHING = "nothing"
    """No cell of the path has ended: there is no prediction."""


@dataclass(frozen=True)
class CostSetting:
    """A cell as far as its cost goes; the fields are columns of a study's table."""

    base_model: str
    path: str
    n_steps: int
    train_flops: float
    evaluate_flops: float
    n_cells_together: int = 1


@dataclass(frozen=True)
class Prediction:
    """Seconds of one cell (its share of its pack); 0 where the basis is nothing."""

    basis: Basis
    train_seconds: float
    evaluate_seconds: float
    relative_error: float | None
    """Typical, of one cell: the root mean square of the logarithm of predicted over measured, of settings or base
    models left out of the fit. None where too few have ended to leave one out."""
    message: str

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluate_seconds


@dataclass(frozen=True)
class _Observed:
    """Means of equal settings, one entry each."""

    base_model: NDArray[np.str_]
    units: Floats
    """n_steps / K, or 1 / K."""
    flops: Floats
    seconds: Floats
    log_seconds: Floats
    """Mean of the logarithm, and in `log_variance` its variance between equal cells."""
    log_variance: Floats
    count: Floats

    def where(self, keep: NDArray[np.bool_]) -> "_Observed":
        return _Observed(*(getattr(self, field.name)[keep] for field in fields(self)))


@dataclass(frozen=True)
class _Rate:
    """seconds = f · (per_unit · units + per_flop · flops)."""

    per_unit: float
    per_flop: float
    factors: dict[str, float]

    def seconds(self, base_model: str, units: float, flops: float) -> float:
        return self.factors.get(base_model, 1.0) * (self.per_unit * units + self.per_flop * flops)


@dataclass(frozen=True)
class _PathCosts:
    train: _Rate
    evaluate: _Rate
    error_of_setting: float | None
    """Of training, of settings of base models that have others."""
    error_of_model: float | None
    """Of training, of base models that have none."""
    n_records: int


@dataclass(frozen=True)
class CostModel:
    """Made by `fit_costs`."""

    paths: dict[str, _PathCosts]

    def predict(self, setting: CostSetting) -> Prediction:
        """Seconds of a cell, how wrong such predictions were, and what they rest on."""
        costs = self.paths.get(setting.path)
        if costs is None:
            text = f"no cell of the path {setting.path} has ended: its time cannot be told"
            return Prediction(Basis.NOTHING, 0.0, 0.0, None, text)
        is_known = setting.base_model in costs.train.factors
        error = costs.error_of_setting if is_known else costs.error_of_model
        basis = Basis.THIS_MODEL if is_known else Basis.OTHER_MODELS
        name, k = setting.base_model, setting.n_cells_together
        return Prediction(
            basis,
            costs.train.seconds(name, setting.n_steps / k, setting.train_flops),
            costs.evaluate.seconds(name, 1 / k, setting.evaluate_flops),
            error,
            _sentence(basis, costs.n_records, error),
        )


def fit_costs(table: pl.DataFrame) -> CostModel:
    """Learn what cells cost from those that have ended.

    Rows that did not finish, or lack one of the numbers, are left out. Give rows of one machine and one dtype: the
    coefficients are those of both.

    Args:
        table: with `COLUMNS`; a study's table has them.

    Raises:
        TableError: a column is missing.

    **Source**: ours; non-negative least squares is Lawson and Hanson's, from scipy.

    **Cost**: linear in the rows; the fits are over distinct settings.

    >>> rows = [("m", "packed", 4, 100, f, 1e-3 * 100 / 4 + 2e-11 * f, 1e9, 0.5) for f in (1e11, 2e11, 4e11)]
    >>> costs = fit_costs(pl.DataFrame(rows, schema=COLUMNS, orient="row"))
    >>> prediction = costs.predict(CostSetting("m", "packed", 200, 8e11, 1e9, n_cells_together=4))
    >>> round(prediction.train_seconds, 6), round(prediction.evaluate_seconds, 6), str(prediction.basis)
    (16.05, 0.5, 'this-model')
    """
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise TableError(f"the table has no {', '.join(missing)}: give a study's table, or one with {COLUMNS}")
    usable = table if "status" not in table.columns else table.filter(pl.col("status") == "finished")
    positive = pl.all_horizontal(pl.col(name) > 0 for name in COLUMNS[2:])
    usable = usable.select(COLUMNS).drop_nulls().filter(positive)
    return CostModel({str(path): _path_costs(rows) for (path,), rows in usable.sort(COLUMNS).group_by("path")})


def _path_costs(rows: pl.DataFrame) -> _PathCosts:
    together = pl.col("n_cells_together")
    train = _observed(rows, pl.col("n_steps") / together, "train")
    evaluate = _observed(rows, 1 / together, "evaluate")
    settings = np.arange(len(train.seconds)) % _MAX_FOLDS
    return _PathCosts(
        _fit(train),
        _fit(evaluate),
        error_of_setting=_error(train, settings, of_known=True),
        error_of_model=_error(train, np.unique(train.base_model, return_inverse=True)[1], of_known=False),
        n_records=rows.height,
    )


def _observed(rows: pl.DataFrame, units: pl.Expr, what: str) -> _Observed:
    """Mean seconds of each distinct (base model, units, flops)."""
    named = rows.select("base_model", units.alias("units"), pl.col(f"{what}_flops").alias("flops"), f"{what}_seconds")
    by = ["base_model", "units", "flops"]
    seconds, logarithm = pl.col(f"{what}_seconds"), pl.col(f"{what}_seconds").log()
    means = named.group_by(by).agg(
        seconds.mean().alias("seconds"),
        logarithm.mean().alias("log_seconds"),
        logarithm.var(ddof=0).alias("log_variance"),
        pl.len().alias("count"),
    )
    means = means.sort(by)
    numbers = [means[field.name].cast(pl.Float64).to_numpy() for field in fields(_Observed)[1:]]
    return _Observed(means["base_model"].cast(pl.String).to_numpy().astype(str), *numbers)


def _fit(observed: _Observed) -> _Rate:
    """Least squares of predicted / measured - 1; where settings are few or alike, one ratio: seconds to operations."""
    weight = np.sqrt(observed.count)
    columns = np.column_stack([observed.units, observed.flops]) / observed.seconds[:, None]
    per_unit_flops = observed.flops / observed.units
    if len(observed.seconds) < _FEWEST_SETTINGS or per_unit_flops.max() < _LEAST_SPREAD * per_unit_flops.min():
        columns[:, 0] = 0.0
    scale = np.maximum(columns.max(axis=0), np.finfo(float).tiny)  # columns of one size: steps and operations are not
    per_unit, per_flop = nnls(columns / scale * weight[:, None], weight)[0] / scale
    ratio = np.log(observed.seconds / (per_unit * observed.units + per_flop * observed.flops))
    factors = {
        str(name): float(np.exp(np.average(ratio[mine], weights=observed.count[mine])))
        for name in np.unique(observed.base_model)
        for mine in [observed.base_model == name]
    }
    return _Rate(float(per_unit), float(per_flop), factors)


def _error(observed: _Observed, fold: NDArray[np.int64], of_known: bool) -> float | None:
    """Root mean square of log(predicted / measured) over the cells that were left out, a fold at a time."""
    squares, counts = list[float](), list[float]()
    for number in np.unique(fold):
        inside, outside = observed.where(fold != number), observed.where(fold == number)
        if not len(inside.seconds):
            continue
        rate = _fit(inside)
        for i, name in enumerate(outside.base_model.tolist()):
            if (name in rate.factors) == of_known:
                predicted = np.log(rate.seconds(name, outside.units[i], outside.flops[i]))
                squares.append((predicted - outside.log_seconds[i]) ** 2 + outside.log_variance[i])
                counts.append(outside.count[i])
    return float(np.sqrt(np.average(squares, weights=counts))) if squares else None


def _sentence(basis: Basis, n_records: int, error: float | None) -> str:
    cells = "1 cell" if n_records == 1 else f"{n_records:,} cells"
    whose = "" if basis is Basis.THIS_MODEL else ", none of them of this base model"
    if error is None:
        return f"from {cells}{whose}: too few settings to say how wrong this is"
    return f"from {cells}{whose}: such predictions were off by {error:.0%} typically"
