"""The same questions through lm-evaluation-harness: its own task, its own model class, its own scoring.

The extra `lm-eval` brings it. Nothing of it is patched; it reads the questions from a file, and asks no host.
"""

import copy
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from peft import PeftModel
from transformers import PreTrainedModel

from loralaw.errors import InputError
from loralaw.tasks import Choice, encode_questions
from loralaw.training.score_questions import ChoiceScores, check_choices, row_length

_TASK = "loralaw_questions"
_METRICS = {"acc": "choice_accuracy_sum", "acc_bytes": "choice_accuracy", "acc_norm": "choice_accuracy_by_character"}


@dataclass(frozen=True)
class LmEvalScores(ChoiceScores):
    """What lm-evaluation-harness makes of questions, under our names."""

    choice_accuracy_by_character: float
    """Its `acc_norm`."""
    choice_accuracy_by_character_stderr: float | None


class LmEval:
    """Questions and a model, ready for `evaluate`; a context manager, as the questions lie in a temporary folder.

    Args:
        model: a causal language model of transformers, or a `PeftModel` around one, in evaluation mode.
        tokenizer: its own; it is copied.
        choices: the questions.
        max_length: tokens of a row; None: as many as the model has positions for.
        batch_size: rows of a forward pass.

    Raises:
        InputError: lm-evaluation-harness is not installed, there is no question, or its rows would not be ours.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: Any,
        choices: Sequence[Choice],
        max_length: int | None = None,
        batch_size: int = 8,
    ) -> None:
        check_choices(choices)
        length = row_length(model, max_length)
        self._choices = choices
        self._questions = encode_questions(choices, tokenizer, length)
        self._folder = tempfile.TemporaryDirectory(prefix="loralaw-lm-eval-")
        try:
            with _quiet():
                self._lm = _harness().models.huggingface.HFLM(
                    pretrained=model,
                    tokenizer=copy.deepcopy(tokenizer),
                    backend="causal",
                    max_length=length,
                    batch_size=batch_size,
                )
                self._task = _task(_contexts(tokenizer, choices), choices, Path(self._folder.name))
            self._check_rows()
        except BaseException:
            self.close()
            raise

    def evaluate(self) -> LmEvalScores:
        """Let the harness score all questions."""
        with _quiet():
            found = _harness().evaluator.evaluate(self._lm, {_TASK: self._task}, bootstrap_iters=1)
        results = found["results"][_TASK]
        metrics = dict[str, Any]()
        for theirs, ours in _METRICS.items():
            stderr = results[f"{theirs}_stderr,none"]
            metrics[ours] = float(results[f"{theirs},none"])
            metrics[f"{ours}_stderr"] = None if isinstance(stderr, str) or math.isnan(stderr) else float(stderr)
        samples = sorted(found["samples"][_TASK], key=lambda sample: int(sample["doc_id"]))
        sums = tuple(tuple(-float(loss) for loss, _ in sample["filtered_resps"]) for sample in samples)
        return LmEvalScores(**metrics, loss_sums=sums, n_questions_cut=self._questions.n_cut)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()

    def __enter__(self) -> "LmEval":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_rows(self) -> None:
        """The harness' token rows must be ours, but for rows that are cut."""
        rows = self._questions.rows
        n_scored = (rows.labels >= 0).sum(1).tolist()
        each = [(doc["context"], option) for doc in self._task.test_docs() for option in doc["options"]]
        for i, (context, option) in enumerate(each):
            if rows.is_cut[i]:
                continue
            theirs = self._lm._encode_pair(context, option)
            ours = rows.ids[i, : rows.n_tokens[i]].tolist()
            if (len(theirs[1]), [*theirs[0], *theirs[1]]) != (n_scored[i], ours):
                raise InputError(
                    f"the option {option!r} is {len(ours)} tokens with its context, {n_scored[i]} of them scored; in "
                    f"lm-evaluation-harness it would be {len(theirs[0]) + len(theirs[1])} and {len(theirs[1])}: this "
                    "tokenizer's rows cannot be compared; score without it"
                )


def score_by_lm_eval(
    model: PreTrainedModel | PeftModel,
    tokenizer: Any,
    choices: Sequence[Choice],
    max_length: int | None = None,
    batch_size: int = 8,
) -> LmEvalScores:
    """Score multiple-choice questions by lm-evaluation-harness; arguments and errors are those of `LmEval`."""
    with LmEval(model, tokenizer, choices, max_length, batch_size) as harness:
        return harness.evaluate()


def _harness() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            import lm_eval.api.task
            import lm_eval.evaluator
            import lm_eval.models.huggingface
    except ImportError as error:
        raise InputError(
            f"lm-evaluation-harness cannot be imported ({error}): install loralaw[lm-eval], or score without it"
        ) from None
    return lm_eval


def _contexts(tokenizer: Any, choices: Sequence[Choice]) -> list[str]:
    """The contexts such that the harness' rows begin with the start token, as ours do.

    A tokenizer that puts it there by itself needs no help; for another, its text goes before the context, where the
    tokenizer finds it and the harness adds nothing.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None or tokenizer("a")["input_ids"][:1] == [start]:
        return [choice.context for choice in choices]
    text = tokenizer.decode([start])
    return [choice.context if choice.context.startswith(text) else text + choice.context for choice in choices]


def _task(contexts: list[str], choices: Sequence[Choice], folder: Path) -> Any:
    """An ordinary task of the harness, from a Parquet file."""
    file = folder / "questions.parquet"
    columns = {
        "context": contexts,
        "options": [list(choice.options) for choice in choices],
        "label": [choice.label for choice in choices],
    }
    pl.DataFrame(columns).write_parquet(file)
    config = {
        "task": _TASK,
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "options",
        "doc_to_target": "label",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in _METRICS],
    }
    return _harness().api.task.ConfigurableTask(config=config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness' log, progress bars, and warnings of what it uses."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _harness()
            logger.setLevel(logging.ERROR)
            yield
    finally:
        logger.setLevel(level)
