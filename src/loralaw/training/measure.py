"""Every metric of every cell of a pack: on test rows, on questions, and inside the adapter on validation rows."""

from typing import Any

from loralaw.miub import LayerStatistics, plain
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.metrics import choice_metrics, language_metrics
from loralaw.training.pack import Pack


def measure(pack: Pack, task: EncodedTask) -> dict[str, dict[str, Any]]:
    """Measure all cells of a pack in one pass each over the same rows.

    The test rows are touched here and nowhere else. MIUB is measured on validation rows.

    Returns:
        By key: `metrics`, `absent_metrics` (why one is not there), and `layers` (MIUB and controls by layer).
    """
    inside, rows = LayerStatistics(), task.probe
    pack.probe(rows.ids, rows.token_mask, rows.document, inside)
    language, choices = _language(pack, task), _choices(pack, task)
    measured = {}
    for key in pack.keys:
        ranks = pack.effective_ranks(key)
        layers = [plain({**row, "effective_rank": ranks[str(row["layer"])]}) for row in inside.rows(key)]
        means = {**inside.means(key), "effective_rank": sum(ranks.values()) / len(ranks)}
        metrics = {**language[key], **choices.get(key, {}), **plain(means)}
        absent = {name: "it is not a finite number" for name, value in metrics.items() if value is None}
        if not choices:
            absent["choice_accuracy"] = "the task has no multiple-choice questions"
        measured[key] = {"metrics": metrics, "absent_metrics": absent, "layers": layers}
    return measured


def _language(pack: Pack, task: EncodedTask) -> dict[str, dict[str, float | None]]:
    scores, rows = pack.score(task.test.ids, task.test.labels), task.test
    return {
        key: language_metrics(scores.loss_sum[k], scores.n_correct[k], scores.n_scored, rows.n_bytes, rows.document)
        for k, key in enumerate(pack.keys)
    }


def _choices(pack: Pack, task: EncodedTask) -> dict[str, dict[str, float | None]]:
    if not task.questions:
        return {}
    scores, shape = pack.score(task.choices.ids, task.choices.labels), (len(task.questions), -1)
    labels = [question.label for question in task.questions]
    n_bytes, document = task.choices.n_bytes.reshape(shape).numpy(), task.choices.document.reshape(shape)[:, 0].numpy()
    return {
        key: choice_metrics(scores.loss_sum[k].reshape(shape).numpy(), n_bytes, labels, document)
        for k, key in enumerate(pack.keys)
    }
