"""`loralaw theory`: what the row scale α does to a linear model that is fine-tuned, predicted and simulated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loralaw.cli.theory_options import (
    Dim,
    From,
    NTarget,
    Open,
    Out,
    Simulate,
    To,
    asked_by_options,
    ends_of,
    place_of,
    show,
)
from loralaw.errors import InputError

if TYPE_CHECKING:
    from loralaw.theory import BinaryTarget, FineTuning

app = typer.Typer(no_args_is_help=True, help="What the row scale α does to a linear model that is fine-tuned.")

N_SOURCE, GAMMA_SOURCE, BETAS = 5000, 5.0, (0.2, 0.5, 0.9)
"""Where they are not given; a known source refuses the first two."""


@app.command()
def curve(
    n_source: Annotated[int | None, typer.Option(metavar="N", help=f"N, rows of the source; {N_SOURCE:,}.")] = None,
    n_target: NTarget = 40,
    dim: Dim = 1000,
    mu_norm: Annotated[float, typer.Option(metavar="X", help="‖μ‖, half the distance of the source's classes.")] = 0.8,
    mu_orth_norm: Annotated[float, typer.Option(metavar="X", help="‖μ⊥‖, of what is new in the target.")] = 0.8,
    beta: Annotated[
        list[float] | None,
        typer.Option(
            metavar="X",
            help="β from -1 to 1: the target's mean is βμ + √(1-β²)μ⊥. May be repeated; 0.2, 0.5 and 0.9.",
        ),
    ] = None,
    gamma_source: Annotated[
        float | None, typer.Option(metavar="X", help=f"γ̃, penalty of the source; {GAMMA_SOURCE:g}.")
    ] = None,
    gamma_target: Annotated[float, typer.Option(metavar="X", help="γ, penalty of the fine-tuning.")] = 0.1,
    source_norm_sq: Annotated[
        float | None,
        typer.Option(metavar="X", help="‖w̃‖² of a known source, in place of a ridge fit of --n-source rows."),
    ] = None,
    dot_target_mean: Annotated[
        float | None, typer.Option(metavar="X", help="⟨w̃, the target's mean⟩ of that known source.")
    ] = None,
    from_: From = -10.0,
    to: To = 10.0,
    simulate: Simulate = None,
    out: Out = None,
    open_: Open = False,
) -> None:
    """Accuracy of a two-class model against α: the best α, the worst, and what there is to gain.

    What is not given is as in the published figure.
    """
    from loralaw.cli.theory_figures import simulated
    from loralaw.report.accuracy_sheet import AccuracyCurve, accuracy_sheet
    from loralaw.report.theory_settings import fine_tuning_said
    from loralaw.report.wording import plain
    from loralaw.theory import BinaryTarget

    ends, place = ends_of(from_, to), place_of(out, "curve")
    curves = []
    with asked_by_options():
        for seed, value in enumerate(beta or BETAS):
            target = BinaryTarget(n_target, dim, mu_norm, mu_orth_norm, value, gamma_target)
            if source_norm_sq is None and dot_target_mean is None:
                setting = _ridge(target, n_source, gamma_source)
            else:
                setting = _known(target, source_norm_sq, dot_target_mean, (n_source, gamma_source))
            label = f"β = {plain(value)}"
            seen = None if simulate is None else simulated(setting, label, ends, simulate, seed)
            curves.append(AccuracyCurve(label, setting, seen))
        title, subtitle = "Accuracy against the row scale", fine_tuning_said(curves[0].setting)
        sheet = accuracy_sheet(curves, ends, title=title, subtitle=subtitle)
    show(sheet, place, open_)


def _ridge(target: "BinaryTarget", n_source: int | None, gamma_source: float | None) -> "FineTuning":
    from loralaw.theory import FineTuning, RidgeSource

    n = N_SOURCE if n_source is None else n_source
    gamma = GAMMA_SOURCE if gamma_source is None else gamma_source
    return FineTuning(RidgeSource(n, target.dim, target.mu_norm, gamma), target)


def _known(
    target: "BinaryTarget", norm_sq: float | None, dot: float | None, of_ridge: tuple[int | None, float | None]
) -> "FineTuning":
    from loralaw.theory import FineTuning, KnownSource

    if norm_sq is None or dot is None:
        raise InputError("a known source takes both --source-norm-sq and --dot-target-mean: give both, or neither")
    if of_ridge != (None, None):
        raise InputError(
            "--n-source and --gamma-source are of a ridge source, --source-norm-sq and --dot-target-mean of a known "
            "one: give the options of one of them"
        )
    return FineTuning(KnownSource(norm_sq, dot), target)


@app.command()
def regression(
    n_target: NTarget = 20,
    dim: Dim = 40,
    n_outputs: Annotated[int, typer.Option(metavar="N", help="d, outputs.")] = 10,
    noise_std: Annotated[float, typer.Option(metavar="X", help="σ, of the noise of each output.")] = 0.5,
    gamma: Annotated[float, typer.Option(metavar="X", help="γ, penalty of the fine-tuning.")] = 0.01,
    source_norm_sq: Annotated[
        float, typer.Option(metavar="X", help="‖W_s‖², the squares of all entries of the source's map added up.")
    ] = 400.0,
    target_norm_sq: Annotated[float, typer.Option(metavar="X", help="‖W_t‖², of the target's map.")] = 500.0,
    source_target_inner: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="⟨W_t, W_s⟩, products of their entries added up. May be repeated; 200."),
    ] = None,
    from_: From = -4.0,
    to: To = 4.0,
    simulate: Simulate = None,
    out: Out = None,
    open_: Open = False,
) -> None:
    """Risk of a linear map of several outputs against α: the best α, and what there is to gain.

    What is not given is as in the published figure, at its β of 0.5.
    """
    from loralaw.cli.theory_figures import simulated
    from loralaw.report.risk_sheet import RiskCurve, risk_sheet
    from loralaw.report.theory_settings import regression_said
    from loralaw.report.wording import plain
    from loralaw.theory import regression as regression_of

    ends, place = ends_of(from_, to), place_of(out, "regression")
    curves = []
    with asked_by_options():
        for seed, inner in enumerate(source_target_inner or [200.0]):
            setting = regression_of(
                n_target=n_target,
                dim=dim,
                n_outputs=n_outputs,
                noise_std=noise_std,
                gamma=gamma,
                source_norm_sq=source_norm_sq,
                target_norm_sq=target_norm_sq,
                source_target_inner=inner,
            )
            label = f"⟨W_t, W_s⟩ = {plain(inner)}"
            seen = None if simulate is None else simulated(setting, label, ends, simulate, seed)
            curves.append(RiskCurve(label, setting, seen))
        title, subtitle = "Risk of a regression against the row scale", regression_said(curves[0].setting)
        sheet = risk_sheet(curves, ends, title=title, subtitle=subtitle)
    show(sheet, place, open_)


@app.command()
def figure(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A figure; all are listed if not given.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the rows are, for a figure on real data.", show_default=False),
    ] = None,
    simulate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Draws to simulate or measure with; the figure's own number."),
    ] = None,
    out: Out = None,
    open_: Open = False,
) -> None:
    """A published figure, drawn anew with its settings; without a name, the list of them."""
    from loralaw.cli.theory_figures import FIGURES, make_figure

    if name is None:
        if data is not None or simulate is not None or out is not None or open_:
            raise InputError(f"which figure? Give a name: {', '.join(FIGURES)}")
        for known, about in FIGURES.items():
            typer.echo(f"{known:12}{about.about}")
        return
    place = place_of(out, name)
    show(make_figure(name, simulate, data), place, open_)
