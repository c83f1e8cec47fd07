"""The three streaming statistics: their bounds, their invariances, and that they say what they say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub import ChannelBound, JensenShannon, LayerStatistics, NormRatio

STATISTICS = [ChannelBound, JensenShannon, NormRatio]
Statistic = ChannelBound | JensenShannon | NormRatio

features = st.builds(
    lambda seed, tokens, width, z_scale, u_scale: (
        torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * z_scale,
        torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * u_scale,
    ),
    st.integers(0, 10_000),
    st.integers(2, 40),
    st.integers(1, 24),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.sampled_from([0.0, 1e-4, 0.1, 1.0, 30.0]),
)


def of(statistic: type[Statistic], base: Tensor, adapter: Tensor) -> Tensor:
    measured = statistic()
    measured.update(base, adapter)
    return measured.value()


def entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


@settings(deadline=None)
@given(features)
def test_channel_bound_is_never_below_the_exact_information(z_u: tuple[Tensor, Tensor]) -> None:
    """Exact I(X;Y) from the d x d joint mean(p qᵀ) of the same channel."""
    p, q = (x.softmax(-1) for x in z_u)
    joint = p.T @ q / len(p)
    exact = entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.flatten())
    bound = of(ChannelBound, *z_u)
    assert bound >= exact - 1e-12
    assert 0 <= bound <= math.log(min(p.shape)) + 1e-12


@settings(deadline=None)
@given(features)
def test_values_are_their_definitions(z_u: tuple[Tensor, Tensor]) -> None:
    z, u = z_u
    p, q = z.softmax(-1), u.softmax(-1)
    information = [entropy(x.mean(0)) - entropy(x).mean() for x in (p, q)]
    jsd = (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).mean()
    assert float(of(ChannelBound, z, u)) == pytest.approx(float(min(information)), abs=1e-9)
    assert float(of(JensenShannon, z, u)) == pytest.approx(float(jsd), abs=1e-9)
    assert float(of(NormRatio, z, u)) == pytest.approx(float(u.norm() / z.norm()), rel=1e-9)


@settings(deadline=None)
@given(features)
def test_jensen_shannon_lies_between_0_and_ln_2(z_u: tuple[Tensor, Tensor]) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        value = of(JensenShannon, *(x.to(dtype) for x in z_u))
        assert 0.0 <= float(value) <= math.log(2.0)


@pytest.mark.parametrize("statistic", STATISTICS)
@settings(deadline=None, max_examples=40)
@given(z_u=features, cut=st.integers(0, 40), seed=st.integers(0, 1000))
def test_batches_and_token_order_do_not_matter(
    statistic: type[Statistic], z_u: tuple[Tensor, Tensor], cut: int, seed: int
) -> None:
    z, u = (x.float() for x in z_u)
    whole = of(statistic, z, u)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    first, second = statistic(), statistic()
    first.update(z[order][:cut], u[order][:cut])
    second.update(z[order][cut:], u[order][cut:])
    first.merge(second)  # type: ignore[arg-type]
    torch.testing.assert_close(first.value(), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_leading_dimensions_are_independent_measurements(statistic: type[Statistic]) -> None:
    z, u = torch.randn(2, 3, 50, 7), torch.randn(2, 3, 50, 7)
    together = of(statistic, z, u)
    assert together.shape == (2, 3)
    assert together.dtype == torch.float64
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], of(statistic, z[i, j], u[i, j]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [1, 3, 64, 1000])
def test_untrained_adapter_has_exactly_no_information_and_no_norm(dtype: torch.dtype, width: int) -> None:
    z = torch.randn(33, width).to(dtype)
    assert float(of(ChannelBound, z, torch.zeros_like(z))) == 0.0
    assert float(of(NormRatio, z, torch.zeros_like(z))) == 0.0
    assert float(of(NormRatio, torch.zeros_like(z), torch.zeros_like(z))) == 0.0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_narrow_types_are_close_to_float64(dtype: torch.dtype, tolerance: float) -> None:
    z, u = torch.randn(500, 96, dtype=torch.float64), torch.randn(500, 96, dtype=torch.float64)
    for statistic in STATISTICS:
        exact, narrow = of(statistic, z, u), of(statistic, z.to(dtype), u.to(dtype))
        torch.testing.assert_close(narrow, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_extreme_features_stay_finite(statistic: type[Statistic]) -> None:
    z = 1e4 * torch.randn(20, 8)
    for u in (1e4 * torch.randn(20, 8), 1e-30 * torch.randn(20, 8), z):
        assert of(statistic, z, u).isfinite()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_broken_cell_does_not_disturb_its_neighbour(statistic: type[Statistic]) -> None:
    z, u = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    alone = of(statistic, z[1], u[1])
    u[0, 3] = math.nan
    value = of(statistic, z, u)
    assert value[0].isnan()
    assert value[1] == alone


@pytest.mark.parametrize(("statistic", "needed"), [(ChannelBound, 2), (JensenShannon, 1), (NormRatio, 1)])
def test_too_few_tokens_is_an_error(statistic: type[Statistic], needed: int) -> None:
    measured = statistic()
    with pytest.raises(InputError, match="has seen 0 tokens and needs at least"):
        measured.value()
    measured.update(torch.randn(needed - 1, 4), torch.randn(needed - 1, 4))
    with pytest.raises(InputError, match=f"needs at least {needed}"):
        measured.value()
    measured.update(torch.randn(1, 4), torch.randn(1, 4))
    assert measured.value().isfinite()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_shapes_that_do_not_fit_are_errors(statistic: type[Statistic]) -> None:
    measured = statistic()
    with pytest.raises(InputError, match="of the same shape"):
        measured.update(torch.randn(5, 4), torch.randn(5, 3))
    with pytest.raises(InputError, match="of the same shape"):
        measured.update(torch.randn(4), torch.randn(4))
    with pytest.raises(InputError, match="floating-point"):
        measured.update(torch.ones(5, 4, dtype=torch.int64), torch.ones(5, 4, dtype=torch.int64))
    measured.update(torch.randn(5, 4), torch.randn(5, 4))
    with pytest.raises(InputError, match="earlier tokens"):
        measured.update(torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    other = statistic()
    other.update(torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    with pytest.raises(InputError, match="cannot merge"):
        measured.merge(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_merging_with_an_empty_one_changes_nothing(statistic: type[Statistic]) -> None:
    z, u = torch.randn(5, 4), torch.randn(5, 4)
    one, empty = statistic(), statistic()
    one.update(z, u)
    one.merge(empty)  # type: ignore[arg-type]
    empty.merge(one)  # type: ignore[arg-type]
    assert one.value() == empty.value() == of(statistic, z, u)


def test_layer_statistics_give_each_cell_its_own_rows() -> None:
    z, u = torch.randn(2, 30, 6), torch.randn(2, 30, 6)
    statistics = LayerStatistics()
    statistics.update("q", ["a", "b"], z, u)
    statistics.update("v", ["b"], z[1:], 2 * u[1:])
    assert [row["layer"] for row in statistics.rows("a")] == ["q"]
    q, v = statistics.rows("b")
    assert q == {
        "layer": "q",
        "miub_nats": pytest.approx(float(of(ChannelBound, z[1], u[1])), abs=1e-12),
        "jsd_nats": pytest.approx(float(of(JensenShannon, z[1], u[1])), abs=1e-12),
        "norm_ratio": pytest.approx(float(of(NormRatio, z[1], u[1])), abs=1e-12),
    }
    assert v["norm_ratio"] == pytest.approx(2 * float(q["norm_ratio"]))


def test_layer_statistics_refuse_what_would_mix_measurements() -> None:
    statistics = LayerStatistics()
    statistics.update("q", ["cell-a", "cell-b"], torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    with pytest.raises(InputError, match="start a new LayerStatistics"):
        statistics.update("q", ["cell-b"], torch.randn(1, 5, 4), torch.randn(1, 5, 4))
    with pytest.raises(InputError, match="3 cells"):
        statistics.update("q", ["a", "b", "c"], torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    with pytest.raises(InputError, match='Did you mean "cell-a"'):
        statistics.rows("cel-a")
