"""What a study is: the settings of the study file, validated strictly and with every default written out."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from loralaw.spec.methods import LoraMethod, MethodSpec
from loralaw.spec.settings import Count, Name, Number, Rank, Seed, Settings

DEFAULT_STEPS = 300
FILE_ENDINGS = (".jsonl", ".csv", ".parquet")


class TaskSpec(Settings):
    """Where the rows come from: a task by name, or files with a text column or prompt and completion."""

    name: Name | None = None
    """A task of `loralaw tasks`, such as `stdlib-code`, `arc_easy` or `mrpc`."""
    data_dir: Path | None = None
    """Of a benchmark by name: the folder with its files, instead of the hub; see `loralaw.tasks.data_files`."""
    file: Path | None = None
    """Training rows (JSONL, CSV or Parquet). Without test_file and validation_file, a tenth each is cut from it."""
    validation_file: Path | None = None
    test_file: Path | None = None
    text_column: Name | None = None
    """The column whose text is learned, `text` if the file has one."""
    prompt_column: Name | None = None
    """The column that is read but not scored, `prompt` if the file has one."""
    completion_column: Name | None = None
    """The column that is learned and scored after the prompt."""

    @property
    def label(self) -> str:
        """What tables and people call the task."""
        return self.name or (self.file.name if self.file else "")

    @model_validator(mode="after")
    def _one_source(self) -> "TaskSpec":
        if (self.name is None) == (self.file is None):
            raise ValueError("give either the name of a task or a file, not both and not neither")
        if self.name is not None:
            given = [k for k, v in self.model_dump().items() if v is not None and k not in ("name", "data_dir")]
            if given:
                raise ValueError(f"{', '.join(given)}: only for a file, not for the task {self.name!r}")
        elif self.data_dir is not None:
            raise ValueError("data_dir is for a task by name: a file says where it is itself")
        if (self.prompt_column is None) != (self.completion_column is None):
            raise ValueError("prompt_column and completion_column go together: give both")
        if self.text_column is not None and self.prompt_column is not None:
            raise ValueError("give text_column, or prompt_column with completion_column, not all three")
        return self


class TemplateSpec(Settings):
    """How a row becomes text: the name of one of the task's own templates, or a name with texts of the user's.

    In a text, `{column}` stands for a column of the row, and `{{` for a brace.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)]
    prompt: Name | None = None
    """What is read and not scored."""
    completion: Name | None = None
    """What is learned; of a multiple-choice task `{choice}` is one of its options, and every option is scored."""
    chat: Annotated[bool, Field(strict=True)] = False
    """Put prompt and completion into the turns of the tokenizer's chat template."""

    @property
    def label(self) -> str:
        """What tables and people call the template."""
        return self.name

    @model_validator(mode="after")
    def _both_texts(self) -> "TemplateSpec":
        if (self.prompt is None) != (self.completion is None):
            raise ValueError(
                "prompt and completion go together: give both, or neither for a template of the task's own"
            )
        return self


class TrainingSpec(Settings):
    """How every cell is trained; the same for all cells of a study."""

    steps: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    """Optimizer steps of a cell; DEFAULT_STEPS if neither steps nor epochs is given."""
    epochs: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    """Passes over the cell's own training examples, instead of steps."""
    batch_size: Count = 4
    """Examples a step."""
    max_length: Annotated[int, Field(ge=8, strict=True)] = 128
    """Tokens an example; longer ones are cut, shorter ones padded."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 10
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[Number, Field(gt=0)] = 1.0
    """The gradient of a cell is clipped to this norm."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the frozen base: auto is bfloat16 where the processor computes in it, else float32."""
    engine: Literal["auto", "trainer"] = "auto"
    """trainer: every cell alone with transformers' Trainer, to compare methods in time and memory; auto: many cells in
    one pass, where method and base model allow it."""
    devices_per_cell: Count = 1
    """Devices that hold a cell's base model together and share its batches; above 1 every cell trains alone."""

    @model_validator(mode="before")
    @classmethod
    def _default_length(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("steps") is None and value.get("epochs") is None:
            return {**value, "steps": DEFAULT_STEPS}
        return value

    @field_validator("devices_per_cell")
    @classmethod
    def _equal_shares(cls, value: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", value)
        if batch_size % value:
            raise ValueError(f"{value} devices cannot share a batch of {batch_size} rows equally: see batch_size")
        return value

    @field_validator("epochs")
    @classmethod
    def _one_length(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("steps") is not None:
            raise ValueError("give steps or epochs, not both")
        return value

    def n_steps(self, n_train_examples: int) -> int:
        """Optimizer steps of a cell with this many training examples."""
        if self.epochs is None:
            return self.steps or DEFAULT_STEPS
        return max(1, round(self.epochs * n_train_examples / self.batch_size))


def _each_once(value: list[Any]) -> list[Any]:
    repeated = [v for i, v in enumerate(value) if v in value[:i]]
    if repeated:
        name = getattr(repeated[0], "name", repeated[0])
        raise ValueError(f"{name} stands twice: list each value once")
    return value


class EvaluationSpec(Settings):
    """How much held-out data each cell is measured on; the rows are the same for all cells."""

    split: Literal["test", "validation"] = "test"
    """validation: score on rows of the validation split, to choose settings by, and leave the test rows untouched."""
    test_examples: Count = 128
    """Rows of the split for cross-entropy, perplexity and accuracy (all of them if there are fewer)."""
    choice_questions: Annotated[int, Field(ge=0, strict=True)] = 64
    """Four-way questions for the choice accuracy, where the task has them."""
    probe_examples: Count = 32
    """Rows of the validation split on which MIUB is measured."""
    other_estimators: list[Literal["jsd_standardised", "gaussian_coordinate"]] = Field(default=[])
    """Measured inside the adapters beside the channel bound and jsd: those that keep O(features) numbers a layer."""
    other_tasks: list[Name] = Field(default=[], validate_default=True)
    """Multiple-choice tasks that a cell was not trained on, scored before and after: what was forgotten. As many
    questions each as `choice_questions`."""

    @field_validator("other_estimators")
    @classmethod
    def _no_repeats(cls, value: list[Any]) -> list[Any]:
        return _each_once(value)

    @field_validator("other_tasks")
    @classmethod
    def _questions_of_others(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if value and info.data.get("split") == "validation":
            raise ValueError("the questions of other tasks are test questions, and split is validation: leave this out")
        if value and info.data.get("choice_questions") == 0:
            raise ValueError("other tasks are scored on choice_questions, which is 0: ask some, or leave this out")
        return value


class LoadingSpec(Settings):
    """How base models are loaded; what is off by default runs code of strangers, or may."""

    quantisation: Literal["4bit", "8bit"] | None = None
    """Store the frozen weights in fewer bits (bitsandbytes)."""
    trust_remote_code: Annotated[bool, Field(strict=True)] = False
    """Run Python code that comes with a model."""
    pickled_weights: Annotated[bool, Field(strict=True)] = False
    """Also load weights that are pickles, if there are no safetensors."""


class StudySpec(Settings):
    """A named set of cells: every combination of base model, task, template, method, rank, size and seed, or a star."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)] = "study"
    base_models: Annotated[list[Name], Field(min_length=1)]
    """Embedded names, local folders and hub names alike."""
    tasks: list[TaskSpec] = Field(default=[])
    """Several tasks, each learned and measured by cells of its own."""
    task: TaskSpec | None = Field(default=None, validate_default=True)
    """The same for one."""
    templates: list[TemplateSpec] = Field(default=[])
    """How rows become text, an axis of the study; the task's own way if none is given."""
    methods: list[Annotated[MethodSpec, Field(discriminator="name")]] = Field(default=[LoraMethod()], min_length=1)
    ranks: list[Rank] = Field(default=[], validate_default=True)
    """Of every method but `full`, which has none; empty only where there is no other method."""
    sizes: Annotated[list[Literal["all"] | Count], Field(min_length=1)]
    """Training examples of a cell; a smaller set is part of the larger one with the same seed. `all`: as many as the
    task has."""
    seeds: list[Seed] = Field(default=[0, 1], min_length=1)
    """A seed draws the training examples, their order, and the adapter's first weights."""
    layout: Literal["grid", "star"] = "grid"
    """All combinations, or one axis at a time around the middle entry of each list."""
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    loading: LoadingSpec = LoadingSpec()
    packing: Annotated[bool, Field(strict=True)] = True
    """Train cells of one base model together; the results are the same without, only slower."""
    trackers: list[Literal["tensorboard", "trackio", "wandb"]] = Field(default=[])
    """Who else is told of every cell that has ended; no part of any cell, so that results do not depend on it."""

    @field_validator("task", mode="before")
    @classmethod
    def _task_by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"file": value} if value.lower().endswith(FILE_ENDINGS) else {"name": value}
        return value

    @field_validator("tasks", mode="before")
    @classmethod
    def _tasks_by_name(cls, value: Any) -> Any:
        return [cls._task_by_name(task) for task in value] if isinstance(value, list) else value

    @field_validator("templates", mode="before")
    @classmethod
    def _templates_by_name(cls, value: Any) -> Any:
        return [{"name": t} if isinstance(t, str) else t for t in value] if isinstance(value, list) else value

    @field_validator("task")
    @classmethod
    def _one_or_several(cls, value: TaskSpec | None, info: ValidationInfo) -> TaskSpec | None:
        if "tasks" in info.data and (value is None) == (not info.data["tasks"]):
            raise ValueError("is required and missing" if value is None else "give task or tasks, not both")
        return value

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_by_name(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        sections = [{"name": m} if isinstance(m, str) else m for m in value]
        return [{"name": "lora", **m} if isinstance(m, dict) else m for m in sections]

    @field_validator("tasks", "templates")
    @classmethod
    def _names_tell_apart(cls, value: list[Any]) -> list[Any]:
        labels = [entry.label for entry in value]
        if repeated := [label for i, label in enumerate(labels) if label in labels[:i]]:
            raise ValueError(f"{repeated[0]} stands twice: its cells could not be told apart")
        return value

    @field_validator("base_models", "methods", "ranks", "sizes", "seeds", "trackers")
    @classmethod
    def _no_repeats(cls, value: list[Any]) -> list[Any]:
        return _each_once(value)

    @field_validator("ranks")
    @classmethod
    def _ranks_where_needed(cls, value: list[int], info: ValidationInfo) -> list[int]:
        methods = info.data.get("methods", [])  # absent where they are wrong themselves: then nothing is known
        if not value and any(method.has_rank for method in methods):
            raise ValueError("is required and missing: every method but full needs a rank, at least one")
        if value and methods and not any(method.has_rank for method in methods):
            raise ValueError("full fine-tuning has no rank: leave it out, or add another method")
        return value

    @field_validator("layout")
    @classmethod
    def _star_around_a_rank(cls, value: str, info: ValidationInfo) -> str:
        methods, ranks = info.data.get("methods"), info.data.get("ranks")
        if value == "star" and methods and ranks and len(ranks) > 1 and not methods[len(methods) // 2].has_rank:
            raise ValueError(
                f"a star varies the rank with its middle method, and the middle one here is full, which has none: "
                f"put another method in the middle of methods ({len(methods)} are given), or use grid"
            )
        return value

    @property
    def all_tasks(self) -> list[TaskSpec]:
        """The tasks of the study, one or several."""
        return self.tasks if self.task is None else [self.task]

    def settings(self) -> dict[str, Any]:
        """The study with every default written out, as plain JSON types."""
        return self.model_dump(mode="json")
