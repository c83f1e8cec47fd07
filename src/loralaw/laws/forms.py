"""The forms that a law can have: which parameters are searched over, and which columns they make.

Every form is linear in floor and amplitudes once its other parameters are given:

    power           A·x^(-a)
    power+floor     E + A·x^(-a)
    saturating      E + A·min(x, x*)^(-a)                         flat beyond x*
    separable       E + A·N^(-a) + B·D^(-b) + C·r^(-c)            a term an axis
    multiplicative  E + A·N^(-a)·D^(-b)·r^(-c)                    one term for all axes
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FormName = Literal["power", "power+floor", "saturating", "separable", "multiplicative"]

ONE_AXIS: tuple[FormName, ...] = ("power", "power+floor", "saturating")
JOINT: tuple[FormName, ...] = ("separable", "multiplicative")


@dataclass(frozen=True)
class Form:
    """A form over named axes.

    Args:
        name: See the module.
        axes: Columns of the sizes; one for the first three forms.
    """

    name: FormName
    axes: tuple[str, ...]

    @property
    def has_floor(self) -> bool:
        return self.name != "power"

    @property
    def is_saturating(self) -> bool:
        return self.name == "saturating"

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the exponents, one an axis."""
        return tuple(f"exponent{suffix}" for suffix in self._suffixes(self.axes))

    @property
    def amplitudes(self) -> tuple[str, ...]:
        """Names of the amplitudes, one a term."""
        return tuple(f"amplitude{suffix}" for suffix in self._suffixes(self.axes if self.is_sum else ("",)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """All names, as `LawFit.params` has them."""
        floor, flat = ("floor",) * self.has_floor, ("flat_beyond",) * self.is_saturating
        return (*floor, *self.amplitudes, *self.exponents, *flat)

    @property
    def is_sum(self) -> bool:
        """Whether every axis has a term of its own."""
        return self.name == "separable"

    @property
    def n_searched(self) -> int:
        """Parameters that are summed over on a grid."""
        return len(self.axes) + self.is_saturating

    @property
    def n_linear(self) -> int:
        """Floor and amplitudes."""
        return self.has_floor + (len(self.axes) if self.is_sum else 1)

    @property
    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Of each term, the numbers of the searched parameters that it has."""
        return tuple((i,) for i in range(len(self.axes))) if self.is_sum else (tuple(range(self.n_searched)),)

    def columns(self, term: int, searched: Floats, log_sizes: Floats) -> Floats:
        """The column of a term.

        Args:
            term: Its number.
            searched: (m, n_searched) values of the searched parameters; those of other terms are not looked at. The
                size beyond which a law is flat is a logarithm.
            log_sizes: (n, n_axes) logarithms of the sizes.

        Returns:
            (m, n).
        """
        if self.is_saturating:
            return np.asarray(np.exp(-searched[:, :1] * np.minimum(log_sizes[:, 0], searched[:, 1:])))
        axes = list(self.terms[term])
        return np.asarray(np.exp(-searched[:, axes] @ log_sizes[:, axes].T))

    def _suffixes(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"_{name}" for name in names) if len(names) > 1 else ("",)
