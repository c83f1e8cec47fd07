"""How long cells will take: from the cells that have ended, or roughly from this machine's speed."""

from functools import cache
from typing import NamedTuple

import polars as pl

from loralaw.laws import Basis, CostModel, CostSetting
from loralaw.report.wording import significant
from loralaw.study.cell_needs import CellNeeds
from loralaw.study.check import CheckedStudy
from loralaw.training import machine
from loralaw.training.product_speed import product_flops_per_second

UTILISATION = {"packed": 0.5, "trainer": 0.2}
"""Share of the speed of a float32 product of the model's shape that training and measuring come to, in bfloat16 too:
what makes its products faster leaves all else as it was. Rounded from micro-0.4m and micro-1.3m on a busy CPU."""
ROUGH_FACTOR = 3
"""Either way, of a time that is told without any record."""


class CellTime(NamedTuple):
    """Of one cell: its share of its pack."""

    train_seconds: float
    evaluate_seconds: float
    relative_error: float | None
    """Typical; None where it is not known."""
    basis: str
    """What it rests on, in words."""

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.evaluate_seconds


def of_this_machine(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of a study's table whose times were taken on a device like this one."""
    return table.filter(pl.col("device") == machine.device_name())


class CellTimes:
    """Times of a study's cells.

    Args:
        checked: the study.
        costs: learned from its cells that have ended on a machine like this one.
        n_threads: of a worker's products.
        flops_per_second: that a worker reaches on the machine that is asked about; None: this machine.
    """

    def __init__(
        self, checked: CheckedStudy, costs: CostModel, n_threads: int, flops_per_second: float | None = None
    ) -> None:
        self._checked, self._costs, self._n_threads = checked, costs, n_threads
        self._given_speed = flops_per_second
        self._speed = cache(self._measured_speed)

    def of(self, base_model: str, needs: CellNeeds, n_cells_together: int) -> CellTime:
        if (given := self._given_speed) is not None:
            basis = f"{significant(given)} FLOP/s, as you say that a worker reaches"
            return CellTime(needs.train_flops / given, needs.evaluate_flops / given, None, basis)
        told = self._costs.predict(
            CostSetting(
                base_model, needs.path, needs.n_steps, needs.train_flops, needs.evaluate_flops, n_cells_together
            )
        )
        if told.basis is not Basis.NOTHING:
            return CellTime(told.train_seconds, told.evaluate_seconds, told.relative_error, told.message)
        speed, share = self._speed(base_model), UTILISATION[needs.path]
        basis = (
            f"rough, within a factor of {ROUGH_FACTOR}, as no such cell has ended here: {share:.0%} of the "
            f"{speed / 1e9:,.0f} GFLOP/s of a float32 product of the model's shape, measured just now"
        )
        of_worker = share * speed
        return CellTime(needs.train_flops / of_worker, needs.evaluate_flops / of_worker, None, basis)

    def _measured_speed(self, base_model: str) -> float:
        text = self._checked.models[base_model].skeleton.config.get_text_config()
        inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        return product_flops_per_second(text.hidden_size, inner, self._n_threads)
