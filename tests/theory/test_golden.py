"""Predictions beside simulations of others and, where it is right, beside the published code.

`golden/rmt_monte_carlo.json` holds 14 settings of a ridge source, 200 draws each, with standard errors;
`golden/rmt_theory.json` what the α-LoRA paper's public code returns.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loralaw.theory import BinaryTarget, FineTuning, KnownSource, RidgeSource, regression, ridge_source

GOLDEN = Path(__file__).parent / "golden"
SIMULATED = json.loads((GOLDEN / "rmt_monte_carlo.json").read_text())["ridge_source"]
PUBLISHED = json.loads((GOLDEN / "rmt_theory.json").read_text())
EXACT = {"rel": 1e-9, "abs": 1e-12}


def split(case: dict[str, Any]) -> tuple[dict[str, float], float]:
    inputs = dict(case["inputs"])
    return inputs, inputs.pop("alpha")


@pytest.mark.parametrize("case", SIMULATED, ids=lambda case: f"{case['inputs']['n_source']}-{case['inputs']['dim']}")
def test_a_ridge_source_is_predicted_as_it_was_simulated(case: dict[str, Any]) -> None:
    inputs, alpha = split(case)
    seen = ridge_source(**inputs).predict(alpha)
    for name, truth in case["monte_carlo"].items():
        finite_size = 0.01 * abs(truth["value"])  # all settings have dim >= 100
        assert abs(getattr(seen, name) - truth["value"]) < 4 * truth["stderr"] + finite_size, name


def test_the_second_moment_of_the_public_code_is_refuted_by_these_simulations() -> None:
    """The reason for another formula: the public code's variance of w̃ lies far outside of what was simulated."""
    inputs, alpha = split(SIMULATED[1])  # N = 200, p = 400
    mu2, target = (
        inputs["mu_norm"] ** 2,
        BinaryTarget(
            *(inputs[name] for name in ("n_target", "dim", "mu_norm", "mu_orth_norm", "beta", "gamma_target"))
        ),
    )
    eta, gamma = inputs["dim"] / inputs["n_source"], inputs["gamma_source"]
    delta = (eta - gamma - 1 + np.sqrt((eta - gamma - 1) ** 2 + 4 * eta * gamma)) / (2 * gamma)
    kappa = gamma * (1 + delta)
    lam, rest = mu2 + 1 + kappa, eta / (1 + kappa) ** 2
    public = KnownSource(max(mu2 / lam**2 + rest * (1 - 2 * mu2 / lam), 0.0), inputs["beta"] * mu2 / lam)
    truth = SIMULATED[1]["monte_carlo"]["second_moment"]
    assert abs(FineTuning(public, target).predict(alpha).second_moment - truth["value"]) > 20 * truth["stderr"]


@pytest.mark.parametrize("case", PUBLISHED["ridge_source"])
def test_means_of_a_ridge_source_are_the_public_codes(case: dict[str, Any]) -> None:
    inputs, alpha = split(case)
    setting, out = ridge_source(**inputs), case["outputs"]
    assert setting.predict(alpha).mean == pytest.approx(out["mean"], **EXACT)
    assert setting.best_row_scale().worst == pytest.approx(out["alpha_worst"], **EXACT)
    source = RidgeSource(inputs["n_source"], inputs["dim"], inputs["mu_norm"], inputs["gamma_source"]).predict()
    assert source.mean == pytest.approx(out["source_mean"], **EXACT)
    assert source.second_moment == pytest.approx(out["source_second_moment"], **EXACT)


@pytest.mark.parametrize("case", PUBLISHED["arbitrary_source"])
def test_a_known_source_is_the_public_codes(case: dict[str, Any]) -> None:
    inputs, alpha = split(case)
    source = KnownSource(inputs["source_norm_sq"], inputs["source_dot_target_mean"])
    length = np.sqrt(inputs["target_mean_norm_sq"])
    setting = FineTuning(source, BinaryTarget(inputs["n_target"], inputs["dim"], length, 0, 1, inputs["gamma_target"]))
    seen, best, out = setting.predict(alpha), setting.best_row_scale(), case["outputs"]
    assert seen.mean == pytest.approx(out["mean"], **EXACT)
    assert seen.second_moment == pytest.approx(out["second_moment"], **EXACT)
    assert max(seen.accuracy, 1 - seen.accuracy) == pytest.approx(out["accuracy"], **EXACT)  # theirs is folded
    assert best.best == pytest.approx(out["alpha_best"], **EXACT)
    assert best.worst == pytest.approx(out["alpha_worst"], **EXACT)


@pytest.mark.parametrize("case", PUBLISHED["regression"])
def test_regression_is_the_public_codes(case: dict[str, Any]) -> None:
    inputs, alpha = split(case)
    setting = regression(**inputs)
    assert setting.predict(alpha).risk == pytest.approx(case["outputs"]["risk"], **EXACT)
    assert setting.best_row_scale().best == pytest.approx(case["outputs"]["alpha_best"], **EXACT)
