"""Laws beside those of `simple-scaling-laws` on the same simulated studies: coverage, width, processor time.

    python3.12 -m venv PEER && PEER/bin/pip install simple-scaling-laws==0.2.0
    python benchmarks/law_peer.py --peer PEER/bin/python [--studies 100]

The peer needs Python 3.12 and has an environment of its own. Both fit a power law with a floor to each study (y = 0.5 +
x^-0.5 over eight octaves; two axes: a sum of two such terms), the peer with 300 draws for coverage and 1,000 for time.
Differences of coverage are paired by study. Writes `results/law_peer.md`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

RESULTS = Path(__file__).parent / "results" / "law_peer.md"
LOSS, AXES = "test_loss__cross_entropy", ("model_size__n_params", "dataset_size__n")
N_DRAWS, N_DRAWS_TIMED = 300, 1000
QUANTITIES = ("exponent", "floor", "in range", "+1 octave")


def fits_of_the_peer(tables: Path) -> None:
    """To be called by the peer's Python: intervals and seconds of every study of a file, as JSON lines."""
    import simple_scaling_laws

    for each in json.loads(tables.read_text()):
        x, seeds = np.array(each["x"]), np.array(each["seed"])
        points = np.unique(x, axis=0, return_inverse=True)[1].ravel()
        names = AXES[: x.shape[1]]
        columns = {
            "training_run_id": [f"r{p:03d}_{s}" for p, s in zip(points, seeds, strict=True)],
            "train_set_id": [f"t{p}" for p in points],
            "test_set_id": ["b"] * len(x),
            "optimizer_seed": seeds.tolist(),
            LOSS: each["y"],
        }
        frame = pl.DataFrame(columns | {name: x[:, i] for i, name in enumerate(names)})
        places = pl.DataFrame({name: np.array(each["places"])[:, i] for i, name in enumerate(names)})
        started = time.process_time()
        model = simple_scaling_laws.fit(frame, law="separable-power", n_draws=each["n_draws"], seed=0)
        ends, predicted = model.conf_int(LOSS), model.predict(places)
        seconds = time.process_time() - started
        quantiles = zip(predicted[f"{LOSS}__q025"].to_list(), predicted[f"{LOSS}__q975"].to_list(), strict=True)
        print(json.dumps([[*map(list, (ends["alpha"], ends["E"], *quantiles))], seconds]), flush=True)


def ours(each: dict[str, object]) -> tuple[list[list[float]], float]:
    """The same of one study by us: the law alone, and as the peer means it, for seeds that were not run."""
    from loralaw.laws.forms import Form
    from loralaw.laws.law import Law
    from loralaw.laws.posterior import law_posterior

    x, y, seeds = (np.array(each[name]) for name in ("x", "y", "seed"))
    form = Form("separable", ("a", "b")) if x.shape[1] > 1 else Form("power+floor", ("a",))
    started = time.process_time()
    draws = law_posterior(form, x, y, seeds, increasing=False, rng=np.random.default_rng(0))
    assert draws is not None
    law = Law(draws, increasing=False, bound=0.0)
    predicted = law.quantiles(np.array(each["places"]), [0.025, 0.975], "new").T.tolist()
    found = [list(law.interval(form.exponents[0])), list(law.interval("floor")), *predicted]
    return found, time.process_time() - started


def conditions(n_studies: int) -> list[tuple[str, list[dict[str, object]], list[float]]]:
    """Name, studies, and the true values of the four quantities."""
    found = []
    for n_axes, kind, noise, (n_cells, n_seeds) in [
        *((1, "equal", noise, size) for noise in (0.01, 0.03, 0.1) for size in ((12, 2), (24, 3), (60, 3))),
        *((1, kind, 0.03, size) for kind in ("grows 4x", "seed effect") for size in ((12, 2), (24, 3), (60, 3))),
        *((2, "equal", noise, size) for noise in (0.01, 0.03) for size in ((24, 2), (60, 3))),
        *((2, "seed effect", 0.03, size) for size in ((24, 2),)),
    ]:
        levels = [2.0 ** np.linspace(0, 8, n_cells // n_seeds)]
        if n_axes == 2:
            shape = (4, 3) if n_cells == 24 else (5, 4)
            levels = [2.0 ** np.linspace(0, octaves, n) for octaves, n in zip((8, 6), shape, strict=True)]
        grid = np.array(np.meshgrid(*levels, indexing="ij")).reshape(n_axes, -1).T
        amplitudes, exponents = np.array([1.0, 0.7])[:n_axes], np.array([0.5, 0.35])[:n_axes]

        def law(x: np.ndarray, a: np.ndarray = amplitudes, e: np.ndarray = exponents) -> np.ndarray:
            return np.asarray(0.5 + (a * x**-e).sum(axis=1))

        middle = np.exp(np.log(grid).mean(axis=0))
        beyond = grid.max(axis=0) * np.array([2.0, 1.0])[:n_axes]
        places = np.array([middle, beyond])
        x, seeds = np.repeat(grid, n_seeds, axis=0), np.tile(np.arange(n_seeds), len(grid))
        sd = noise * np.ptp(law(grid)) * np.ones(len(x))
        if kind == "grows 4x":
            sd = sd * 4 ** (np.log2(x[:, 0]) / 8 - 0.5)
        studies: list[dict[str, object]] = []
        for number in range(n_studies):
            rng = np.random.default_rng(number)
            errors, shift = sd * rng.standard_normal(len(x)), np.zeros(n_seeds)
            if kind == "seed effect":
                errors, shift = errors * 0.5**0.5, sd[0] * 0.5**0.5 * rng.standard_normal(n_seeds)
            y = law(x) + errors + shift[seeds]
            each = {"x": x.tolist(), "y": y.tolist(), "seed": seeds.tolist(), "places": places.tolist()}
            studies.append(each | {"n_draws": N_DRAWS})
        name = f"{'one axis' if n_axes == 1 else 'two axes'}, {kind}, {noise:.0%}, {n_cells} cells"
        found.append((name, studies, [float(exponents[0]), 0.5, *law(places).tolist()]))
    return found


def by_the_peer(python: str, studies: list[dict[str, object]]) -> list[tuple[list[list[float]], float]]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(studies, file)
        file.flush()
        command = [python, __file__, "--tables", file.name]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [tuple(json.loads(line)) for line in out.splitlines()]  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python 3.12 with simple-scaling-laws")
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--tables", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tables:
        fits_of_the_peer(arguments.tables)
        return
    from provenance import provenance, table

    rows, n_worse, n_wider = list[list[str]](), 0, 0
    for name, studies, truth in conditions(arguments.studies):
        theirs, mine = by_the_peer(arguments.peer, studies), [ours(each) for each in studies]
        for i, quantity in enumerate(QUANTITIES):
            intervals = [np.array([fitted[0][i] for fitted in each]) for each in (mine, theirs)]
            hits = [(ends[:, 0] - 1e-9 <= truth[i]) & (truth[i] <= ends[:, 1] + 1e-9) for ends in intervals]
            difference = hits[0].astype(float) - hits[1]
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            widths = [float(np.median(ends[:, 1] - ends[:, 0])) for ends in intervals]
            is_worse = difference.mean() < -2 * error and hits[0].mean() < 0.95
            both_cover = min(each.mean() for each in hits) >= 0.9
            is_wider = both_cover and widths[0] > 1.005 * widths[1]
            n_worse, n_wider = n_worse + is_worse, n_wider + is_wider
            rows.append(
                [name, quantity, *(f"{100 * each.mean():.0f}" for each in hits),
                 f"{100 * difference.mean():+.0f} ± {200 * error:.0f}", f"{widths[0] / widths[1]:.2f}",
                 " ".join(word for word, is_so in (("worse", is_worse), ("wider", is_wider)) if is_so)]
            )  # fmt: skip
        print(name, flush=True)
    timed = [
        (name, [each | {"n_draws": N_DRAWS_TIMED} for each in studies[:10]])
        for name, studies, _ in conditions(10)
        if "3%" in name and "equal" in name
    ]
    speeds = []
    for name, studies in timed:
        mine = np.median([ours(each)[1] for each in studies])
        theirs = np.median([seconds for _, seconds in by_the_peer(arguments.peer, studies)])
        speeds.append([name, f"{1000 * mine:.0f}", f"{1000 * theirs:.0f}", f"{theirs / mine:.0f}"])
    text = "\n".join(
        [
            "# Laws beside those of simple-scaling-laws 0.2.0",
            "",
            provenance(f"{arguments.studies} studies a condition, seeds 0 to {arguments.studies - 1}."),
            "Coverage of nominal 95 % intervals in percent (predictions: the mean over all seeds), the paired "
            "difference with two standard errors, and the ratio of median widths, ours over theirs. *worse*: less "
            "coverage by more than two standard errors, and below 95; *wider*: where both cover 90 % at least.",
            "",
            f"Worse in {n_worse} of {len(rows)} rows, wider in {n_wider}.",
            "",
            table(["studies", "quantity", "ours, %", "theirs, %", "difference", "width", ""], rows),
            "## Processor time of one fit",
            "",
            f"Milliseconds, medians of 10; the peer with {N_DRAWS_TIMED:,} draws, ours with 4,000.",
            "",
            table(["studies", "ours", "theirs", "ratio"], speeds),
        ]
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
