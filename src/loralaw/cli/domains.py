"""Features by domain, as the Amazon reviews of the theory's figures come."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loralaw.errors import DataError

if TYPE_CHECKING:
    from loralaw.theory.arguments import Floats

PARQUET = "amazon_review.parquet"
COLUMNS = ("domain", "label", "features")
ACCEPTED = (
    f"give a folder with {PARQUET} (columns {', '.join(COLUMNS)}) or a .mat file a domain (variables fts, labels)"
)


def read_domains(folder: Path, names: Sequence[str]) -> dict[str, tuple["Floats", "Floats"]]:
    """Rows, standardised by column within their domain, and labels -1 and +1, of each domain.

    Args:
        folder: with `amazon_review.parquet`, or with `books.mat` and its like; labels 0 and 1 become +1 and -1.
        names: the domains.

    Raises:
        DataError: no such folder or file, one that holds something else, or domains of different features.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: {ACCEPTED}")
    read = _parquet if (folder / PARQUET).is_file() else _mat
    domains = {name: _checked(*read(folder, name), name) for name in names}
    widths = {name: rows.shape[1] for name, (rows, _) in domains.items()}
    for name, width in widths.items():
        if width != widths[names[0]]:
            raise unusable(name, f"it has {width:,} features, the domain {names[0]} {widths[names[0]]:,}")
    return domains


def unusable(name: str, why: object) -> DataError:
    """What is wrong with a domain, and what is accepted."""
    return DataError(f"the domain {name} cannot be used ({why}): {ACCEPTED}")


def _checked(rows: Any, given: Any, name: str) -> tuple["Floats", "Floats"]:
    import numpy as np

    from loralaw.errors import InputError
    from loralaw.theory.arguments import labels
    from loralaw.theory.on_rows import standardised

    try:
        features = standardised(np.asarray(rows, dtype=np.float64))
        zero_one = np.asarray(given, dtype=np.float64).ravel()
        if not np.isin(zero_one, (0, 1)).all():
            raise InputError("labels other than 0 and 1")
        return features, labels("labels", 1 - 2 * zero_one, len(features))
    except (InputError, ValueError, TypeError) as error:
        raise unusable(name, error) from None


def _parquet(folder: Path, name: str) -> tuple[Any, Any]:
    import polars as pl

    path = folder / PARQUET
    try:
        table = pl.read_parquet(path, columns=list(COLUMNS))
        rows = table.filter(pl.col("domain") == name)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}): {ACCEPTED}") from None
    if not rows.height:
        raise DataError(f'{path} has no rows of the domain "{name}": {ACCEPTED}')
    return rows["features"].to_list(), rows["label"].to_list()


def _mat(folder: Path, name: str) -> tuple[Any, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = folder / f"{name}.mat"
    if not path.is_file():
        raise DataError(f"{folder} has neither {PARQUET} nor {path.name}: {ACCEPTED}")
    try:
        held = loadmat(path, variable_names=["fts", "labels"])
        return held["fts"], held["labels"]
    except (MatReadError, ValueError, TypeError, KeyError, NotImplementedError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): {ACCEPTED}") from None
