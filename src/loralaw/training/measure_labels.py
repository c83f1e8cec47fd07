"""Every metric of a trained cell with a classification head: on test rows, and inside it on validation rows."""

from typing import Any

from loralaw.miub import LayerStatistics, plain
from loralaw.training.classifier import Classifier
from loralaw.training.encoded_labels import EncodedLabels
from loralaw.training.label_metrics import label_metrics
from loralaw.training.measure import inside_names, inside_of


def measure_labels(trained: Classifier, task: EncodedLabels) -> dict[str, Any]:
    """Measure one cell. The test rows are touched here and nowhere else; MIUB is measured on validation rows.

    Returns:
        `metrics`, `absent_metrics` (why one is not there), and `layers` (MIUB and controls by layer).
    """
    key, inside = trained.keys[0], LayerStatistics(task.estimators)
    trained.probe(task.probe, inside)
    layers, means = inside_of(inside, key, trained.effective_ranks(key))
    outputs = trained.outputs(task.test).double().numpy()
    metrics = {**label_metrics(outputs, task.test.labels.numpy(), task.target, task.test.document.numpy())}
    metrics = {**plain(metrics), **plain(means)}
    absent = {name: "it is not a finite number" for name, value in metrics.items() if value is None}
    if not layers:
        absent |= dict.fromkeys(inside_names(task.estimators), "there is no adapter")
    return {"metrics": metrics, "absent_metrics": absent, "layers": layers}
