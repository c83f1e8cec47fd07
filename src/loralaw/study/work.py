"""What a cell is called, how much work it is, and in which arithmetic it trains: for studies and single trainings."""

from loralaw.spec import Cell, StudySpec
from loralaw.study.check import CheckedStudy
from loralaw.training import machine


def title_of(cell: Cell) -> str:
    """What a person calls a cell."""
    rank = "" if cell.rank is None else f", rank {cell.rank}"
    return f"{cell.base_model}, {cell.method['name']}{rank}, {cell.n_train_examples:,} examples, seed {cell.seed}"


def step_work(cell: Cell, checked: CheckedStudy) -> float:
    """Parameters times tokens of one step of a cell, which is nearly proportional to time."""
    n_params = checked.models[cell.base_model].n_params
    return float(n_params * cell.training["batch_size"] * cell.training["max_length"])


def with_dtype(spec: StudySpec, stored: str | None = None) -> StudySpec:
    """`dtype: auto` made definite: what was stored before, or what suits this machine."""
    if spec.training.dtype != "auto":
        return spec
    training = spec.training.model_copy(update={"dtype": stored or machine.native_dtype()})
    return spec.model_copy(update={"training": training})
