"""The batches of one cell: those of its adapter, and those of a row scale that has steps of its own."""

from collections.abc import Sequence

from loralaw.spec import Cell
from loralaw.tasks import EncodedRows
from loralaw.training.batch import Batch
from loralaw.training.cell_settings import row_scale_protocol_of
from loralaw.training.encoded_task import batch_rows
from loralaw.tuners.row_scale_batches import RowScaleBatches


class CellBatches:
    """The rows, their order and the moments of α are those of `AlphaLoraTrainer`, where a training is one long epoch.

    Args:
        rows: the training rows of the cell's seed; the cell's own are the first `n_train_examples`.
        cell: the cell.

    Raises:
        InputError: too few examples to give α some.
    """

    def __init__(self, rows: EncodedRows, cell: Cell) -> None:
        self._rows, self._protocol = rows, row_scale_protocol_of(cell)
        n_examples, batch_size, seed = cell.n_train_examples, cell.training["batch_size"], cell.seed
        self._adapter_rows: Sequence[int] = range(n_examples)
        self._row_scale_rows: Sequence[int] | None = None
        if self._protocol is not None:
            self._adapter_rows, self._row_scale_rows = self._protocol.split(self._adapter_rows, None, seed)
        self._order = batch_rows(len(self._adapter_rows), batch_size, seed)
        if self._protocol is not None and self._row_scale_rows is not None:
            shuffle = self._protocol.name == "held-out"
            self._of_row_scale = RowScaleBatches(len(self._row_scale_rows), batch_size, seed=seed, shuffle=shuffle)

    def next(self) -> Batch:
        """Of the adapter's next step."""
        return self._rows.rows([self._adapter_rows[row] for row in next(self._order)])

    def of_row_scale(self, step: int) -> Batch | None:
        """Of the step of α that follows the adapter's step of this number, counted from 1; None where none does."""
        if self._protocol is None or self._row_scale_rows is None:
            return None
        number = self._protocol.step_number(step, None)
        if number is None:
            return None
        return self._rows.rows([self._row_scale_rows[row] for row in self._of_row_scale.rows(number)])
