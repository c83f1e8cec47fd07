"""Eight tasks of GLUE (Wang et al. 2019), with the metrics that GLUE reports."""

from loralaw.tasks.labelled_task import LabelledTask

_ENTAILS = ("entailment", "not_entailment")

MNLI = LabelledTask(
    id="mnli",
    texts=("premise", "hypothesis"),
    classes=("entailment", "neutral", "contradiction"),
    metrics=("accuracy",),
    validation="validation_matched",
)
QNLI = LabelledTask(id="qnli", texts=("question", "sentence"), classes=_ENTAILS, metrics=("accuracy",))
RTE = LabelledTask(id="rte", texts=("sentence1", "sentence2"), classes=_ENTAILS, metrics=("accuracy",))
MRPC = LabelledTask(
    id="mrpc",
    texts=("sentence1", "sentence2"),
    classes=("not_equivalent", "equivalent"),
    metrics=("accuracy", "f1"),
    has_test_labels=True,
)
QQP = LabelledTask(
    id="qqp",
    texts=("question1", "question2"),
    classes=("not_duplicate", "duplicate"),
    metrics=("accuracy", "f1"),
)
SST2 = LabelledTask(id="sst2", texts=("sentence",), classes=("negative", "positive"), metrics=("accuracy",))
COLA = LabelledTask(
    id="cola",
    texts=("sentence",),
    classes=("unacceptable", "acceptable"),
    metrics=("matthews_correlation", "accuracy"),
)
STSB = LabelledTask(
    id="stsb", texts=("sentence1", "sentence2"), classes=(), metrics=("pearson", "spearman"), values=(0.0, 5.0)
)

GLUE = (MNLI, QNLI, MRPC, RTE, SST2, QQP, COLA, STSB)
