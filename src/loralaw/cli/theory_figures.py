"""The published figures of the theory: what each simulates or measures, and the sheet it makes of that."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loralaw.cli.theory_options import check_size
from loralaw.errors import InputError

if TYPE_CHECKING:
    from loralaw.report.accuracy_sheet import AccuracyCurve
    from loralaw.report.score_sheet import ScoreDraw
    from loralaw.report.theory_plot import Seen
    from loralaw.report.theory_sheet import Sheet
    from loralaw.theory import FineTuning, Regression
    from loralaw.theory.arguments import Floats

N_SEEN = 11
"""Row scales that are simulated, evenly from one end of the plot to the other."""

N_MEASURED = 17
"""Row scales that are measured on real rows, which a draw costs nearly nothing."""


@dataclass(frozen=True)
class PublishedFigure:
    """A figure by name; `make` takes the number of draws and the folder of the data."""

    about: str
    make: "Callable[[int, Path | None], Sheet]"
    n_draws: int = 0
    """Of the simulation where none are asked for; 0 where nothing is drawn."""
    fewest_draws: int = 2
    """From two on there is a standard error."""
    needs_data: bool = False


def simulated(
    setting: "FineTuning | Regression", label: str, ends: tuple[float, float], n_draws: int, seed: int
) -> "Seen":
    """Accuracies (risks of a regression) at some row scales; what is drawn is told on standard error.

    Raises:
        InputError: a simulation that no ordinary memory holds.
    """
    import numpy as np

    from loralaw.report.theory_plot import Seen
    from loralaw.report.wording import counted
    from loralaw.theory import FineTuning, simulate

    check_size(setting)
    typer.echo(f"simulating {label}: {counted(n_draws, 'draw')} of all training rows", err=True)
    x = [float(value) for value in np.linspace(*ends, N_SEEN)]
    if isinstance(setting, FineTuning):
        drawn = simulate(setting, x, n_replicates=n_draws, seed=seed)
        return Seen(x, list(drawn.estimate.accuracy), list(drawn.standard_error.accuracy), n_draws)
    risks = simulate(setting, x, n_replicates=n_draws, seed=seed)
    return Seen(x, list(risks.estimate.risk), list(risks.standard_error.risk), n_draws)


def _accuracy(n_draws: int, data: Path | None) -> "Sheet":
    from loralaw.report.accuracy_sheet import AccuracyCurve, accuracy_sheet
    from loralaw.report.theory_settings import fine_tuning_said
    from loralaw.theory.published import ACCURACY_BETAS, ACCURACY_ENDS, accuracy_setting

    settings = {f"β = {beta:g}": accuracy_setting(beta) for beta in ACCURACY_BETAS}
    return accuracy_sheet(
        [
            AccuracyCurve(label, setting, simulated(setting, label, ACCURACY_ENDS, n_draws, seed))
            for seed, (label, setting) in enumerate(settings.items())
        ],
        ACCURACY_ENDS,
        title="Accuracy against the row scale",
        subtitle=fine_tuning_said(next(iter(settings.values()))),
    )


def _scores(n_draws: int, data: Path | None) -> "Sheet":
    from loralaw.report.score_sheet import score_sheet
    from loralaw.report.theory_settings import fine_tuning_said
    from loralaw.theory.published import SCORE_BETAS, score_setting

    settings = {f"β = {beta:g}": score_setting(beta) for beta in SCORE_BETAS}
    return score_sheet(
        [draw for label, setting in settings.items() for draw in _draws_of(setting, label, n_draws)],
        title="Scores of both classes",
        subtitle=fine_tuning_said(next(iter(settings.values()))),
    )


def _draws_of(setting: "FineTuning", label: str, n_draws: int) -> "list[ScoreDraw]":
    """Scores at each row scale, all draws together."""
    import numpy as np

    from loralaw.report.score_sheet import ScoreDraw
    from loralaw.report.wording import counted
    from loralaw.theory import draw_scores
    from loralaw.theory.published import SCORE_ROW_SCALES

    typer.echo(f"simulating {label}: {counted(n_draws, 'draw')} of all training rows, and fresh rows", err=True)
    drawn = [draw_scores(setting, SCORE_ROW_SCALES, seed=seed) for seed in range(n_draws)]
    negative = np.concatenate([scores.negative for scores in drawn], axis=1)
    positive = np.concatenate([scores.positive for scores in drawn], axis=1)
    said = setting.predict(SCORE_ROW_SCALES)
    std = np.sqrt(said.second_moment - said.mean**2)
    return [
        ScoreDraw(f"{label}, α = {alpha:g}", *scores)
        for alpha, *scores in zip(SCORE_ROW_SCALES, negative, positive, said.mean, std, said.accuracy, strict=True)
    ]


def _amazon(n_draws: int, data: Path | None) -> "Sheet":
    from loralaw.cli.domains import read_domains, unusable
    from loralaw.report.accuracy_sheet import accuracy_sheet
    from loralaw.report.wording import listed
    from loralaw.theory import published

    assert data is not None
    domains = read_domains(data, sorted({name for pair in published.AMAZON_PAIRS for name in pair}))
    for _, name in published.AMAZON_PAIRS:
        if (n_rows := len(domains[name][0])) <= published.AMAZON_N_TARGET:
            raise unusable(name, f"it has {n_rows} rows, of which {published.AMAZON_N_TARGET} train and the rest test")
    curves = [_pair(domains, a, b, n_draws) for a, b in published.AMAZON_PAIRS]
    return accuracy_sheet(
        curves,
        published.AMAZON_ENDS,
        title="Accuracy against the row scale on Amazon reviews",
        subtitle=f"ridge source: all rows of a domain, penalty {published.AMAZON_GAMMA_SOURCE:g} · target: "
        f"{published.AMAZON_N_TARGET} rows, penalty {published.AMAZON_GAMMA_TARGET:g}, tested on all others",
        seen="measured",
        notes=[
            f"Measured: mean over {n_draws:,} draws of the target's rows; the best of the α that were tried: "
            f"{listed(map(_best_measured, curves))}. The lines, and all that is said of them, are the theory for "
            "Gaussian classes with the mean and covariance of all rows of the target; real rows are not Gaussian."
        ],
    )


def _pair(domains: "dict[str, tuple[Floats, Floats]]", source: str, target: str, n_draws: int) -> "AccuracyCurve":
    import numpy as np

    from loralaw.cli.domains import unusable
    from loralaw.report.accuracy_sheet import AccuracyCurve
    from loralaw.report.theory_plot import Seen
    from loralaw.report.wording import counted
    from loralaw.theory import published
    from loralaw.theory.on_rows import fit_ridge, gaussian_setting, measure_on_rows

    label = f"{source} → {target}"
    typer.echo(f"measuring {label}: {counted(n_draws, 'draw')} of {published.AMAZON_N_TARGET} rows", err=True)
    weights = fit_ridge(*domains[source], published.AMAZON_GAMMA_SOURCE)
    x = [float(value) for value in np.linspace(*published.AMAZON_ENDS, N_MEASURED)]
    n, gamma = published.AMAZON_N_TARGET, published.AMAZON_GAMMA_TARGET
    try:
        setting = gaussian_setting(weights, *domains[target], n_target=n, gamma_target=gamma)
    except InputError as error:
        raise unusable(target, error) from None
    seen = measure_on_rows(weights, *domains[target], x, n_target=n, gamma_target=gamma, n_draws=n_draws)
    return AccuracyCurve(label, setting, Seen(x, list(seen.accuracy), list(seen.standard_error), n_draws))


def _best_measured(curve: "AccuracyCurve") -> str:
    """`dvd → books 77.5 % at α = 4`."""
    from loralaw.report.wording import plain, significant

    assert curve.seen is not None
    most, place = max(zip(curve.seen.y, curve.seen.x, strict=True))
    return f"{curve.label} {significant(100 * most)} % at α = {plain(place)}"


def _regression(n_draws: int, data: Path | None) -> "Sheet":
    from loralaw.report.risk_sheet import RiskCurve, risk_sheet
    from loralaw.report.theory_settings import regression_said
    from loralaw.report.wording import plain
    from loralaw.theory.published import REGRESSION_BETAS, REGRESSION_ENDS, regression_setting

    settings = {f"β = {plain(beta)}": regression_setting(beta) for beta in REGRESSION_BETAS}
    return risk_sheet(
        [
            RiskCurve(label, setting, simulated(setting, label, REGRESSION_ENDS, n_draws, seed))
            for seed, (label, setting) in enumerate(settings.items())
        ],
        REGRESSION_ENDS,
        title="Risk of a regression against the row scale",
        subtitle=f"{regression_said(next(iter(settings.values())))} · W_t = βW_s + an orthogonal part of the same norm",
    )


def _best_alpha(n_draws: int, data: Path | None) -> "Sheet":
    from loralaw.report.best_row_scale_sheet import best_row_scale_sheet
    from loralaw.theory.published import best_row_scales

    return best_row_scale_sheet(
        best_row_scales(),
        title="The best row scale",
        subtitle="5,000 rows of the source, 1,000 features, ‖μ‖ = ‖μ⊥‖ = 0.8, penalty 5 of the source; where it is not "
        "varied β = 0.5, 40 rows of the target, penalty 0.1 of the fine-tuning",
    )


FIGURES = {
    "accuracy": PublishedFigure("accuracy against α, best and worst marked, for three similarities β", _accuracy, 20),
    "scores": PublishedFigure("scores of both classes and the Gaussians predicted", _scores, 1, fewest_draws=1),
    "amazon": PublishedFigure("accuracy against α on three pairs of Amazon domains", _amazon, 40, needs_data=True),
    "regression": PublishedFigure("risk of a regression against α, predicted and simulated", _regression, 400),
    "best-alpha": PublishedFigure("best α against β, n and γ, for a ridge and a known source", _best_alpha),
}


def make_figure(name: str, n_draws: int | None, data: Path | None) -> "Sheet":
    """The sheet of a published figure.

    Raises:
        InputError: no such figure, or an option that it has no use for or cannot do without.
    """
    from loralaw.errors import did_you_mean

    figure = FIGURES.get(name)
    if figure is None:
        raise InputError(f'"{name}" is not a figure; there are {", ".join(FIGURES)}.{did_you_mean(name, FIGURES)}')
    if figure.needs_data and data is None:
        from loralaw.cli.domains import ACCEPTED

        raise InputError(f"the figure {name} needs data, so nothing was drawn: with --data DIR, {ACCEPTED}")
    if data is not None and not figure.needs_data:
        raise InputError(f"the figure {name} reads no data: leave out --data")
    if n_draws is not None and not figure.n_draws:
        raise InputError(f"the figure {name} simulates nothing: leave out --simulate")
    if n_draws is not None and n_draws < figure.fewest_draws:
        raise InputError(
            f"--simulate={n_draws}: give at least {figure.fewest_draws} for the figure {name}, so that there is a "
            "standard error"
        )
    return figure.make(n_draws or figure.n_draws, data)
