"""Every metric of trained cells: on test rows, on questions, and inside the adapter on validation rows."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor

from loralaw.miub import LayerStatistics, plain
from loralaw.miub.cosine import Cosine
from loralaw.miub.estimators import column_of
from loralaw.miub.norm_ratio import NormRatio
from loralaw.tasks import EncodedQuestions
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.metrics import choice_metrics, language_metrics
from loralaw.training.scores import Scores

_CHOICE = ("choice_accuracy", "choice_accuracy_sum")
_CONTROLS = (NormRatio.name, Cosine.name, "effective_rank")


def inside_names(estimators: Iterable[str]) -> tuple[str, ...]:
    """Metrics that only a cell with an adapter has."""
    return (*map(column_of, estimators), *_CONTROLS)


class Measurable(Protocol):
    """Trained cells of one base model, as `Pack` and `SoloModel` hold them."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The cells, in the order of `Scores`."""

    def score(self, ids: Tensor, labels: Tensor) -> Scores:
        """Score the same (rows, length) tokens with every cell."""

    def score_choices(self, questions: EncodedQuestions) -> Tensor:
        """The summed loss of each option of the same questions with every cell, (K, options)."""

    def probe(self, ids: Tensor, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        """Add every adapted layer's z and u on the same rows to statistics, cell by cell; nothing without adapters."""

    def effective_ranks(self, key: str) -> dict[str, float]:
        """Of a cell's adapter, by layer; empty without one."""


def measure(trained: Measurable, task: EncodedTask) -> dict[str, dict[str, Any]]:
    """Measure all cells in one pass each over the same rows.

    The test rows are touched here and nowhere else. MIUB is measured on validation rows.

    Returns:
        By key: `metrics`, `absent_metrics` (why one is not there), `layers` (MIUB and controls by layer), and
        `other_tasks` (scores on tasks that were not trained on, by name).
    """
    inside, rows = LayerStatistics(task.estimators), task.probe
    trained.probe(rows.ids, rows.token_mask, rows.document, inside)
    language, choices = _language(trained, task), _choices(trained, task.choices)
    others = {name: _choices(trained, asked) for name, asked in task.other_questions.items()}
    measured = {}
    for key in trained.keys:
        layers, means = inside_of(inside, key, trained.effective_ranks(key))
        of_others = {name: scores[key] for name, scores in others.items()}
        metrics = {**language[key], **choices.get(key, {}), **_mean_of_others(of_others), **plain(means)}
        absent = {name: "it is not a finite number" for name, value in metrics.items() if value is None}
        if not choices:
            absent |= dict.fromkeys(_CHOICE, "no multiple-choice questions were asked")
        if not layers:
            absent |= dict.fromkeys(inside_names(task.estimators), "there is no adapter")
        measured[key] = {"metrics": metrics, "absent_metrics": absent, "layers": layers, "other_tasks": of_others}
    return measured


def inside_of(
    statistics: LayerStatistics, key: str, ranks: dict[str, float]
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """One cell's adapter by layer, and the means over layers."""
    if not ranks:
        return [], {}
    layers = [plain({**row, "effective_rank": ranks[str(row["layer"])]}) for row in statistics.rows(key)]
    return layers, {**statistics.means(key), "effective_rank": sum(ranks.values()) / len(ranks)}


def _language(trained: Measurable, task: EncodedTask) -> dict[str, dict[str, float | None]]:
    scores, rows = trained.score(task.test.ids, task.test.labels), task.test
    return {
        key: language_metrics(scores.loss_sum[k], scores.n_correct[k], scores.n_scored, rows.n_bytes, rows.document)
        for k, key in enumerate(trained.keys)
    }


def _mean_of_others(of_others: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Over tasks that were not trained on; nothing where none is scored."""
    values = [value for scores in of_others.values() if (value := scores["choice_accuracy"]) is not None]
    return {"other_choice_accuracy": sum(values) / len(values)} if values else {}


def _choices(trained: Measurable, asked: EncodedQuestions) -> dict[str, dict[str, float | None]]:
    if not len(asked):
        return {}
    losses, n_bytes = trained.score_choices(asked), asked.rows.n_bytes
    return {
        key: choice_metrics(losses[k], n_bytes, asked.question, asked.labels, asked.document)
        for k, key in enumerate(trained.keys)
    }
