"""What each estimator measures: its definition written out, its bounds, and known truths."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_features import Pair, features, some_features
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub import ESTIMATORS, effective_rank, estimate
from loralaw.miub.estimators import statistics_named


def entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def exact_information(p: Tensor, q: Tensor) -> float:
    """I(X;Y) = H(X) + H(Y) - H(X,Y) of the joint distribution mean(p qᵀ)."""
    joint = p.T @ q / len(p)
    return float(entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.flatten()))


@given(some_features)
def test_channel_bound_is_never_below_the_exact_information(z_u: Pair) -> None:
    bound, exact = estimate(*z_u, "channel").value_nats, estimate(*z_u, "channel_exact").value_nats
    assert bound >= exact - 1e-12
    assert 0 <= bound <= math.log(min(z_u[0].shape)) + 1e-12


@given(some_features)
def test_channel_values_are_their_definitions(z_u: Pair) -> None:
    p, q = (x.softmax(-1) for x in z_u)
    information = [float(entropy(x.mean(0)) - entropy(x).mean()) for x in (p, q)]
    jsd = float((entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).mean())
    assert estimate(*z_u).value_nats == pytest.approx(min(information), abs=1e-9)
    assert estimate(*z_u, "channel_exact").value_nats == pytest.approx(exact_information(p, q), abs=1e-9)
    assert estimate(*z_u, "jsd").value_nats == pytest.approx(jsd, abs=1e-9)


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(2, 9))
def test_deterministic_channels_have_the_entropy_of_their_outcomes(seed: int, n_tokens: int, d: int) -> None:
    """p and q one-hot and equal: X settles Y, so I(X;Y) = H(X), and the bound is tight."""
    outcome = torch.randint(0, d, (n_tokens,), generator=torch.Generator().manual_seed(seed))
    z = torch.nn.functional.one_hot(outcome, d).double() * 1000.0
    truth = float(entropy(torch.bincount(outcome, minlength=d) / n_tokens))
    for name in ("channel", "channel_exact"):
        assert estimate(z, z, name).value_nats == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("name", ["jsd", "jsd_standardised"])
@given(z_u=some_features)
def test_jensen_shannon_lies_between_0_and_ln_2(name: str, z_u: Pair) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert 0.0 <= estimate(*(x.to(dtype) for x in z_u), name).value_nats <= math.log(2.0)


@given(some_features, st.floats(0.01, 100.0), st.floats(-3.0, 3.0))
def test_standardised_divergence_is_that_of_standardised_features(z_u: Pair, scale: float, shift: float) -> None:
    z, u = z_u
    by_hand = [
        (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True) if x.shape[1] > 1 and x.any() else 0 * x
        for x in (z, u)
    ]
    value = estimate(z, u, "jsd_standardised").value_nats
    assert value == pytest.approx(estimate(*by_hand, "jsd").value_nats, abs=1e-9)
    assert estimate(z, scale * u + shift, "jsd_standardised").value_nats == pytest.approx(value, abs=1e-9)


@given(some_features, st.floats(0.01, 100.0))
def test_gaussian_coordinate_is_its_definition_and_has_no_scale(z_u: Pair, scale: float) -> None:
    z, u = z_u
    value = estimate(z, u, "gaussian_coordinate").value_nats
    if u.any() and len(z) > 3:
        squared = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] ** 2 for pair in zip(z.T, u.T, strict=True)])
        assert value == pytest.approx(float((squared / (1 - squared)).mean()), rel=1e-6)
    assert estimate(z, scale * u, "gaussian_coordinate").value_nats == pytest.approx(value, rel=1e-6)


def test_gaussian_coordinate_of_copies_is_large_and_finite() -> None:
    z, _ = features(0, 50, 4)
    assert 1e5 < estimate(z, z, "gaussian_coordinate").value_nats <= 1e6 * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_gaussian_estimators_of_features_that_never_vary(scale: float) -> None:
    """What rounding leaves of a constant's variance is no dependence."""
    for seed in range(10):
        constant = scale * torch.randn(1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        constant = constant.expand(100, 8)
        for name in ("gaussian_noise", "gaussian_coordinate"):
            assert estimate(constant, constant.flip(1), name).value_nats == 0.0


def test_gaussian_noise_by_canonical_correlations() -> None:
    """-½ Σ log(1 - c²), with c² the eigenvalues of Σ_u'⁻¹ Σ_uz Σ_z⁻¹ Σ_zu, Σ_u' = Σ_u + σ²1."""
    z, u = features(3, 400, 5)
    u = u @ torch.diag(torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0], dtype=torch.float64))
    joint = torch.cov(torch.cat([z, u], 1).T, correction=0)
    cov_z, cov_u, cov_zu = joint[:5, :5], joint[5:, 5:], joint[:5, 5:]
    noisy = cov_u + 0.01 * cov_u.trace() / 5 * torch.eye(5, dtype=torch.float64)
    squares = torch.linalg.eigvals(torch.linalg.inv(noisy) @ cov_zu.T @ torch.linalg.inv(cov_z) @ cov_zu).real
    truth = float(-torch.log1p(-squares).sum() / 2)
    assert estimate(z, u, "gaussian_noise").value_nats == pytest.approx(truth, rel=1e-6)
    assert estimate(z @ torch.randn(5, 5, dtype=torch.float64), 7 * u, "gaussian_noise").value_nats == pytest.approx(
        truth, rel=1e-4
    )


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize(("d", "n_tokens"), [(1, 100), (1, 10_000), (16, 100), (16, 10_000)])
def test_gaussian_pairs_are_not_below_their_truth(rho: float, d: int, n_tokens: int) -> None:
    """The long tables are in benchmarks/results/known_truth.md."""
    mean, stderr = mean_over_gaussian_pairs("gaussian_noise", rho, d, n_tokens)
    assert mean >= -0.5 * d * math.log(1 - rho**2 / 1.01) - 3 * stderr


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("n_tokens", [20, 50, 1000])
def test_gaussian_coordinate_has_its_known_mean(rho: float, n_tokens: int) -> None:
    """ρ²/(1-ρ²) and the bias of n tokens, exactly: (n-2) r²/(1-r²) is noncentral F(1, n-2), given z.

    To first order the bias is (1 + 2ρ²)/(n (1-ρ²)). With few tokens it stands out: without it the mean would be wrong
    by 7 to 45 standard errors at n = 20 and 50.
    """
    known = (1 + (n_tokens - 2) * rho**2) / ((n_tokens - 4) * (1 - rho**2))
    mean, stderr = mean_over_gaussian_pairs("gaussian_coordinate", rho, 128, n_tokens)
    assert abs(mean - known) < 4 * stderr


def mean_over_gaussian_pairs(name: str, rho: float, d: int, n_tokens: int) -> tuple[float, float]:
    """An estimator's mean over 20 repetitions, and its standard error."""
    values = []
    for seed in range(20):
        z, own = torch.randn(2, n_tokens, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values.append(estimate(z, rho * z + math.sqrt(1 - rho**2) * own, name).value_nats)
    return float(torch.tensor(values).mean()), float(torch.tensor(values).std()) / math.sqrt(20)


def test_estimate_refuses_what_it_cannot_use() -> None:
    z = torch.randn(40, 4)
    with pytest.raises(InputError, match=r'"jsdd" is not an estimator.*Did you mean "jsd"'):
        estimate(z, z, "jsdd")
    with pytest.raises(InputError, match=r"give \(tokens, features\)"):
        estimate(z[None], z[None])
    with pytest.raises(InputError, match="gaussian_noise has seen 5 tokens and needs at least 6"):
        estimate(z[:5], z[:5], "gaussian_noise")  # 5 points in 4 dimensions look dependent whatever they are
    for name in ESTIMATORS:
        with pytest.raises(InputError, match="needs at least"):
            estimate(z[:1], z[:1], name) if name not in ("jsd", "jsd_standardised") else estimate(z[:0], z[:0], name)
        broken = z.clone()
        broken[3, 1] = math.nan
        with pytest.raises(InputError, match="nan"):
            estimate(broken, z, name)


@given(st.integers(1, 6), st.integers(6, 20), st.integers(6, 20), st.integers(0, 1000))
def test_effective_rank_is_that_of_the_product(rank: int, n_in: int, n_out: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(n_in, rank, generator=random, dtype=torch.float64)
    b = torch.randn(rank, n_out, generator=random, dtype=torch.float64)
    share = torch.linalg.svdvals(a @ b)[:rank]
    share = share / share.sum()
    value = float(effective_rank(a, b))
    assert value == pytest.approx(float(entropy(share).exp()), rel=1e-6)
    assert 1.0 - 1e-9 <= value <= rank + 1e-9
    assert float(effective_rank(1e-6 * a, b)) == pytest.approx(value, rel=1e-6)


def test_effective_rank_of_nothing_and_of_batches() -> None:
    assert float(effective_rank(torch.randn(5, 2), torch.zeros(2, 7))) == 0.0
    broken = torch.randn(3, 5, 2)
    broken[1, 0, 0] = math.nan
    assert effective_rank(broken, torch.randn(3, 2, 7)).isnan().tolist() == [False, True, False]
    a, b = torch.randn(3, 5, 2), torch.randn(3, 2, 7)
    torch.testing.assert_close(effective_rank(a, b)[1], effective_rank(a[1], b[1]))
    with pytest.raises(InputError, match=r"give \(..., in, r\) and \(..., r, out\)"):
        effective_rank(torch.randn(5, 2), torch.randn(3, 7))


@pytest.mark.parametrize("name", [["channel"], None, 3, ""])
def test_what_is_no_name_of_an_estimator(name: Any) -> None:
    z = torch.randn(40, 4)
    with pytest.raises(InputError, match="is not an estimator; there are channel"):
        estimate(z, z, name)
    with pytest.raises(InputError, match="is not an estimator; there are channel"):
        statistics_named(["jsd", name])


@pytest.mark.parametrize("names", [None, 3, (), "jsd", iter(["jsd"])])
def test_what_is_no_list_of_estimators(names: Any) -> None:
    with pytest.raises(InputError, match="give a list of names out of channel"):
        statistics_named(names)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_features_with_gradients(name: str) -> None:
    z, u = features(0, 60, 4)
    assert estimate(z.requires_grad_(), u.requires_grad_(), name) == estimate(z.detach(), u.detach(), name)


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z.to(torch.float8_e4m3fn),
        lambda z: z.to(torch.int64),
        lambda z: z.to(torch.complex64),
        lambda z: z.to("meta"),
        lambda z: z.to_sparse(),
    ],
)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_features_that_are_no_dense_floats(name: str, change: Callable[[Tensor], Tensor]) -> None:
    z = change(torch.randn(40, 4))
    with pytest.raises(InputError, match=r"base is torch.*give a dense torch tensor of float16"):
        estimate(z, z, name)
