"""What happens while a cell trains alone: losses and α noted, the caller told, a divergence stopped."""

import math
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from loralaw.spec import Cell
from loralaw.training.cell_settings import has_row_scale, n_steps_of
from loralaw.training.ledger import LOG_EVERY, Ledger, PackEvents
from loralaw.training.solo_trainer import LossOfStep
from loralaw.tuners import row_scale_drift, row_scale_summary, row_scales
from loralaw.tuners.row_scale_summary import rms_change

DRIFT_POINTS = 50
"""Of a training at most so many are noted of how α moves, besides its beginning and its end."""


class SoloWatch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Tells ledger and caller of every step, notes how α moves, and stops a training whose loss is not finite.

    It is the Trainer's last callback: at the end of a step α has taken its own.
    """

    def __init__(self, model: nn.Module, cell: Cell, loss: LossOfStep, ledger: Ledger, events: PackEvents) -> None:
        self.reason: str | None = None
        """Why the training was stopped."""
        self._model, self._key, self._has_row_scale = model, cell.key, has_row_scale(cell)
        self._loss, self._ledger, self._events = loss, ledger, events
        self._rates = "learning_rate or row_scale_learning_rate" if self._has_row_scale else "learning_rate"
        self._of_step = math.nan
        self._drift: list[dict[str, Any]] = []
        self._n_steps = n_steps_of(cell)
        self._drift_every = -(-self._n_steps // DRIFT_POINTS)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._note_row_scale(state.global_step)

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
        if step % self._drift_every == 0 or step == self._n_steps:
            self._note_row_scale(step)
        if step % LOG_EVERY == 0:
            line = {"step": step, "train_loss": self._ledger.train_loss(self._key)}
            if self._has_row_scale:
                line["row_scale_rms_change"] = rms_change(row_scales(self._model).values())
            self._events.log(self._key, line)

    def row_scale(self) -> dict[str, Any] | None:
        """α now and on the way, for the record; None where there is none."""
        if not self._has_row_scale:
            return None
        return {"layers": row_scale_summary(self._model).layers, "drift": self._drift}

    def _note_row_scale(self, step: int) -> None:
        if self._has_row_scale:
            self._drift.append({"step": step, "rms_change": row_scale_drift(self._model)})
