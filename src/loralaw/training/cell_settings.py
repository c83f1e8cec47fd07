"""What a cell's settings mean for training: which way it is trained, for how many steps, with which adapter."""

from typing import Literal

import torch
from peft import LoraConfig
from transformers import PretrainedConfig, PreTrainedModel

from loralaw.miub import DEFAULT_ESTIMATORS
from loralaw.models import is_quantised
from loralaw.spec import AlphaLoraMethod, Cell, TrainingSpec, method_spec
from loralaw.training.targets import resolve_target_modules
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.row_scale_protocol import RowScaleProtocol

TrainingPath = Literal["packed", "trainer"]
"""How a cell is trained: with others in one pass (`train_pack`), or alone with the Trainer (`train_solo`)."""


def path_of(cell: Cell, config: PretrainedConfig) -> TrainingPath:
    """How a cell is trained on a base model with this configuration.

    A pack multiplies with the frozen weights itself, so they may be neither quantised nor spread over devices; it knows
    no heads but that of a language model; and not every method can share them.
    """
    alone = cell.training["engine"] == "trainer" or n_devices_of(cell) > 1 or cell.n_labels is not None
    if alone or is_quantised(config) or not method_spec(cell.method).is_packed:
        return "trainer"
    return "packed"


def n_devices_of(cell: Cell) -> int:
    """Devices that train the cell together."""
    return int(cell.training["devices_per_cell"])


def dtype_of(cell: Cell) -> torch.dtype:
    """Arithmetic of the base's products."""
    return torch.bfloat16 if cell.training["dtype"] == "bfloat16" else torch.float32


def has_row_scale(cell: Cell) -> bool:
    """Whether α is trained."""
    return bool(cell.method["name"] == "alpha-lora")


def row_scale_protocol_of(cell: Cell) -> RowScaleProtocol | None:
    """How α learns; None where there is none."""
    if not has_row_scale(cell):
        return None
    name, rate = cell.method["row_scale_protocol"], cell.method["row_scale_learning_rate"]
    if name == "joint":  # which has no steps and no rows of α's own
        return RowScaleProtocol(name, rate)
    return RowScaleProtocol(name, rate, cell.method["row_scale_every"], cell.method["row_scale_share"])


def row_scale_counts_of(cell: Cell) -> dict[str, int]:
    """Steps and training examples of α, for the record; empty where there is none.

    α may have no rows of its own: then it learns from the adapter's, in its steps.
    """
    if not has_row_scale(cell):
        return {}
    method = AlphaLoraMethod.model_validate(cell.method)
    return {
        "n_row_scale_steps": method.n_row_scale_steps(n_steps_of(cell)),
        "n_row_scale_examples": method.n_row_scale_rows(cell.n_train_examples),
    }


def n_steps_of(cell: Cell) -> int:
    """Optimizer steps of a cell."""
    return TrainingSpec.model_validate(cell.training).n_steps(cell.n_train_examples)


def warmup_steps_of(cell: Cell) -> int:
    """Steps of linear warm-up, part of `n_steps_of`."""
    return min(int(cell.training["warmup_steps"]), n_steps_of(cell))


def learning_rate_of(cell: Cell) -> float:
    """The schedule's peak: the method's own where it has one."""
    return float(cell.method.get("learning_rate", cell.training["learning_rate"]))


def learning_rates_of(cell: Cell) -> str:
    """The names of the settings that may be too high where a loss is not finite."""
    return "learning_rate or row_scale_learning_rate" if has_row_scale(cell) else "learning_rate"


def estimators_of(cell: Cell) -> tuple[str, ...]:
    """What is measured inside the adapter, and stands in the record by layer."""
    return (*DEFAULT_ESTIMATORS, *cell.evaluation["other_estimators"])


def peft_config_of(cell: Cell, model: PreTrainedModel) -> LoraConfig:
    """What PEFT is to build; not for full fine-tuning, which has no adapter.

    Args:
        cell: of a method with an adapter.
        model: the base model, whose layers the words of `target_modules` mean.

    Raises:
        ModelError: a word means nothing in this model.
    """
    method = cell.method
    kind = AlphaLoraConfig if has_row_scale(cell) else LoraConfig
    return kind(
        task_type="CAUSAL_LM" if cell.n_labels is None else "SEQ_CLS",
        r=cell.rank,
        lora_alpha=method["lora_alpha"],
        lora_dropout=method["lora_dropout"],
        target_modules=resolve_target_modules(model, method["target_modules"]),
        use_rslora=method["name"] == "rslora",
        use_dora=method["name"] == "dora",
    )
