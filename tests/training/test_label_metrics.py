"""Official metrics of labelled rows: values against scikit-learn and scipy, standard errors against theory."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef

from loralaw.tasks import Target
from loralaw.training.label_metrics import f1, label_metrics, matthews_correlation, pearson, spearman
from loralaw.training.metrics import ratio_with_stderr

Array = NDArray[np.float64]
BINARY = Target(("no", "yes"), ("f1", "matthews_correlation", "accuracy"))
VALUES = Target((), ("pearson", "spearman"))


def two_lists(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[Array, Array]]:
    """Two arrays of one length."""
    return st.lists(st.tuples(values, values), min_size=2, max_size=40).map(
        lambda pairs: (np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float))
    )


classes = two_lists(st.sampled_from([0.0, 1.0]))
grades = two_lists(st.integers(-8, 8).map(lambda i: i / 4))  # with ties
decimals = st.integers(-50, 50).map(lambda i: i / 10)  # whose means are not exact


@given(classes)
def test_classes_as_scikit_learn_counts_them(pair: tuple[Array, Array]) -> None:
    guess, truth = pair
    assert f1(guess, truth) == pytest.approx(f1_score(truth, guess, zero_division=0.0), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a single class
        expected = matthews_corrcoef(truth, guess)
    assert matthews_correlation(guess, truth) == pytest.approx(expected, abs=1e-12)


@given(grades)
def test_correlations_as_scipy_computes_them(pair: tuple[Array, Array]) -> None:
    guess, truth = pair
    for ours, theirs in ((pearson, pearsonr), (spearman, spearmanr)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            expected = float(theirs(guess, truth).statistic)
        assert ours(guess, truth) == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-12)


@given(grades, st.floats(0.5, 100), st.floats(-50, 50))
def test_a_correlation_has_no_unit_and_no_order(pair: tuple[Array, Array], scale: float, shift: float) -> None:
    guess, truth = pair
    for metric in (pearson, spearman):
        value = metric(guess, truth)
        assert -1 - 1e-12 <= value <= 1 + 1e-12
        assert metric(truth, guess) == pytest.approx(value, abs=1e-12)
    assert pearson(guess * scale + shift, truth) == pytest.approx(pearson(guess, truth), abs=1e-6)
    assert spearman(guess**3, truth) == pytest.approx(spearman(guess, truth), abs=1e-12)


@given(st.lists(decimals, min_size=2, max_size=40), decimals)
def test_what_is_constant_goes_with_nothing(values: list[float], constant: float) -> None:
    """0, not what rounding makes of a mean that is not exact; also where both are constant."""
    same = np.full(len(values), constant)
    for other in (np.array(values), same, np.full(len(values), 0.3)):
        for metric in (pearson, spearman, matthews_correlation):
            assert metric(same, other) == metric(other, same) == 0.0


@pytest.mark.parametrize("guessed", [0, 1])
def test_one_class_for_all_is_no_finding(guessed: int) -> None:
    labels = np.array([0, 1] * 20)
    outputs = np.where(np.arange(2) == guessed, 3.0, -3.0) * np.ones((40, 1))
    metrics = label_metrics(outputs, labels, BINARY, np.arange(40))
    assert (metrics["matthews_correlation"], metrics["matthews_correlation_stderr"]) == (0.0, 0.0)
    assert metrics["accuracy"] == 0.5
    assert metrics["f1"] == pytest.approx(2 / 3 if guessed else 0.0)
    assert all(value is not None and math.isfinite(value) for value in metrics.values())


def test_one_value_for_all_is_no_finding() -> None:
    labels = np.linspace(0, 5, 30)
    metrics = label_metrics(np.full((30, 1), 2.1), labels, VALUES, np.arange(30))
    for name in ("pearson", "pearson_stderr", "spearman", "spearman_stderr"):
        assert metrics[name] == 0.0, name
    assert metrics["mean_squared_error"] == pytest.approx(np.mean((labels - 2.1) ** 2))


def test_which_metrics_a_target_has() -> None:
    random = np.random.default_rng(0)
    three = Target(("a", "b", "c"), ("accuracy",))
    of_classes = label_metrics(random.normal(size=(9, 3)), np.arange(9) % 3, three, np.arange(9))
    assert set(of_classes) == {"cross_entropy", "cross_entropy_stderr", "accuracy", "accuracy_stderr"}
    of_values = label_metrics(random.normal(size=(9, 1)), random.normal(size=9), VALUES, np.arange(9))
    names = ("mean_squared_error", "pearson", "spearman")
    assert set(of_values) == {*names, *(f"{name}_stderr" for name in names)}


def test_loss_and_accuracy_by_hand() -> None:
    """Softmax of (0, ln 3) is (1/4, 3/4)."""
    outputs = np.array([[0.0, math.log(3)], [0.0, math.log(3)], [0.0, 0.0], [math.log(9), 0.0]])
    labels = np.array([1, 0, 0, 0])
    metrics = label_metrics(outputs, labels, BINARY, np.arange(4))
    losses = [-math.log(3 / 4), -math.log(1 / 4), -math.log(1 / 2), -math.log(9 / 10)]
    assert metrics["cross_entropy"] == pytest.approx(np.mean(losses))
    assert metrics["cross_entropy_stderr"] == pytest.approx(np.std(losses, ddof=1) / 2)
    assert metrics["accuracy"] == 0.75  # of equal logits the first class
    assert metrics["f1"] == pytest.approx(2 / 3)


def test_loss_as_scikit_learn_computes_it() -> None:
    random = np.random.default_rng(1)
    outputs, labels = random.normal(size=(50, 3)) * 4, random.integers(3, size=50)
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    metrics = label_metrics(outputs + 700.0, labels, Target(("a", "b", "c"), ("accuracy",)), np.arange(50))
    assert metrics["cross_entropy"] == pytest.approx(log_loss(labels, shares, labels=[0, 1, 2]))


def test_rows_of_one_document_are_one_observation() -> None:
    random = np.random.default_rng(2)
    outputs, labels, document = random.normal(size=(40, 2)), random.integers(2, size=40), np.arange(40) // 4
    metrics = label_metrics(outputs, labels, BINARY, document)
    hits = outputs.argmax(1) == labels
    assert (metrics["accuracy"], metrics["accuracy_stderr"]) == ratio_with_stderr(hits, np.ones(40), document)
    means = hits.reshape(10, 4).mean(1)  # of equal documents
    assert metrics["accuracy_stderr"] == pytest.approx(np.std(means, ddof=1) / math.sqrt(10))
    alone = label_metrics(outputs, labels, BINARY, np.zeros(40, dtype=np.int64))
    assert alone["accuracy_stderr"] is None


def test_bootstrap_of_correlations_is_as_wide_as_theory_says() -> None:
    """(1 - ρ²)/√n of two normal variables, for Pearson; of Matthews without any connection 1/√n."""
    random, n = np.random.default_rng(3), 2000
    for rho in (0.0, 0.6):
        truth = random.normal(size=n)
        guess = rho * truth + math.sqrt(1 - rho**2) * random.normal(size=n)
        metrics = label_metrics(guess[:, None], truth, VALUES, np.arange(n))
        assert metrics["pearson"] == pytest.approx(rho, abs=4 * (1 - rho**2) / math.sqrt(n))
        assert metrics["pearson_stderr"] == pytest.approx((1 - rho**2) / math.sqrt(n), rel=0.15)
    outputs, labels = random.normal(size=(n, 2)), random.integers(2, size=n)
    metrics = label_metrics(outputs, labels, BINARY, np.arange(n))
    assert metrics["matthews_correlation_stderr"] == pytest.approx(1 / math.sqrt(n), rel=0.15)
    assert metrics["accuracy_stderr"] == pytest.approx(0.5 / math.sqrt(n), rel=0.05)


def test_the_bootstrap_is_the_same_every_time() -> None:
    random = np.random.default_rng(4)
    outputs, labels = random.normal(size=(30, 2)), random.integers(2, size=30)
    first = label_metrics(outputs, labels, BINARY, np.arange(30))
    np.random.seed(123)
    assert label_metrics(outputs, labels, BINARY, np.arange(30)) == first


def test_a_model_whose_numbers_are_none_has_no_metrics() -> None:
    """After a last step that was too large: nothing is raised or warned of, and the loss says it."""
    labels = np.arange(10) % 2
    for bad in (math.nan, math.inf, -math.inf):
        outputs = np.zeros((10, 2))
        outputs[3] = bad
        assert not math.isfinite(label_metrics(outputs, labels, BINARY, np.arange(10))["cross_entropy"] or math.nan)
        values = label_metrics(outputs[:, :1], labels.astype(float), VALUES, np.arange(10))
        assert not math.isfinite(values["mean_squared_error"] or math.nan)
