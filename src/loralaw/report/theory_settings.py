"""The settings of the theory in words: what stands under the title of a page."""

from loralaw.report.wording import counted
from loralaw.theory import BinaryTarget, FineTuning, KnownSource, Regression, RidgeSource


def fine_tuning_said(setting: FineTuning) -> str:
    """Of a setting of single numbers with uncorrelated features, all but β.

    >>> from loralaw.theory import ridge_source
    >>> print(fine_tuning_said(ridge_source(n_source=5000, n_target=40, dim=1000, mu_norm=0.8, mu_orth_norm=0.8,
    ...                                     beta=0.5, gamma_source=5, gamma_target=0.1)))
    ridge source: 5,000 rows, penalty 5 · target: 40 rows, penalty 0.1 · 1,000 features · ‖μ‖ 0.8, ‖μ⊥‖ 0.8
    """
    source, target = setting.source, setting.target
    assert isinstance(target, BinaryTarget)
    if isinstance(source, RidgeSource):
        first = f"ridge source: {counted(int(source.n_source), 'row')}, penalty {source.gamma_source:g}"
    else:
        assert isinstance(source, KnownSource)
        first = f"known source: ‖w̃‖² {source.norm_sq:g}, ⟨w̃, μ_β⟩ {source.dot_target_mean:g}"
    parts = (
        first,
        f"target: {counted(int(target.n_target), 'row')}, penalty {target.gamma_target:g}",
        counted(int(target.dim), "feature"),
        f"‖μ‖ {target.mu_norm:g}, ‖μ⊥‖ {target.mu_orth_norm:g}",
    )
    return " · ".join(parts)


def regression_said(setting: Regression) -> str:
    """Of a setting of single numbers, all but the target's map."""
    parts = (
        f"{counted(int(setting.n_target), 'row')}, penalty {setting.gamma:g}",
        counted(int(setting.dim), "input"),
        f"{counted(int(setting.n_outputs), 'output')}, noise {setting.noise_std:g}",
        f"‖W_s‖² {setting.source_norm_sq:g}",
    )
    return " · ".join(parts)
