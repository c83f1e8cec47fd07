"""The methods of a study: ways to change a base model, each a section of the study file with its own settings."""

import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from loralaw.spec.settings import Count, Name, Number, Settings

RowScaleProtocol = Literal["held-out", "joint", "authors"]
TargetWord = Literal["all-linear", "attention", "mlp", "peft-default"]
TARGET_WORDS: tuple[str, ...] = get_args(TargetWord)


class AnyMethod(Settings):
    """What all methods have."""

    name: str
    learning_rate: Annotated[Number, Field(gt=0)] | None = None
    """Peak learning rate of this method; `training.learning_rate` if None."""

    has_rank: ClassVar[bool] = True
    """Whether the ranks of the study are an axis of it."""

    @property
    def is_packed(self) -> bool:
        """Whether many cells can train in one pass, or each only alone with the Trainer."""
        return False

    @property
    def is_shardable(self) -> bool:
        """Whether a cell can train on several devices."""
        return False

    def n_adapter_rows(self, n_train_examples: int) -> int:
        """How many of a cell's training examples its weights learn from."""
        return n_train_examples


class AdapterMethod(AnyMethod):
    """A low-rank adapter beside frozen weights; its rank is an axis of the study."""

    lora_alpha: Annotated[Number, Field(gt=0)] = 16.0
    """PEFT's constant in the scale of the adapter (dimensionless)."""
    lora_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Probability that an input of the adapter is dropped while training."""
    target_modules: TargetWord | Annotated[list[Name], Field(min_length=1)] = "all-linear"
    """Which linear layers get an adapter: all of them but the head, those of attention, those of the feed-forward
    blocks, PEFT's own choice for the kind of model, or those with these names."""


class LoraMethod(AdapterMethod):
    """`lora` scales the adapter by lora_alpha / rank, `rslora` by lora_alpha / sqrt(rank), `dora` adds magnitudes."""

    name: Literal["lora", "rslora", "dora"] = "lora"

    @property
    def is_packed(self) -> bool:
        return self.name != "dora"

    @property
    def is_shardable(self) -> bool:
        return self.name != "dora"  # PEFT takes the norms of the frozen weights where they must lie whole


class AlphaLoraMethod(AdapterMethod):
    """α-LoRA: LoRA with a trained factor α for every row of the frozen weights, here called row scale."""

    name: Literal["alpha-lora"] = "alpha-lora"
    row_scale_protocol: RowScaleProtocol = "held-out"
    """Which rows α learns from: training rows held out for it, the adapter's own batches, or as the authors do."""
    row_scale_learning_rate: Annotated[Number, Field(gt=0)] = 5e-3
    """Learning rate of α, constant."""
    row_scale_every: Count = 10
    """T: α takes a step after the first of every T steps of the adapter."""
    row_scale_share: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Share of the cell's training examples that α learns from."""

    @property
    def is_packed(self) -> bool:
        return True

    @model_validator(mode="after")
    def _joint_has_no_rows_of_its_own(self) -> "AlphaLoraMethod":
        if self.row_scale_protocol == "joint":
            for name in ("row_scale_every", "row_scale_share"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} is {getattr(self, name)}, but with row_scale_protocol: joint α learns in every step "
                        f"of the adapter from the same batches: leave {name} out, or choose held-out"
                    )
        return self

    def n_row_scale_rows(self, n_train_examples: int) -> int:
        """How many of a cell's training examples α learns from."""
        if self.row_scale_protocol == "joint":
            return n_train_examples
        return round(self.row_scale_share * n_train_examples)

    def n_row_scale_steps(self, n_steps: int) -> int:
        """How many steps α takes while the adapter takes so many."""
        return n_steps if self.row_scale_protocol == "joint" else math.ceil(n_steps / self.row_scale_every)

    def n_adapter_rows(self, n_train_examples: int) -> int:
        if self.row_scale_protocol != "held-out":
            return n_train_examples
        return n_train_examples - self.n_row_scale_rows(n_train_examples)


class FullMethod(AnyMethod):
    """Full fine-tuning: all weights of the base model are trained. It has no rank and no adapter."""

    name: Literal["full"] = "full"
    has_rank: ClassVar[bool] = False

    @property
    def is_shardable(self) -> bool:
        return True


MethodSpec = LoraMethod | AlphaLoraMethod | FullMethod
"""Any method of a study."""

_BY_NAME: dict[str, type[MethodSpec]] = {
    **dict.fromkeys(("lora", "rslora", "dora"), LoraMethod),
    "alpha-lora": AlphaLoraMethod,
    "full": FullMethod,
}
METHOD_NAMES = tuple(_BY_NAME)


def method_class(name: str) -> type[MethodSpec]:
    """The settings that a method of this name has."""
    return _BY_NAME[name]


def method_spec(method: dict[str, Any]) -> MethodSpec:
    """A method as a cell stores it, with its defaults."""
    return _BY_NAME[method["name"]].model_validate(method)
