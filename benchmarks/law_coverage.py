"""How often the 95 % intervals of laws hold the truth, on simulated studies whose law is known.

    python benchmarks/law_coverage.py [--joint] [--studies 300]

Every study goes through `loralaw.laws.fit`, as a user's table does. One axis: 12, 24 and 60 cells, noise of 1, 3 and
10 % of the metric's range, 2 and 3 seeds; noise that is equal, grows or falls fourfold along the axis, or is half a
shift that a seed has along the whole axis; y = 0.5 + x^-0.5 over eight octaves. With --joint: grids of two and three
axes and a star of three, separable and multiplicative. Writes `results/law_coverage.md`, or `law_coverage_joint.md`.
"""

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from provenance import provenance, table

from loralaw.laws import JointFit, LawFit, fit

RESULTS = Path(__file__).parent / "results"
Floats = NDArray[np.float64]
KINDS = {
    "equal": "equal",
    "grows": "grows 4x along the first axis",
    "falls": "falls 4x along the first axis",
    "seed": "half the variance a seed effect",
}
LOWEST, HIGHEST = 92.0, 98.0
"""A condition is as it should be where coverage plus or minus two standard errors touches this."""


@dataclass(frozen=True)
class Condition:
    """Studies with one law, one design and one kind of noise."""

    design: str
    sizes: tuple[tuple[float, ...], ...]
    """One a point."""
    n_seeds: int
    noise: float
    kind: str
    form: str

    @property
    def n_axes(self) -> int:
        return len(self.sizes[0])

    @property
    def truth(self) -> dict[str, float]:
        """Parameters by the names that a fit gives them."""
        exponents = np.array([0.5, 0.35, 0.7])[: self.n_axes] * (0.5 if self.form == "multiplicative" else 1.0)
        names = ["exponent"] if self.n_axes == 1 else [f"exponent_x{axis}" for axis in range(self.n_axes)]
        return {"floor": 0.5, **dict(zip(names, exponents.tolist(), strict=True))}

    def mean(self, sizes: Floats) -> Floats:
        """(n,) the law at sizes (n, n_axes)."""
        exponents = np.array([value for name, value in self.truth.items() if name != "floor"])
        if self.form == "multiplicative":
            return np.asarray(0.5 + 2 * np.prod(sizes**-exponents, axis=1))
        return np.asarray(0.5 + (np.array([1.0, 0.7, 0.4])[: self.n_axes] * sizes**-exponents).sum(axis=1))

    def study(self, number: int) -> tuple[pl.DataFrame, float]:
        """One study, and the mean shift of its seeds."""
        rng = np.random.default_rng(number)  # the same random numbers in every condition
        sizes = np.array(self.sizes)
        mean = self.mean(sizes)
        along = np.log(sizes[:, 0] / sizes[:, 0].min()) / np.log(sizes[:, 0].max() / sizes[:, 0].min())
        steepness = {"grows": 1.0, "falls": -1.0}.get(self.kind, 0.0)
        sd = self.noise * np.ptp(mean) * 4 ** (steepness * (along - 0.5))
        noise = sd[:, None] * rng.standard_normal((len(mean), self.n_seeds))
        shift = np.zeros(self.n_seeds)
        if self.kind == "seed":
            noise, shift = noise * 0.5**0.5, sd[0] * 0.5**0.5 * rng.standard_normal(self.n_seeds)
        rows = {f"x{axis}": np.repeat(sizes[:, axis], self.n_seeds) for axis in range(self.n_axes)}
        seeds = np.tile(np.arange(self.n_seeds), len(mean))
        return pl.DataFrame({**rows, "seed": seeds, "loss": (mean[:, None] + noise + shift).ravel()}), float(
            shift.mean()
        )

    @property
    def places(self) -> dict[str, Floats]:
        """(1, n_axes) the middle of the design, and an octave beyond the largest point along the first axis."""
        sizes = np.array(self.sizes)
        beyond = sizes.max(axis=0) * np.array([2.0] + [1.0] * (self.n_axes - 1))
        return {"in range": np.exp(np.log(sizes).mean(axis=0))[None], "+1 octave": beyond[None]}


def intervals(condition: Condition, study: pl.DataFrame) -> tuple[str, dict[str, tuple[float, float]]]:
    """Status of the fit, and every interval that it gives: of parameters where the law has all axes, of predictions."""
    axes = [f"x{axis}" for axis in range(condition.n_axes)]
    found: LawFit | JointFit
    found = fit(study, metric="loss", axis=axes[0]) if len(axes) == 1 else fit(study, metric="loss", axes=axes)
    if not found.can_predict:
        return str(found.status), {}
    has_all_axes = found.law is not None and len(found.law.form.axes) == len(axes)
    known = found.law.form.parameters if found.law is not None and has_all_axes else ()
    ends = {name: found.interval(name) for name in condition.truth if name in known}
    for (place, point), seeds in itertools.product(condition.places.items(), ("these", "new")):
        x = point[:, 0] if len(axes) == 1 else dict(zip(axes, point.T, strict=True))
        low, high = found.predict_interval(x, seeds=seeds)  # type: ignore[arg-type]
        if np.isfinite(low[0]):  # beyond the range of an axis on which nothing depends visibly nothing is claimed
            ends[f"{place}, {seeds} seeds"] = float(low[0]), float(high[0])
    return str(found.status) if found.law is None or has_all_axes else "axis left out", ends


def measure(condition: Condition, n_studies: int) -> dict[str, object]:
    """Coverage and median width of every interval, in percent and in the metric's unit."""
    hits: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    statuses: dict[str, int] = {}
    for number in range(n_studies):
        study, shift = condition.study(number)
        status, ends = intervals(condition, study)
        statuses[status] = statuses.get(status, 0) + 1
        for name, (low, high) in ends.items():
            truth = condition.truth.get(name)
            if truth is None:
                truth = float(condition.mean(condition.places[name.split(",")[0]])[0])
                truth += shift if "these" in name else 0.0
            hits.setdefault(name, []).append(low - 1e-9 <= truth <= high + 1e-9)
            widths.setdefault(name, []).append(high - low)
    return {
        "design": condition.design,
        "form": condition.form,
        "kind": condition.kind,
        "n_seeds": condition.n_seeds,
        "noise": condition.noise,
        "statuses": statuses,
        "n": {name: len(each) for name, each in hits.items()},
        "coverage": {name: 100 * float(np.mean(each)) for name, each in hits.items()},
        "width": {name: float(np.median(each)) for name, each in widths.items()},
    }


def one_axis() -> Iterator[Condition]:
    for kind, n_cells, n_seeds, noise in itertools.product(KINDS, (12, 24, 60), (2, 3), (0.01, 0.03, 0.1)):
        sizes = tuple((float(size),) for size in 2.0 ** np.linspace(0, 8, n_cells // n_seeds))
        yield Condition(f"{n_cells} cells", sizes, n_seeds, noise, kind, "power+floor")


def joint() -> Iterator[Condition]:
    def levels(octaves: int, n: int) -> Floats:
        return np.asarray(2.0 ** np.linspace(0, octaves, n))

    designs: list[tuple[str, tuple[tuple[float, ...], ...], int]] = [
        ("grid 4 x 3", grid(levels(8, 4), levels(6, 3)), 2),
        ("grid 5 x 4", grid(levels(8, 5), levels(6, 4)), 3),
        ("grid 3 x 3 x 3", grid(levels(8, 3), levels(6, 3), levels(6, 3)), 2),
        ("grid 3 x 3 x 3", grid(levels(8, 3), levels(6, 3), levels(6, 3)), 3),
        ("star of 15", star(levels(8, 5), levels(6, 5), levels(6, 5)), 2),
    ]
    for form, kind, noise in itertools.product(("separable", "multiplicative"), KINDS, (0.01, 0.03, 0.1)):
        for name, sizes, n_seeds in designs:
            yield Condition(name, sizes, n_seeds, noise, kind, form)


def grid(*levels: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(itertools.product(*(axis.tolist() for axis in levels)))


def star(*levels: Floats) -> tuple[tuple[float, ...], ...]:
    """Every axis through the middle of the others, and the two ends of all."""
    middle = [float(axis[len(axis) // 2]) for axis in levels]
    points = {(*middle[:i], float(v), *middle[i + 1 :]) for i, axis in enumerate(levels) for v in axis}
    return tuple(sorted(points | {tuple(float(axis[end]) for axis in levels) for end in (0, -1)}))


def page(title: str, done: list[dict[str, object]], n_studies: int) -> str:
    names = list(dict.fromkeys(name for each in done for name in each["coverage"]))  # type: ignore[attr-defined]
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for each in done:
        groups.setdefault((each["form"], each["kind"], each["design"]), []).append(each)
    rows = [
        [str(form), KINDS[str(kind)], str(design), *(spread(group, name) for name in names)]
        for (form, kind, design), group in groups.items()
    ]
    misses = [
        [str(e["form"]), KINDS[str(e["kind"])], str(e["design"]), str(e["n_seeds"]), f"{e['noise']:.0%}", name,
         f"{coverage:.1f} ± {2 * error(e, name):.1f}", f"{e['width'][name]:.3g}"]  # type: ignore[index]
        for e in done
        for name, coverage in e["coverage"].items()  # type: ignore[attr-defined]
        if not is_as_said(e, name)
    ]  # fmt: skip
    lost = [
        [str(e["form"]), KINDS[str(e["kind"])], str(e["design"]), str(e["n_seeds"]), f"{e['noise']:.0%}",
         ", ".join(f"{status} {n}" for status, n in sorted(e["statuses"].items()))]  # type: ignore[attr-defined]
        for e in done
        if set(e["statuses"]) - {"law", "weak-exponent"}  # type: ignore[call-overload]
    ]  # fmt: skip
    n_intervals = sum(len(e["coverage"]) for e in done)  # type: ignore[arg-type]
    where = ["form", "noise", "design"]
    return "\n".join(
        [
            f"# {title}",
            "",
            provenance(f"{n_studies} studies a condition, seeds 0 to {n_studies - 1}."),
            "Coverage of nominal 95 % intervals in percent, lowest to highest over noise levels and seeds. Of "
            f"{n_intervals} pairs of a condition and a quantity, {len(misses)} lie more than two standard errors "
            f"outside {LOWEST:.0f} to {HIGHEST:.0f} %.",
            "",
            table([*where, *names], rows),
            "## Outside",
            "",
            table([*where, "seeds", "noise level", "quantity", "coverage", "median width"], misses),
            "## Statuses, where not all studies had a law",
            "",
            table([*where, "seeds", "noise level", "studies"], lost),
        ]
    )


def error(each: dict[str, object], name: str) -> float:
    """Standard error of a coverage, percent; of 95 where all or none were covered."""
    share = each["coverage"][name] / 100  # type: ignore[index]
    share = share if 0 < share < 1 else 0.95
    return float(100 * np.sqrt(share * (1 - share) / each["n"][name]))  # type: ignore[index]


def is_as_said(each: dict[str, object], name: str) -> bool:
    coverage = each["coverage"][name]  # type: ignore[index]
    return bool(LOWEST - 2 * error(each, name) <= coverage <= HIGHEST + 2 * error(each, name))


def spread(group: list[dict[str, object]], name: str) -> str:
    found = [each["coverage"][name] for each in group if name in each["coverage"]]  # type: ignore[index, operator]
    return f"{min(found):.0f}–{max(found):.0f}" if found else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--joint", action="store_true", help="laws of two and three axes")
    parser.add_argument("--studies", type=int, default=300)
    arguments = parser.parse_args()
    conditions: Callable[[], Iterator[Condition]] = joint if arguments.joint else one_axis
    name = "law_coverage_joint" if arguments.joint else "law_coverage"
    title = "Coverage of joint laws" if arguments.joint else "Coverage of laws along one axis"
    done: list[dict[str, object]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for each in pool.map(partial(measure, n_studies=arguments.studies), conditions()):
            done.append(each)
            print(json.dumps(each), flush=True)
            (RESULTS / f"{name}.md").write_text(page(title, done, arguments.studies))
    print((RESULTS / f"{name}.md").read_text())


if __name__ == "__main__":
    main()
