"""What a cell will read, compute, hold and write, told from its settings and its base model's shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loralaw.models import is_quantised
from loralaw.spec import Cell
from loralaw.study.check import CheckedStudy
from loralaw.tasks import TaskData, sample
from loralaw.training import has_row_scale, machine, n_params_trainable, n_steps_of, path_of
from loralaw.training.flops import ModelShapes, TrainingShape, evaluate_flops, n_tokens_processed, train_flops
from loralaw.training.quantised import quantised_bytes
from loralaw.training.targets import targeted_layers

_RECORD_BYTES, _BYTES_OF_LAYER, _BYTES_OF_LOG_LINE, _STEPS_OF_LOG_LINE = 4_500, 500, 50, 10
"""Of small files, measured: cell.json, record.json and an adapter's configuration; by adapted layer; events.jsonl."""
_LOGIT_BYTES = 12
"""Alone with the Trainer: the logits of the whole batch, a copy in float32, and their gradient."""


@dataclass(frozen=True)
class CellNeeds:
    """Of one cell."""

    path: str
    """packed, or trainer."""
    n_steps: int
    n_tokens: int
    """That go through the model while it trains, padding included."""
    train_flops: float
    evaluate_flops: float
    memory_bytes: int
    """Beside the weights of the frozen base."""
    least_memory_bytes: int
    """The same, where the rows of a batch go through the model one by one."""
    disk_bytes: int


class Needs:
    """The needs of a study's cells, worked out once for each base model, method, rank and size."""

    def __init__(self, checked: CheckedStudy) -> None:
        self._checked = checked
        self._known: dict[tuple[str, str, str, int | None, int], CellNeeds] = {}
        self._shapes = {name: ModelShapes.of(model.skeleton) for name, model in checked.models.items()}

    def of(self, cell: Cell) -> CellNeeds:
        kind = cell.base_model, cell.data_hash, str(cell.method), cell.rank, cell.n_train_examples
        if kind not in self._known:
            self._known[kind] = self._work_out(cell)
        return self._known[kind]

    def base_bytes(self, base_model: str) -> int:
        """Memory of the frozen base: float32, and in bfloat16 the weights of its products once more; or quantised."""
        model = self._checked.models[base_model]
        if is_quantised(model.skeleton.config):
            return quantised_bytes(model.skeleton)
        return (6 if self._checked.spec.training.dtype == "bfloat16" else 4) * model.n_params

    def process_bytes(self, base_model: str) -> int:
        """Memory of a process that has loaded the frozen base, and no cell yet; of all that share a cell together."""
        return self._checked.spec.training.devices_per_cell * machine.PROCESS_BYTES + self.base_bytes(base_model)

    def pack_bytes(self, pack: Sequence[Cell]) -> int:
        """Estimated peak memory of a process that trains cells of one base model together."""
        return self.process_bytes(pack[0].base_model) + sum(self.of(cell).memory_bytes for cell in pack)

    def _work_out(self, cell: Cell) -> CellNeeds:
        skeleton, shapes = self._checked.skeleton_of(cell), self._shapes[cell.base_model]
        training = TrainingShape(n_steps_of(cell), cell.training["batch_size"], cell.training["max_length"])
        n_trainable = n_params_trainable(skeleton, cell.method, cell.rank)
        n_rows, length = self._n_rows_measured(self._checked.data_of(cell)), training.length
        return CellNeeds(
            path=path_of(cell, skeleton.config),
            n_steps=training.n_steps,
            n_tokens=n_tokens_processed(cell.method, training),
            train_flops=train_flops(shapes, cell.method, n_trainable, training),
            evaluate_flops=evaluate_flops(shapes, cell.method, n_trainable, n_rows, length),
            memory_bytes=self._memory_bytes(cell, n_trainable, training.batch_size * length),
            least_memory_bytes=self._memory_bytes(cell, n_trainable, length),
            disk_bytes=4 * n_trainable + self._small_files(cell, training.n_steps),
        )

    def _memory_bytes(self, cell: Cell, n_trainable: int, n_tokens: int) -> int:
        """With so many tokens in a pass."""
        config, dtype = self._checked.models[cell.base_model].skeleton.config, cell.training["dtype"]
        of_pass = machine.cell_bytes(
            config, n_tokens, cell.rank or 0, n_trainable, dtype, has_row_scale=has_row_scale(cell)
        )
        if path_of(cell, config) == "packed" or cell.n_labels is not None:
            return of_pass
        return of_pass + _LOGIT_BYTES * n_tokens * int(config.get_text_config().vocab_size)

    def _small_files(self, cell: Cell, n_steps: int) -> int:
        """All but the weights, about."""
        log = _BYTES_OF_LOG_LINE * (n_steps // _STEPS_OF_LOG_LINE)
        model = self._checked.models[cell.base_model]
        if cell.method["name"] == "full":
            tokenizer = Path(model.source.location).glob("tokenizer*")  # none where it comes from a hub
            return _RECORD_BYTES + log + sum(file.stat().st_size for file in tokenizer)
        n_layers = len(targeted_layers(model.skeleton, cell.method["target_modules"]))
        return _RECORD_BYTES + log + _BYTES_OF_LAYER * n_layers

    def _n_rows_measured(self, data: TaskData) -> int:
        """Rows of the test split, of the probe, and of the options of the questions."""
        asked = self._checked.spec.evaluation
        questions = [sample(each, asked.choice_questions) for each in (data.choices, *data.other_questions.values())]
        n_options = sum(len(question.options) for each in questions for question in each)
        return min(len(data.test), asked.test_examples) + min(len(data.validation), asked.probe_examples) + n_options
