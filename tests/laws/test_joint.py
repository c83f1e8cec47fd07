"""Laws of several axes: known parameters, an independent fit, and every outcome that is not a law."""

import itertools

import numpy as np
import polars as pl
import pytest
from scipy.optimize import curve_fit
from simulated import study_table

from loralaw.errors import TableError
from loralaw.laws import JointFit, Status, fit
from loralaw.laws.forms import Form
from loralaw.laws.posterior import law_posterior

N, D, R = (2.0 ** np.linspace(0, 8, 4), 2.0 ** np.linspace(0, 6, 4), 2.0 ** np.linspace(0, 6, 3))


def separable(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + sizes[:, 0] ** -0.5 + 0.7 * sizes[:, 1] ** -0.35)


def multiplicative(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 2 * sizes[:, 0] ** -0.25 * sizes[:, 1] ** -0.3)


def joint_table(law: object = separable, *, noise: float = 0.01, seeds: int = 2, rng: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(rng)
    sizes = np.repeat(np.array(list(itertools.product(N, D))), seeds, axis=0)
    loss = law(sizes) + noise * random.standard_normal(len(sizes))  # type: ignore[operator]
    return pl.DataFrame(
        {"size": sizes[:, 0], "data": sizes[:, 1], "seed": np.tile(np.arange(seeds), len(sizes) // seeds), "loss": loss}
    )


def fitted(table: pl.DataFrame) -> JointFit:
    return fit(table, metric="loss", axes=["size", "data"])


def test_data_without_noise_give_the_law_back() -> None:
    law = fitted(joint_table(noise=1e-6))

    assert law.status is Status.LAW
    truth = {"floor": 0.5, "amplitude_size": 1, "amplitude_data": 0.7, "exponent_size": 0.5, "exponent_data": 0.35}
    assert law.params == pytest.approx(truth, abs=5e-3)
    points = {"size": [16.0, 512.0], "data": [8.0, 64.0]}
    assert law.predict(points) == pytest.approx(separable(np.array([[16.0, 8.0], [512.0, 64.0]])), abs=1e-4)


@pytest.mark.parametrize(("law", "name"), [(separable, "separable"), (multiplicative, "multiplicative")])
def test_the_form_is_named_where_it_is_clear(law: object, name: str) -> None:
    found = fitted(joint_table(law))

    assert found.forms is not None
    assert found.forms.name == name
    assert sum(found.forms.weights.values()) == pytest.approx(1)
    assert found.law is not None
    assert found.law.form.name == name


def test_agrees_with_least_squares_where_noise_is_low() -> None:
    table = joint_table(noise=0.003, seeds=3)
    x = table.select("size", "data").to_numpy().T

    def law(x: np.ndarray, e: float, a: float, b: float, p: float, q: float) -> np.ndarray:
        return np.asarray(e + a * x[0] ** -p + b * x[1] ** -q)

    best, covariance = curve_fit(law, x, table["loss"].to_numpy(), p0=(0.4, 1.1, 0.6, 0.6, 0.3))
    error = np.sqrt(np.diag(covariance))

    found = fitted(table)

    for value, spread, name in zip(
        best, error, ("floor", "amplitude_size", "amplitude_data", "exponent_size", "exponent_data"), strict=True
    ):
        assert abs(found.params[name] - value) < spread
        low, high = found.interval(name)
        assert 0.5 < (high - low) / (4 * spread) < 1.8


def test_three_axes_and_their_order() -> None:
    random = np.random.default_rng(0)
    sizes = np.repeat(np.array(list(itertools.product(N[:3], D[:3], R))), 2, axis=0)
    loss = 0.5 + (np.array([1.0, 0.7, 0.4]) * sizes ** -np.array([0.5, 0.35, 0.7])).sum(axis=1)
    columns = {"size": sizes[:, 0], "data": sizes[:, 1], "rank": sizes[:, 2], "seed": np.tile([0, 1], len(sizes) // 2)}
    table = pl.DataFrame({**columns, "loss": loss + 0.01 * random.standard_normal(len(loss))})

    one = fit(table, metric="loss", axes=["size", "data", "rank"])
    other = fit(table, metric="loss", axes=["rank", "size", "data"])

    point = {"size": 32.0, "data": 16.0, "rank": 8.0}
    assert one.predict(point) == pytest.approx(other.predict(point), abs=2e-3)
    assert one.interval("exponent_rank")[0] < 0.7 < one.interval("exponent_rank")[1]


def test_an_axis_without_effect_is_left_out_and_said() -> None:
    found = fitted(joint_table(lambda sizes: 0.5 + sizes[:, 0] ** -0.5))

    assert found.law is not None
    assert found.law.form.axes == ("size",)
    assert "No visible dependence on data" in found.message
    inside, outside = found.predict({"size": [16.0, 16.0], "data": [4.0, 1000.0]})
    assert inside == pytest.approx(0.75, abs=0.02)
    assert np.isnan(outside)


def test_noise_is_constant() -> None:
    found = fitted(joint_table(lambda sizes: np.full(len(sizes), 2.0), noise=0.1))

    assert found.status is Status.CONSTANT
    assert found.params == {}
    low, high = found.predict_interval({"size": 16.0, "data": 4.0})
    assert low[0] < 2.0 < high[0]
    with pytest.raises(TableError, match="has no law"):
        found.interval("floor")


def test_a_law_that_misses_points_says_by_how_much() -> None:
    def bumpy(sizes: np.ndarray) -> np.ndarray:
        bumps = np.random.default_rng(1).standard_normal(len(N) * len(D))
        place = np.unique(sizes, axis=0, return_inverse=True)[1].ravel()
        return separable(sizes) + 0.03 * bumps[place]

    found = fitted(joint_table(bumpy, noise=0.001))

    assert found.status is Status.APPROXIMATE
    assert 0.015 < found.misfit < 0.06
    assert "approximation" in found.message
    low, high = found.predict_interval({"size": 16.0, "data": 8.0})
    assert high[0] - low[0] > 3 * found.misfit


def test_against_the_direction_is_no_law() -> None:
    table = joint_table().rename({"loss": "cross_entropy"})
    table = table.with_columns(cross_entropy=pl.col("cross_entropy") + 0.3 * pl.col("data").log())

    found = fit(table, metric="cross_entropy", axes=["size", "data"])

    assert found.status is Status.WRONG_DIRECTION
    assert "data" in found.message
    assert not found.can_predict


def test_two_levels_of_an_axis_are_too_few() -> None:
    table = joint_table().filter(pl.col("data").is_in([1.0, 64.0]))

    found = fitted(table)

    assert found.status is Status.TWO_LEVELS
    assert "three levels" in found.message


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({}, "give one axis"),
        ({"axis": "size", "axes": ["size", "data"]}, "give one axis"),
        ({"axes": ["size"]}, "two or three different"),
        ({"axes": ["size", "size"]}, "two or three different"),
        ({"axes": "size"}, "two or three different"),
        ({"axes": ["size", "dat"]}, 'Did you mean "data"'),
    ],
)
def test_what_is_not_a_set_of_axes(arguments: dict[str, object], part: str) -> None:
    with pytest.raises(TableError, match=part):
        fit(joint_table(), metric="loss", **arguments)  # type: ignore[call-overload]


def test_points_need_every_axis() -> None:
    found = fitted(joint_table())

    with pytest.raises(TableError, match='no "data"'):
        found.predict({"size": 4.0})
    with pytest.raises(TableError, match="above 0"):
        found.predict({"size": 4.0, "data": 0.0})


def test_a_star_is_enough_for_a_joint_law() -> None:
    table = joint_table(noise=0.003).filter((pl.col("size") == N[1]) | (pl.col("data") == D[1]))

    found = fitted(table)

    assert found.has_law
    assert found.interval("exponent_size")[0] < 0.5 < found.interval("exponent_size")[1]


def test_a_new_seed_is_less_certain_than_these() -> None:
    """Curves that seeds shift as a whole: the mean of the seeds that were run is known, that of all seeds is not."""
    random = np.random.default_rng(0)
    x, seed = np.repeat(2.0 ** np.arange(9), 3), np.tile([0, 1, 2], 9)
    shift = np.array([-0.2, 0.05, 0.25])
    y = 0.5 + x**-0.5 + shift[seed] + 0.005 * random.standard_normal(27)
    law = fit(pl.DataFrame({"rank": x, "seed": seed, "loss": y}), metric="loss", axis="rank")

    (low, high), (new_low, new_high) = law.predict_interval([16.0]), law.predict_interval([16.0], seeds="new")

    assert low[0] < 0.75 + shift.mean() < high[0]
    assert high[0] - low[0] < 0.05
    assert new_low[0] < 0.75 < new_high[0]
    assert new_high[0] - new_low[0] > 5 * (high[0] - low[0])


def test_evidence_does_not_hang_on_units() -> None:
    x, seeds = np.repeat(2.0 ** np.arange(8), 2)[:, None], np.tile([0, 1], 8)
    y = 0.5 + x[:, 0] ** -0.5 + 0.02 * np.random.default_rng(0).standard_normal(16)
    differences = []
    for unit in (1.0, 1000.0):
        power, floor = (
            law_posterior(Form(name, ("rank",)), x, unit * y, seeds, increasing=False, rng=np.random.default_rng(0))
            for name in ("power", "power+floor")
        )
        assert power is not None
        assert floor is not None
        differences.append(floor.log_evidence - power.log_evidence)
    assert differences[0] == pytest.approx(differences[1], abs=1e-6)


def test_where_the_form_is_open_predictions_weigh_them() -> None:
    """As often from each form as its weight says; what all forms agree on is no less certain than either."""
    found = next(law for rng in range(20) if (law := fitted(joint_table(noise=0.2, rng=rng))).law and law.law.others)
    assert found.law is not None
    assert found.forms is not None
    ((other, weight),) = found.law.others
    point = np.array([[1024.0, 256.0]])

    mixed, own, its = found.law.curves(point)[:, 0], found.law.draws.at(point)[:, 0], other.at(point)[:, 0]

    assert found.forms.name == "undecided"
    assert np.isin(mixed, np.maximum(its, 0)).mean() == pytest.approx(weight, abs=2e-3)
    assert np.isin(mixed, np.maximum(own, 0)).mean() == pytest.approx(1 - weight, abs=2e-3)
    assert "Predictions weigh these forms" in found.message


@pytest.mark.parametrize("star", [True, False])
def test_a_star_says_that_it_is_no_grid(star: bool) -> None:
    axes = ["rank", "n_train_examples", "n_params_total"]
    found = fit(study_table(star=star), metric="cross_entropy", axes=axes)

    assert ("combinations of the levels were run" in found.message) == star
