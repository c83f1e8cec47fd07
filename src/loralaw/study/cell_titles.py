"""What cells are called, and in which arithmetic they train: for studies and single trainings."""

from collections.abc import Sequence

from loralaw.spec import Cell, StudySpec
from loralaw.training import machine


def title_of(cell: Cell) -> str:
    """What a person calls a cell."""
    rank = "" if cell.rank is None else f", rank {cell.rank}"
    return f"{_name(cell)}, {cell.method['name']}{rank}, {cell.n_train_examples:,} examples, seed {cell.seed}"


def pack_title(cells: Sequence[Cell]) -> str:
    """What a person calls cells that train together."""
    return title_of(cells[0]) if len(cells) == 1 else f"{len(cells)} cells of {_name(cells[0])}"


def _name(cell: Cell) -> str:
    """The base model's name on one line: a folder's may hold what ends one, or what a terminal obeys."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell.base_model)


def with_dtype(spec: StudySpec, stored: str | None = None) -> StudySpec:
    """`dtype: auto` made definite: what was stored before, or what suits this machine."""
    if spec.training.dtype != "auto":
        return spec
    training = spec.training.model_copy(update={"dtype": stored or machine.native_dtype()})
    return spec.model_copy(update={"training": training})
