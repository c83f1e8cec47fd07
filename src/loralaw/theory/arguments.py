"""Checks of what a caller gives: every message names the argument, shows the value, and says what is accepted."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loralaw.errors import InputError

Floats = NDArray[np.float64]

_LARGEST = 1e50  # products of several must not overflow


def real(name: str, value: ArrayLike) -> Floats:
    """Finite real numbers of any shape, as float64."""
    numbers = _numbers(name, value)
    accepted = np.abs(numbers) <= _LARGEST  # one look is enough, as a rule
    if not accepted.all():
        _where(name, numbers, np.isfinite(numbers), "give finite numbers")
    return _where(name, numbers, accepted, f"give numbers of at most {_LARGEST:g}")


def positive(name: str, value: ArrayLike) -> Floats:
    """Finite numbers above 0, of any shape."""
    numbers = real(name, value)
    return _where(name, numbers, numbers > 0, "give numbers above 0")


def non_negative(name: str, value: ArrayLike) -> Floats:
    """Finite numbers from 0, of any shape: lengths."""
    numbers = real(name, value)
    return _where(name, numbers, numbers >= 0, "give numbers that are not negative")


def count(name: str, value: ArrayLike) -> Floats:
    """Whole numbers from 1, of any shape, as float64."""
    numbers = real(name, value)
    return _where(name, numbers, (numbers >= 1) & (numbers == np.round(numbers)), "give whole numbers from 1")


def cosine(name: str, value: ArrayLike) -> Floats:
    """Numbers from -1 to 1, of any shape."""
    numbers = real(name, value)
    return _where(name, numbers, np.abs(numbers) <= 1, "give numbers from -1 to 1")


def one(name: str, numbers: Floats) -> float:
    """A single number as a float, where a setting cannot be an array."""
    if numbers.size != 1:
        raise InputError(f"{name} has {numbers.size:,} numbers: give one number; arrays are for predictions alone")
    return float(numbers.item())


def one_count(name: str, value: ArrayLike) -> int:
    """A single whole number from 1."""
    return int(one(name, count(name, value)))


def several(name: str, value: ArrayLike) -> int:
    """A number of draws, from 2."""
    n = one_count(name, value)
    if n < 2:
        raise InputError(f"{name}={n}: give at least 2, so that there is a standard error")
    return n


def one_positive(name: str, value: ArrayLike) -> float:
    """A single finite number above 0."""
    return one(name, positive(name, value))


def one_seed(name: str, value: object) -> int:
    """A whole number from 0."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 0:
        raise InputError(f"{name} is {_short(value)}: give a whole number from 0")
    return int(value)


def check_broadcast(**arrays: Floats) -> None:
    """Refuse arrays of shapes that numpy cannot broadcast, by name."""
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.ndim)
        raise InputError(
            f"these shapes do not broadcast: {shapes}. Give numbers, or axes of one size or of 1"
        ) from None


def vector(name: str, value: ArrayLike, dim: int | None = None) -> Floats:
    """A vector of finite numbers, (dim,)."""
    numbers = real(name, value)
    if numbers.ndim != 1 or numbers.size == 0 or dim not in (None, numbers.size):
        wanted = "(dim,)" if dim is None else f"({dim},)"
        raise InputError(f"{name} has the shape {numbers.shape}: give a vector of the shape {wanted}")
    return numbers


def matrix(name: str, value: ArrayLike, dim: int | None = None) -> Floats:
    """Rows of finite numbers, (rows, dim)."""
    numbers = real(name, value)
    if numbers.ndim != 2 or numbers.size == 0 or dim not in (None, numbers.shape[1]):
        wanted = "(rows, dim)" if dim is None else f"(rows, {dim})"
        raise InputError(f"{name} has the shape {numbers.shape}: give a matrix of the shape {wanted}")
    return numbers


def checked_covariance(name: str, value: ArrayLike, dim: int) -> Floats:
    """A symmetric positive definite matrix, (dim, dim)."""
    numbers = real(name, value)
    if numbers.shape != (dim, dim):
        raise InputError(f"{name} has the shape {numbers.shape}: give a matrix of the shape ({dim}, {dim})")
    scale = float(np.abs(numbers).max())
    if (off := float(np.abs(numbers - numbers.T).max())) > 1e-8 * scale:
        raise InputError(f"{name} is not symmetric (entries differ by {off:.3g}): give (C + C.T) / 2")
    numbers = (numbers + numbers.T) / 2
    if (smallest := float(np.linalg.eigvalsh(numbers)[0])) <= 1e-12 * scale:
        raise InputError(
            f"{name} is not positive definite (its smallest eigenvalue is {smallest:.3g}): leave out features that "
            "never vary or repeat others, or add a little to the diagonal"
        )
    return numbers


def labels(name: str, value: ArrayLike, n_rows: int) -> Floats:
    """-1 or +1 a row, with both of them among the rows."""
    numbers = real(name, value)
    if numbers.shape != (n_rows,):
        raise InputError(f"{name} has the shape {numbers.shape}: give a label for each of the {n_rows} rows")
    _where(name, numbers, np.abs(numbers) == 1, "give -1 or +1 for each row")
    if len(np.unique(numbers)) < 2:
        raise InputError(f"{name} has only the class {numbers[0]:+.0f} in its {n_rows} rows: give rows of both classes")
    return numbers


def shown(numbers: Floats) -> str:
    """A number, or how many there are and one of them."""
    return f"{numbers:g}" if numbers.ndim == 0 else f"{numbers.size:,} numbers such as {numbers.flat[0]:g}"


def _numbers(name: str, value: ArrayLike) -> Floats:
    advice = "give a number or an array of numbers"
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array: {advice}, without mask")
    try:
        numbers = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, tensors that refuse
        raise InputError(f"{name}: cannot be read as numbers ({error}): {advice}") from None
    if numbers.dtype.kind not in "iuf":
        seen = f"holds {numbers.dtype}" if isinstance(value, np.ndarray) else f"is {_short(value)}"
        raise InputError(f"{name} {seen}: {advice}")
    if numbers.size == 0:
        raise InputError(f"{name} is empty: {advice}")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as that
        return numbers.astype(np.float64)


def _where(name: str, numbers: Floats, accepted: NDArray[Any], advice: str) -> Floats:
    if accepted.all():
        return numbers
    first = numbers[~accepted].flat[0]
    if numbers.ndim == 0:
        raise InputError(f"{name}={first:g}: {advice}")
    n_bad = int(np.sum(~accepted))
    raise InputError(f"{name} has {n_bad:,} of {numbers.size:,} entries such as {first:g}: {advice}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
