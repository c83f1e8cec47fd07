"""Forms of one axis: named where the cells are clear about them, undecided where they are not."""

import numpy as np
import pytest
from simulated import one_axis_table

from loralaw.laws import Status, fit


def saturating(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + np.minimum(x, 16.0) ** -0.5)


def test_a_floor_is_named() -> None:
    law = fit(one_axis_table(levels=8, noise=0.01), metric="loss", axis="rank")

    assert law.forms is not None
    assert law.forms.name == "power+floor"
    assert "a power law with a floor, weight" in law.message


def test_flat_beyond_a_size() -> None:
    law = fit(one_axis_table(saturating, levels=9, noise=0.01), metric="loss", axis="rank")

    assert law.forms is not None
    assert law.forms.name == "saturating"
    low, high = law.interval("flat_beyond")
    assert low < 16 < high
    assert low > 6
    assert high < 40
    assert "flat from rank" in law.message
    assert law.predict([64.0, 256.0])[0] == pytest.approx(law.predict([64.0, 256.0])[1], abs=1e-9)
    assert law.gain_of_doubling(64.0)[0] == pytest.approx(0.0, abs=1e-9)


def test_much_noise_leaves_the_form_undecided_and_the_floor_in() -> None:
    names = []
    for rng in range(10):
        law = fit(one_axis_table(noise=0.1, rng=rng), metric="loss", axis="rank")
        if law.forms is not None:
            names.append(law.forms.name)
            assert "floor" in law.params
    assert names.count("undecided") >= 7


def test_the_floor_stays_where_none_is_seen() -> None:
    law = fit(one_axis_table(lambda x: x**-0.5, levels=8, noise=0.002), metric="loss", axis="rank")

    assert law.forms is not None
    assert law.forms.name == "power"
    assert law.law is not None
    assert law.law.form.name == "power+floor"
    low, high = law.interval("floor")
    assert low <= 0.0 <= high


def test_three_levels_cannot_saturate() -> None:
    law = fit(one_axis_table(levels=3, seeds=4, noise=0.01), metric="loss", axis="rank")

    assert law.status in (Status.LAW, Status.WEAK_EXPONENT)
    assert law.forms is not None
    assert "saturating" not in law.forms.weights
