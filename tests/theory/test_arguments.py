"""What cannot be is refused by the name of the argument and the value seen."""

from typing import Any

import numpy as np
import pytest
import torch
from ridge_setting import RIDGE

from loralaw.errors import InputError
from loralaw.theory import (
    BinaryTarget,
    FineTuning,
    GaussianRidgeSource,
    GaussianTarget,
    KnownSource,
    KnownVector,
    RidgeSource,
    best_row_scale,
    draw_scores,
    predict,
    regression,
    ridge_source,
    simulate,
)

LINEAR = {
    "n_target": 20,
    "dim": 40,
    "n_outputs": 10,
    "noise_std": 0.5,
    "gamma": 0.01,
    "source_norm_sq": 4.0,
    "target_norm_sq": 5.0,
    "source_target_inner": 2.0,
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_source", 0, "n_source=0: give whole numbers from 1"),
        ("n_target", -3, "n_target=-3: give whole numbers from 1"),
        ("n_target", 2.5, "n_target=2.5: give whole numbers from 1"),
        ("dim", 0, "dim=0: give whole numbers from 1"),
        ("beta", 1.2, "beta=1.2: give numbers from -1 to 1"),
        ("beta", [0.1, -1.5], "beta has 1 of 2 entries such as -1.5: give numbers from -1 to 1"),
        ("gamma_source", 0, "gamma_source=0: give numbers above 0"),
        ("gamma_target", -1, "gamma_target=-1: give numbers above 0"),
        ("mu_norm", -1, "mu_norm=-1: give numbers that are not negative"),
        ("mu_orth_norm", float("nan"), "mu_orth_norm=nan: give finite numbers"),
        ("mu_norm", [1.0, np.inf], "mu_norm has 1 of 2 entries such as inf: give finite numbers"),
        ("beta", "0.5", "beta is '0.5': give a number or an array of numbers"),
        ("beta", None, "beta is None: give a number or an array of numbers"),
        ("beta", True, "beta is True: give a number or an array of numbers"),
        ("beta", [], "beta is empty: give a number or an array of numbers"),
        ("beta", [[0.1], [0.1, 0.2]], "beta: cannot be read as numbers"),
        ("beta", 0.5 + 1j, "beta is"),
    ],
)
def test_of_a_ridge_source(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ridge_source(**{**RIDGE, name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", 0, "gamma=0: give numbers above 0"),
        ("n_outputs", 0, "n_outputs=0: give whole numbers from 1"),
        ("noise_std", -0.1, "noise_std=-0.1: give numbers that are not negative"),
        ("source_norm_sq", 0, "source_norm_sq=0: give numbers above 0"),
        ("source_target_inner", 9, "source_target_inner=9 is larger than the norms allow"),
        ("source_target_inner", [1.0, 2.0, 3.0], "do not broadcast"),
    ],
)
def test_of_a_regression(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        regression(**{**LINEAR, "noise_std": [0.5, 0.6], name: value})


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(InputError, match=r"do not broadcast: beta \(2,\), n_source \(3,\)"):
        ridge_source(**{**RIDGE, "beta": [0.1, 0.2], "n_source": [10, 20, 30]})
    with pytest.raises(InputError, match=r"do not broadcast: setting \(2,\), row_scale \(3,\)"):
        ridge_source(**{**RIDGE, "beta": [0.1, 0.2]}).predict([1, 2, 3])
    with pytest.raises(InputError, match="row_scale=nan"):
        ridge_source(**RIDGE).predict(float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"covariance": np.ones((3, 3))}, "covariance is not positive definite"),
        ({"covariance": -np.eye(3)}, "covariance is not positive definite"),
        ({"covariance": np.triu(np.ones((3, 3)))}, "covariance is not symmetric"),
        ({"covariance": np.eye(2)}, r"covariance has the shape \(2, 2\): give a matrix of the shape \(3, 3\)"),
        ({"covariance": np.full((3, 3), np.nan)}, "covariance has 9 of 9 entries such as nan"),
        ({"mean": np.ones((3, 1))}, r"mean has the shape \(3, 1\): give a vector"),
        ({"mean": [1.0, np.nan, 0.0]}, "mean has 1 of 3 entries such as nan"),
    ],
)
@pytest.mark.parametrize("kind", [GaussianTarget, GaussianRidgeSource])
def test_of_a_general_covariance(kind: Any, change: dict[str, Any], message: str) -> None:
    given = {"mean": np.ones(3), "covariance": np.eye(3), **change}
    with pytest.raises(InputError, match=message):
        kind(10, given["mean"], given["covariance"], 1.0)


def test_an_array_where_the_covariance_is_a_matrix() -> None:
    with pytest.raises(InputError, match="n_target has 2 numbers"):
        GaussianTarget([10, 20], np.ones(3), np.eye(3), 1.0)
    with pytest.raises(InputError, match="gamma_source has 2 numbers"):
        GaussianRidgeSource(10, np.ones(3), np.eye(3), [1.0, 2.0])


def test_source_and_target_that_do_not_go_together() -> None:
    target = BinaryTarget(10, 20, 1.0, 1.0, 0.5, 1.0)
    with pytest.raises(InputError, match="source=KnownVector with target=BinaryTarget"):
        FineTuning(KnownVector(np.ones(20)), target)
    with pytest.raises(InputError, match="dim is 30 in the source and 20 in the target"):
        FineTuning(RidgeSource(10, 30, 1.0, 1.0), target)
    with pytest.raises(InputError, match="mu_norm is 2 in the source and 1 in the target"):
        FineTuning(RidgeSource(10, 20, 2.0, 1.0), target)
    with pytest.raises(InputError, match="4 entries"):
        FineTuning(KnownVector(np.ones(4)), GaussianTarget(10, np.ones(3), np.eye(3), 1.0))
    with pytest.raises(InputError, match="4 entries"):
        FineTuning(GaussianRidgeSource(10, np.ones(4), np.eye(4), 1.0), GaussianTarget(10, np.ones(3), np.eye(3), 1.0))
    with pytest.raises(InputError, match="norm_sq=-1"):
        KnownSource(-1.0, 0.0)


def test_what_is_no_setting_and_no_seed() -> None:
    setting = ridge_source(**RIDGE)
    for wrong in (None, "x", BinaryTarget(10, 20, 1.0, 1.0, 0.5, 1.0)):
        for ask in (predict, simulate):
            with pytest.raises(InputError, match=f"setting is a {type(wrong).__name__}"):
                ask(wrong, 1.0)
        with pytest.raises(InputError, match=f"setting is a {type(wrong).__name__}"):
            best_row_scale(wrong)
    with pytest.raises(InputError, match="setting is a Regression: give a FineTuning"):
        draw_scores(regression(**LINEAR), [1.0])
    for seed in (-1, 1.5, "a", True):
        with pytest.raises(InputError, match=r"seed is .*: give a whole number from 0"):
            simulate(setting, 1.0, seed=seed)


def test_arrays_that_are_more_than_numbers() -> None:
    with pytest.raises(InputError, match="beta is a masked array"):
        ridge_source(**{**RIDGE, "beta": np.ma.array([0.1, 9.0], mask=[False, True])})
    with pytest.raises(InputError, match="beta holds bool"):
        ridge_source(**{**RIDGE, "beta": np.array([True, False])})
    with pytest.raises(InputError, match=r"weights: cannot be read as numbers .*requires grad"):
        KnownVector(torch.nn.Parameter(torch.ones(3)))  # of a trained head
    assert KnownVector(torch.ones(3)).weights.tolist() == [1, 1, 1]


def test_no_warning_leaks_at_the_ends_of_the_range() -> None:
    """Warnings are errors in these tests."""
    for change in ({"beta": 1e-309}, {"gamma_target": 1e-300}, {"n_target": 10**18}, {"mu_norm": 1e20}, {"mu_norm": 0}):
        best = ridge_source(**{**RIDGE, **change}).best_row_scale()
        assert best.accuracy_at_1 <= best.accuracy_best + 1e-12
    assert FineTuning(KnownSource(1.0, 1e-309), BinaryTarget(10, 20, 1.0, 1.0, 0.5, 1.0)).best_row_scale().worst < 0
    with pytest.raises(InputError, match="the penalty 1e-300 is lost beside the features' variances"):
        FineTuning(KnownVector(np.ones(3)), GaussianTarget(2, np.ones(3), np.eye(3), 1e-300))
