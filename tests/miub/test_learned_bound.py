"""The learned contrastive log-ratio bound: its closed form, its invariances, and the truth that it comes near to."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub import Estimate, estimate
from loralaw.miub.learned_bound import LearnedBound, _clustered, _Conditional, _contrast, _standardised


def gaussian_pairs(n_tokens: int, d: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, noise = torch.randn(2, n_tokens, d, generator=generator, dtype=torch.float64)
    return z, rho * z + math.sqrt(1 - rho**2) * noise


def of(base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> Estimate:
    bound = LearnedBound()
    bound.update(base, adapter, sequence)
    return bound.result()


def test_contrast_is_the_mean_over_all_pairs() -> None:
    """Against the definition with torch's own Gaussian density and a loop over the n² pairs."""
    generator = torch.Generator().manual_seed(1)
    u, mean = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    precision = torch.rand(9, 3, generator=generator, dtype=torch.float64) + 0.1
    log_q = torch.stack(
        [torch.distributions.Normal(mean[i], precision[i].rsqrt()).log_prob(u).sum(-1) for i in range(9)]
    )
    others = (log_q.sum() - log_q.trace()) / (9 * 8)
    assert _contrast(u, mean, precision)[0] == pytest.approx(float(log_q.trace() / 9 - others))


def test_influence_is_the_effect_of_a_little_more_weight_on_a_token() -> None:
    """By autograd: the slope of the value over all n² pairs in the weight of each token."""
    generator = torch.Generator().manual_seed(2)
    u, mean = torch.randn(2, 7, 2, generator=generator, dtype=torch.float64)
    precision = torch.rand(7, 2, generator=generator, dtype=torch.float64) + 0.5
    log_q = torch.stack(
        [torch.distributions.Normal(mean[i], precision[i].rsqrt()).log_prob(u).sum(-1) for i in range(7)]
    )

    def value(weight: Tensor) -> Tensor:
        weight = weight / weight.sum()
        return weight @ log_q.diagonal() - weight @ log_q @ weight

    slope = torch.autograd.functional.jacobian(value, torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(_contrast(u, mean, precision)[1] / 7, slope)


@pytest.mark.parametrize(("d", "rho"), [(1, 0.6), (8, 0.3), (8, 0.9)])
def test_comes_near_the_truth_of_gaussian_pairs(d: int, rho: float) -> None:
    """With the true conditional the bound is d ρ²/(1-ρ²); 4,000 tokens are enough to learn it roughly."""
    result = of(*gaussian_pairs(4000, d, rho))
    assert result.value_nats == pytest.approx(d * rho**2 / (1 - rho**2), rel=0.15)


def test_independent_features_have_about_none() -> None:
    result = of(*gaussian_pairs(4000, 4, 0.0))
    assert abs(result.value_nats) < 0.02


def test_learns_a_dependence_that_no_correlation_shows() -> None:
    """u = |z| + noise is uncorrelated with z; a bound on the information must be clearly above 0."""
    z, noise = gaussian_pairs(4000, 1, 0.0)
    assert of(z, z.abs() + 0.3 * noise).value_nats > 0.5


@pytest.mark.parametrize("sequences", [None, 40, 3])
def test_order_split_and_merge_do_not_change_the_value(sequences: int | None) -> None:
    z, u = (x.float() for x in gaussian_pairs(400, 3, 0.8))
    sequence = None if sequences is None else torch.arange(400) % sequences
    whole = of(z, u, sequence)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    first, second = LearnedBound(), LearnedBound()
    for part in order[250:].split(60):
        second.update(z[part], u[part], None if sequence is None else sequence[part])
    first.update(z[order[:250]], u[order[:250]], None if sequence is None else sequence[order[:250]])
    first.merge(second)
    assert first.n_tokens == 400
    assert first.result() == whole  # bit by bit
    assert first.result() == whole  # a result does not use the estimator up


def test_scale_and_shift_of_a_coordinate_are_taken_out() -> None:
    """Powers of two exactly; shifts up to rounding; a constant coordinate says nothing."""
    z, _ = gaussian_pairs(600, 3, 0.0)
    plain = _standardised(z)
    torch.testing.assert_close(plain.double().square().mean(0), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0)
    scales = torch.tensor([2.0**60, 1.0, 2.0**-60], dtype=torch.float64)
    assert torch.equal(_standardised(z * scales), plain)
    torch.testing.assert_close(_standardised(z + 7.0), plain, rtol=0, atol=1e-5)
    assert _standardised(torch.full((9, 2), 0.1)).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_untrained_adapter_has_exactly_none(dtype: torch.dtype) -> None:
    z = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = of(z, torch.zeros_like(z))
    assert (result.value_nats, result.stderr_nats) == (0.0, 0.0)
    assert (result.estimator, result.n_tokens) == ("vclub", 64)


@pytest.mark.parametrize(
    ("base_scale", "adapter_scale"), [(1e300, 1e300), (1e-300, 1e-300), (0.0, 1.0), (1.0, 1e-30), (1e4, 1e4)]
)
def test_always_finite(base_scale: float, adapter_scale: float) -> None:
    z, u = gaussian_pairs(64, 3, 0.99)
    u[7] *= 1e6  # one token far out
    result = of(z * base_scale, u * min(adapter_scale, 1e290))
    assert math.isfinite(result.value_nats)
    assert result.stderr_nats is not None
    assert math.isfinite(result.stderr_nats)


def test_an_adapter_that_copies_the_base_stays_finite() -> None:
    z, _ = gaussian_pairs(500, 2, 0.0)
    assert 1.0 < of(z, z).value_nats < math.inf


def test_standard_error_is_the_spread_over_samples_for_a_given_conditional() -> None:
    """Gaussian pairs scored by their true conditional, so that nothing is learned; 300 samples know it to 4 %."""
    rho, values, stated = 0.6, [], []
    for seed in range(300):
        z, u = gaussian_pairs(200, 2, rho, seed)
        value, influence = _contrast(u, rho * z, torch.full_like(z, 1 / (1 - rho**2)))
        values.append(value)
        stated.append(_clustered(influence, None))
    assert sum(values) / 300 == pytest.approx(2 * rho**2 / (1 - rho**2), rel=0.03)
    assert sum(stated) / 300 == pytest.approx(statistics.stdev(values), rel=0.15)


def test_standard_error_is_clustered_by_sequence() -> None:
    """Every token 4 times: as one sequence of 4 the standard error is twice that of 4 independent tokens."""
    z, u = (x.repeat_interleave(4, 0) for x in gaussian_pairs(300, 2, 0.6))
    sequence = torch.arange(300).repeat_interleave(4)
    clustered, single = of(z, u, sequence).stderr_nats, of(z, u).stderr_nats
    assert clustered is not None
    assert single is not None
    assert clustered == pytest.approx(2 * single, rel=0.35)
    assert of(z, u, torch.zeros_like(sequence)).stderr_nats is None


def test_before_learning_the_conditional_is_the_marginal() -> None:
    mean, precision = _Conditional(3).moments(torch.randn(5, 3))
    assert mean.eq(0).all()
    assert precision.eq(1).all()


def test_leaves_the_random_state_alone_and_works_without_gradients() -> None:
    z, u = gaussian_pairs(200, 2, 0.5)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    plain = of(z, u)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.inference_mode():
        bound = LearnedBound()
        bound.update(z.clone(), u.clone())
        assert bound.result() == plain
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert of(z, u) == plain
    assert of(z.requires_grad_(), u) == plain


def test_global_defaults_of_torch_do_not_matter() -> None:
    z, u = gaussian_pairs(200, 2, 0.5)
    plain = of(z, u)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert of(z, u) == plain
    finally:
        torch.set_default_dtype(torch.float32)


def test_is_an_estimator_by_name() -> None:
    z, u = gaussian_pairs(64, 2, 0.5)
    assert estimate(z, u, "vclub") == of(z, u)


def test_keeps_its_own_copy() -> None:
    z, u = gaussian_pairs(64, 2, 0.5)
    plain, bound = of(z, u), LearnedBound()
    bound.update(z, u)
    u.zero_()
    assert bound.result() == plain


def test_bad_input_is_an_error() -> None:
    bound = LearnedBound()
    with pytest.raises(InputError, match="seen 0 tokens and needs at least 32"):
        bound.result()
    bound.update(torch.randn(31, 4), torch.randn(31, 4))
    with pytest.raises(InputError, match="seen 31 tokens"):
        bound.result()
    with pytest.raises(InputError, match="of the same shape"):
        bound.update(torch.randn(5, 4), torch.randn(5, 3))
    with pytest.raises(InputError, match="float16"):
        bound.update(torch.ones(5, 4, dtype=torch.int64), torch.randn(5, 4))
    with pytest.raises(InputError, match=r"\(tokens, features\)"):
        bound.update(torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    with pytest.raises(InputError, match="earlier tokens had 4 features, these have 3"):
        bound.update(torch.randn(5, 3), torch.randn(5, 3))
    with pytest.raises(InputError, match=r"int64 tensor of shape \(5,\)"):
        bound.update(torch.randn(5, 4), torch.randn(5, 4), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="always or never"):
        bound.update(torch.randn(5, 4), torch.randn(5, 4), torch.zeros(5, dtype=torch.int64))
    assert bound.n_tokens == 31
    bound.update(torch.randn(1, 4), torch.full((1, 4), math.nan))
    with pytest.raises(InputError, match="not finite"):
        bound.result()
