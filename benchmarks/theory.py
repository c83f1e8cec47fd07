"""The theory beside simulation where nothing is published, and how fast it is.

    python benchmarks/theory.py [--data DIR] [--quick]

General covariances: spiked, autoregressive, and with `--data` (a folder with `amazon_review/amazon_review.parquet`)
those of pairs of Amazon domains with their own means; a ridge source with another covariance than the target's, and a
known source. Every prediction against a simulation of the same setting, in standard errors. Then the accuracy curve of
1,000 row scales for 3 values of β, beside the published way of computing one (a Python loop, adaptive quadrature of the
normal density for each point), in turns in one process. Writes `results/theory.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from provenance import provenance, table
from row_scale_features import amazon
from scipy.integrate import quad

from loralaw.theory import FineTuning, GaussianRidgeSource, GaussianTarget, KnownVector, ridge_source, simulate
from loralaw.theory.on_rows import fit_ridge

RESULTS = Path(__file__).parent / "results" / "theory.md"
Floats = NDArray[np.float64]
ROW_SCALES = np.array([-2.0, 0.0, 0.5, 1.0, 2.0, 5.0])
FIELDS = ("mean", "second_moment", "accuracy", "risk")
SIZES = ((400, 40, 2000), (400, 800, 2000), (400, 100, 300))  # p, n, N
PAIRS = (("book", "dvd"), ("elec", "kitchen"), ("kitchen", "book"))
CURVE = {"n_source": 5000, "n_target": 40, "dim": 1000, "mu_norm": 0.8, "mu_orth_norm": 0.8}
PENALTIES = {"gamma_source": 5.0, "gamma_target": 0.1}


def synthetic() -> Iterator[tuple[str, FineTuning]]:
    rng = np.random.default_rng(0)
    for dim, n, n_source in SIZES:
        steps = np.arange(dim)
        means = rng.standard_normal((2, dim)) / np.sqrt(dim)
        target_mean = 0.7 * means[0] + 0.7 * means[1]
        axes = np.linalg.qr(rng.standard_normal((dim, 6)))[0]
        covariances = {
            "spiked": [np.eye(dim) + (axes[:, i : i + 3] * [30.0, 10.0, 3.0]) @ axes[:, i : i + 3].T for i in (0, 3)],
            "AR(1), 0.6 and 0.9": [r ** np.abs(steps[:, None] - steps) for r in (0.6, 0.9)],
        }
        for name, (of_source, of_target) in covariances.items():
            target = GaussianTarget(n, target_mean, of_target, 0.3)
            where = f"{name}, p {dim}, n {n}"
            yield (
                f"{where}, ridge, N {n_source}",
                FineTuning(GaussianRidgeSource(n_source, means[0], of_source, 0.5), target),
            )
            yield f"{where}, known", FineTuning(KnownVector(0.5 * means[0] + 0.02 * rng.standard_normal(dim)), target)


def reviews(folder: Path) -> Iterator[tuple[str, FineTuning]]:
    """Means and covariances of real features, without those that never vary; some repeat others."""
    domains = amazon(folder)
    varying = np.all([rows.std(axis=0) > 0 for rows, _ in domains.values()], axis=0)
    moments = {}
    for name, (rows, labels) in domains.items():
        rows = rows[:, varying]
        mean = labels @ rows / len(labels)
        moments[name] = (mean, rows.T @ rows / len(labels) - np.outer(mean, mean) + 1e-6 * np.eye(len(mean)))
    for source, target in PAIRS:
        for n in (20, 100):
            aim = GaussianTarget(n, *moments[target], 1.0)
            yield (
                f"Amazon {source} to {target}, n {n}, ridge",
                FineTuning(GaussianRidgeSource(2000, *moments[source], 1.0), aim),
            )
            rows, labels = domains[source]
            yield (
                f"Amazon {source} to {target}, n {n}, known",
                FineTuning(KnownVector(fit_ridge(rows[:, varying], labels, 1.0)), aim),
            )


def compared(settings: Iterator[tuple[str, FineTuning]], n_replicates: int) -> list[list[str]]:
    """Largest distance over row scales by field: in standard errors, and in percent where it is above 4 of them."""
    lines = []
    for name, setting in settings:
        seen = simulate(setting, ROW_SCALES, n_replicates=n_replicates, seed=1)
        expected = setting.predict(ROW_SCALES)
        cells = []
        for field in FIELDS:
            truth, error = getattr(seen.estimate, field), getattr(seen.standard_error, field)
            gap = np.abs(getattr(expected, field) - truth)
            worst = int(np.argmax(gap / error))
            percent = f" ({100 * gap[worst] / abs(truth[worst]):.2g} %)" if gap[worst] > 4 * error[worst] else ""
            cells.append(f"{gap[worst] / error[worst]:.1f}{percent}")
        lines.append([name, *cells])
        print(*lines[-1], flush=True)
    return lines


def published_way(betas: Floats, row_scales: Floats) -> Floats:
    """Points one by one; each accuracy is one minus the integral of the density from |mean|/sd on. Moments are those of
    the right formula, so that both ways give the same numbers."""

    def density(x: float) -> float:
        return float(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))

    out = np.empty((len(betas), len(row_scales)))
    for i, beta in enumerate(betas):
        for j, alpha in enumerate(row_scales):
            mean, second = _moments(float(beta), float(alpha))
            out[i, j] = 1 - quad(density, abs(mean) / np.sqrt(second - mean**2), np.inf)[0]
    return out


def _moments(beta: float, alpha: float) -> tuple[float, float]:
    """Mean and second moment at one point in plain Python numbers, every quantity computed anew as it is published."""
    n_source, n, dim, mu, orth = (float(value) for value in CURVE.values())
    gamma_source, gamma = PENALTIES.values()
    m2 = (beta * mu) ** 2 + (1 - beta**2) * orth**2

    def fit(rows: float, penalty: float) -> tuple[float, float]:
        eta = dim / rows
        delta = (eta - penalty - 1 + np.sqrt((eta - penalty - 1) ** 2 + 4 * eta * penalty)) / (2 * penalty)
        return penalty * (1 + delta), 1 - eta / (1 + penalty * (1 + delta)) ** 2

    (kappa_source, h_source), (kappa, h) = fit(n_source, gamma_source), fit(n, gamma)
    lam_source, lam, eta = mu**2 + 1 + kappa_source, m2 + 1 + kappa, dim / n
    spread = (1 - h_source) / h_source * (1 - 2 * mu**2 / lam_source + mu**2 * (mu**2 + 1) / lam_source**2)
    c, s = beta * mu**2 / lam_source, mu**2 / lam_source**2 + spread
    first = m2 / (h * lam) * ((m2 + 1) / lam - 2 * (1 - h)) + (1 - h) / h
    cross = 2 * kappa * c * ((m2 + 1) / lam - (1 - h)) / (h * lam)
    square = kappa**2 / h * ((c / lam) ** 2 + (1 - h) * s / eta + (1 - h) * c**2 * (m2 / lam - 2) / (eta * lam))
    return (m2 + alpha * kappa * c) / lam, first + alpha * cross + alpha**2 * square


def our_way(betas: Floats, row_scales: Floats) -> Floats:
    setting = ridge_source(**CURVE, **PENALTIES, beta=betas[:, None])
    return np.asarray(setting.predict(row_scales).accuracy)


def speed(n_rounds: int) -> str:
    betas, row_scales, many = np.array([0.2, 0.5, 0.9]), np.linspace(-10, 10, 1000), np.linspace(-10, 10, 1_000_000)
    theirs, ours, million = [], [], []
    for _ in range(n_rounds):
        theirs.append(seconds(lambda: published_way(betas, row_scales)))
        ours.append(min(seconds(lambda: our_way(betas, row_scales)) for _ in range(20)))
        million.append(seconds(lambda: our_way(betas[:1], many)))
    unfolded = our_way(betas, row_scales)
    gap = np.abs(published_way(betas, row_scales) - np.maximum(unfolded, 1 - unfolded)).max()
    ratio = statistics.median(theirs) / statistics.median(ours)
    return table(
        ["what", "processor seconds, median"],
        [
            ["published way, 3 x 1,000 points", f"{statistics.median(theirs):.3f}"],
            ["ours, 3 x 1,000 points", f"{statistics.median(ours):.6f}"],
            ["ratio", f"{ratio:,.0f}"],
            ["ours, 1,000,000 points", f"{statistics.median(million):.4f}"],
            ["points a second", f"{1e6 / statistics.median(million):,.0f}"],
            ["largest difference of the accuracies", f"{gap:.1e}"],
        ],
    )


def seconds(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true", help="five draws a setting, nothing written")
    options = parser.parse_args()
    n_replicates = 5 if options.quick else 300
    lines = compared(synthetic(), n_replicates)
    if options.data:
        lines += compared(reviews(options.data), n_replicates)
    text = "# The theory beside simulation\n\n" + provenance(f"{n_replicates} draws a setting, seed 1.")
    shown = ", ".join(f"{alpha:g}" for alpha in ROW_SCALES)
    text += (
        f"\n## General covariances\n\nLargest distance of a prediction from the simulation over row scales {shown}, "
        "in standard errors; above 4 of them also in percent of the value.\n\n"
    )
    text += table(["setting", *(field.replace("_", " ") for field in FIELDS)], lines)
    n_rounds = 1 if options.quick else 5
    text += f"\n## Speed\n\nIn turns in one process, {n_rounds} rounds.\n\n{speed(n_rounds)}"
    print(text)
    if not options.quick:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
