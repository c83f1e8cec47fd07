"""Whether a study can run: models, data, ranks and sizes against each other, with all problems at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from loralaw.errors import ModelError, Problem, SpecError
from loralaw.models import (
    Loading,
    ModelSource,
    can_be_sharded,
    check_files,
    check_head,
    context_length,
    find_model,
    skeleton,
)
from loralaw.spec import (
    AdapterMethod,
    AlphaLoraMethod,
    Cell,
    MethodSpec,
    Salvage,
    StudySpec,
    TrainingSpec,
    load_study,
    parse_study,
)
from loralaw.study.check_data import Text, load_data
from loralaw.study.trackers import missing_trackers
from loralaw.tasks import TaskData, n_labels_of
from loralaw.training import machine, smallest_targeted_dimension, why_not_on

_FEWEST_ROWS = 2
"""Of the part of a cell's examples that the row scale learns from, and of the part that the adapter does."""


@dataclass(frozen=True)
class CheckedModel:
    """A base model that exists; a skeleton has its shapes and no weights."""

    source: ModelSource
    skeletons: dict[int | None, PreTrainedModel]
    """By the number of labels that a task asks of it; None: as a language model."""

    @property
    def skeleton(self) -> PreTrainedModel:
        """Any of them: they differ in their heads only."""
        return next(iter(self.skeletons.values()))

    @cached_property
    def n_params(self) -> int:
        return sum(p.numel() for p in self.skeleton.parameters())


@dataclass(frozen=True)
class CheckedStudy:
    """A study whose models and data exist and fit it."""

    spec: StudySpec
    models: dict[str, CheckedModel]
    data: dict[Text, TaskData]

    @cached_property
    def hashes(self) -> dict[Text, str]:
        """Of the data, which take a while."""
        return {text: data.hash for text, data in self.data.items()}

    @cached_property
    def data_by_hash(self) -> dict[str, TaskData]:
        return {self.hashes[text]: data for text, data in self.data.items()}

    def n_examples(self, size: int | str, text: Text) -> int:
        """A size of the study for one of its tasks."""
        return size if isinstance(size, int) else len(self.data[text].train)

    def data_of(self, cell: Cell) -> TaskData:
        return self.data_by_hash[cell.data_hash]

    def skeleton_of(self, cell: Cell) -> PreTrainedModel:
        """The base model of a cell, with the head that its task needs."""
        return self.models[cell.base_model].skeletons[cell.n_labels]


def check_file(path: str | Path, dry: bool = False) -> CheckedStudy:
    """Read a study file and look at everything it names; the file's own mistakes and those of models and data together.

    Args:
        path: of the file.
        dry: see `check`.

    Raises:
        SpecError: with every problem that was found.
    """
    return _check_all(lambda: load_study(path), str(path), dry)


def check_settings(settings: dict[str, Any], source: str) -> CheckedStudy:
    """As `check_file`, of settings that are not in a file; relative places in them start from the current folder.

    Raises:
        SpecError: with every problem that was found.
    """
    return _check_all(lambda: parse_study(settings, source), source, False)


def _check_all(read: Callable[[], StudySpec], source: str, dry: bool) -> CheckedStudy:
    try:
        return check(read(), source, dry)
    except SpecError as error:
        if not isinstance(error.rest, Salvage):
            raise
        raise SpecError(source, [*error.problems, *_more_problems(error.rest, dry)]) from None


def _more_problems(rest: Salvage, dry: bool) -> list[Problem]:
    try:
        check(rest.spec, dry=dry)
    except SpecError as error:
        return [Problem(rest.place_in_file(problem.where), problem.message) for problem in error.problems]
    return []


def check(spec: StudySpec, source: str = "the study", dry: bool = False) -> CheckedStudy:
    """Look at everything that a study names, without loading weights.

    Args:
        spec: a validated study.
        source: what the error message calls it, such as its file name.
        dry: nothing is going to be trained, so that base models need no weights, and published ones no hub.

    Raises:
        SpecError: with every problem that was found.
    """
    data, of_data = load_data(spec)
    n_labels = list(dict.fromkeys(map(n_labels_of, spec.all_tasks))) or [None]
    problems = [*missing_trackers(spec.trackers), *_bound_to_one_device(spec, n_labels)]
    models: dict[str, CheckedModel] = {}
    for index, name in enumerate(spec.base_models):
        try:
            models[name] = _look_at(name, spec, n_labels, dry)
        except ModelError as error:
            problems.append(Problem(f"base_models[{index}]", str(error)))
        else:
            problems += _misfits(spec, models[name])
    problems += _same_contents(spec, models)
    problems += of_data
    for index, size in enumerate(spec.sizes):
        for (task, _), each in data.items():
            n_rows = len(each.train)
            asked = n_rows if size == "all" else int(size)
            reasons = [_why_not(spec.training, method, asked, n_rows, task.label) for method in spec.methods]
            if reason := next(filter(None, reasons), None):
                problems.append(Problem(f"sizes[{index}]", f"{asked:,} examples asked, {reason}"))
                break
    if problems:
        raise SpecError(source, list(dict.fromkeys(problems)))  # two methods can share one problem
    return CheckedStudy(spec, models, data)


def _look_at(name: str, spec: StudySpec, n_labels: Sequence[int | None], dry: bool) -> CheckedModel:
    """Raises ModelError."""
    source = find_model(name, Loading(**spec.loading.model_dump()), dry)
    skeletons = {count: skeleton(source, count) for count in n_labels}
    if n_labels[0] is not None:
        check_head(name, skeletons[n_labels[0]])
    if not source.is_dry:
        check_files(
            source,
            skeletons[n_labels[0]].config.get_text_config().vocab_size,
            has_labels=n_labels[0] is not None,
            is_chat=any(template.chat for template in spec.templates),
        )
    return CheckedModel(source, skeletons)


def _same_contents(spec: StudySpec, models: dict[str, CheckedModel]) -> list[Problem]:
    """Base models under several names: their cells are the same cells, and would be trained and counted once."""
    first: dict[str, str] = {}
    text = 'has the same configuration, tokenizer and weights as "{}": name one of them'
    return [
        Problem(f"base_models[{index}]", f'"{name}" {text.format(first[models[name].source.hash])}')
        for index, name in enumerate(spec.base_models)
        if name in models and first.setdefault(models[name].source.hash, name) != name
    ]


def _bound_to_one_device(spec: StudySpec, n_labels: Sequence[int | None]) -> list[Problem]:
    """Methods and heads that cannot train on several devices, where a study asks for that."""
    if spec.training.devices_per_cell == 1:
        return []
    bound = [method.name for method in spec.methods if not method.is_shardable]
    said = [f"{name} trains on one device: leave this out, or the method" for name in bound]
    if n_labels != [None]:
        said.append("models with a classification head train on one device: leave this out")
    return [Problem("training.devices_per_cell", text) for text in said]


def _why_not(training: TrainingSpec, method: MethodSpec, size: int, n_rows: int, task: str) -> str | None:
    """Why a cell cannot learn from so many examples; None: it can."""
    if size > n_rows:
        return f'the task "{task}" has {n_rows:,} training examples'
    if isinstance(method, AlphaLoraMethod) and (reason := _why_no_two_parts(method, size)):
        return reason
    n_read, n_needed = training.n_steps(size) * training.batch_size, method.n_adapter_rows(size)
    if training.epochs is None and n_read < n_needed:
        of_which = f" of {n_needed:,}" if n_needed < size else ""
        return (
            f"but {training.n_steps(size):,} steps of {training.batch_size} read only {n_read:,}{of_which} and the "
            f"others could not matter: give at least {math.ceil(n_needed / training.batch_size):,} steps, or fewer "
            "examples"
        )
    return None


def _why_no_two_parts(method: AlphaLoraMethod, size: int) -> str | None:
    """Why so few examples do not do for both the row scale and the adapter."""
    n_adapter, n_row_scale = method.n_adapter_rows(size), method.n_row_scale_rows(size)
    if method.row_scale_protocol == "joint" or min(n_adapter, n_row_scale) >= _FEWEST_ROWS:
        return None
    return (
        f"of which alpha-lora would give the row scale {n_row_scale} (row_scale_share is {method.row_scale_share:g}) "
        f"and the adapter {n_adapter}: each needs at least {_FEWEST_ROWS}; give more examples, or let α learn from the "
        "adapter's own batches (row_scale_protocol joint)"
    )


def _misfits(spec: StudySpec, model: CheckedModel) -> list[Problem]:
    """Where a study asks more of a base model than its shapes allow."""
    problems: list[Problem] = []
    if getattr(model.skeleton.config.get_text_config(), "final_logit_softcapping", None):
        text = (
            f'"{model.source.name}" caps its logits after the head, which training here cannot do: choose another model'
        )
        problems.append(Problem("base_models", text))
    name, context = model.source.name, context_length(model.skeleton.config)
    if context and spec.training.max_length > context:
        text = f'{spec.training.max_length} tokens asked, "{name}" reads at most {context}'
        problems.append(Problem("training.max_length", text))
    if spec.training.devices_per_cell > 1 and not can_be_sharded(model.skeleton):
        text = (
            f'"{name}" cannot be spread over devices: transformers has no plan for the layers of '
            f"{type(model.skeleton).__name__}, or the model is quantised; leave this out"
        )
        problems.append(Problem("training.devices_per_cell", text))
    for index, method in enumerate(spec.methods):
        if reason := why_not_on(model.skeleton.config, method.name, machine.device()):
            problems.append(Problem(f"methods[{index}]", f'base model "{name}": {reason}'))
        if not isinstance(method, AdapterMethod):
            continue
        try:
            layer, n_in, n_out = smallest_targeted_dimension(model.skeleton, method.target_modules)
        except ModelError as error:
            problems.append(Problem(f"methods[{index}].target_modules", f'base model "{name}": {error}'))
            continue
        largest = min(n_in, n_out)
        problems += [
            Problem(
                f"ranks[{at}]",
                f'{rank} is above {largest}, the smaller side of {layer} ({n_in} to {n_out}) in "{name}": '
                f"use at most {largest}",
            )
            for at, rank in enumerate(spec.ranks)
            if rank > largest
        ]
    return problems
