"""What happens while a cell trains alone: losses and α noted, the caller told, a divergence stopped."""

import math
from functools import partial
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from loralaw.spec import Cell
from loralaw.training.cell_settings import has_row_scale, learning_rates_of, n_steps_of
from loralaw.training.ledger import LOG_EVERY, Ledger, PackEvents
from loralaw.training.row_scale_watch import RowScaleWatch
from loralaw.training.solo_trainer import LossOfStep
from loralaw.tuners import row_scales


class SoloWatch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Tells ledger and caller of every step, notes how α moves, and stops a training whose loss is not finite.

    It is the Trainer's last callback: at the end of a step α has taken its own.
    """

    def __init__(self, model: nn.Module, cell: Cell, loss: LossOfStep, ledger: Ledger, events: PackEvents) -> None:
        self.reason: str | None = None
        """Why the training was stopped."""
        self._key, self._rates = cell.key, learning_rates_of(cell)
        self._loss, self._ledger, self._events = loss, ledger, events
        self._of_step = math.nan
        self._row_scale = RowScaleWatch(n_steps_of(cell), partial(row_scales, model)) if has_row_scale(cell) else None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._row_scale is not None:
            self._row_scale.note(state.global_step)

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Here, as the Trainer's end of a step may be after a step of α, which has another loss."""
        self._of_step = float(self._loss.last)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.global_step
        self._ledger.add_losses({self._key: self._of_step})
        self._events.step(1)
        if not math.isfinite(self._of_step):
            self.reason = f"the training loss was {self._of_step} at step {step}; lower {self._rates}"
            control.should_training_stop = True
            return
        if self._row_scale is not None:
            self._row_scale.note(step)
        if step % LOG_EVERY == 0:
            of_row_scale = {} if self._row_scale is None else self._row_scale.log_line()
            line = {"step": step, "train_loss": self._ledger.train_loss(self._key), **of_row_scale}
            self._events.log(self._key, line)

    def row_scale(self) -> dict[str, Any] | None:
        """α now and on the way, for the record; None where there is none."""
        return None if self._row_scale is None else self._row_scale.record()
