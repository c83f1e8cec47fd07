"""A setting's own methods as functions."""

from typing import overload

from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.fine_tuning import FineTuning
from loralaw.theory.prediction import BestRowScale, Prediction
from loralaw.theory.regression import BestRegressionRowScale, Regression, RegressionPrediction


@overload
def predict(setting: FineTuning, row_scale: ArrayLike) -> Prediction: ...
@overload
def predict(setting: Regression, row_scale: ArrayLike) -> RegressionPrediction: ...
def predict(setting: FineTuning | Regression, row_scale: ArrayLike) -> Prediction | RegressionPrediction:
    """`setting.predict(row_scale)`: what the theory says at row scales, any shape that broadcasts with the setting."""
    return checked_setting(setting).predict(row_scale)


@overload
def best_row_scale(setting: FineTuning) -> BestRowScale: ...
@overload
def best_row_scale(setting: Regression) -> BestRegressionRowScale: ...
def best_row_scale(setting: FineTuning | Regression) -> BestRowScale | BestRegressionRowScale:
    """`setting.best_row_scale()`: the best row scale, in closed form."""
    return checked_setting(setting).best_row_scale()


def checked_setting(setting: FineTuning | Regression) -> FineTuning | Regression:
    """The setting itself.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(setting, FineTuning | Regression):
        raise InputError(f"setting is a {type(setting).__name__}: give a FineTuning or a Regression")
    return setting
