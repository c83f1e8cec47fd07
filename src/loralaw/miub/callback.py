"""MIUB during training: a callback for any transformers Trainer."""

import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from types import FrameType
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from loralaw.errors import InputError
from loralaw.miub.estimators import DEFAULT_ESTIMATORS, column_of, statistics_named
from loralaw.miub.probe import probe
from loralaw.miub.probe_batches import check_whole_number, items_of, probe_batches


class MiubCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Measures how much the adapter leans on its base every few steps, always on the same batches.

    The first measurement is at step `every`, the last at the training's last step. Before the first step one probe is
    made and forgotten: whatever would go wrong (no adapted layer, data that do not fit the model, too little memory)
    goes wrong before any training is paid for.

    **Settled.** With m₁, m₂, … the values of the first of `estimators` in nats, MIUB has settled at measurement k when
    |mᵢ - mᵢ₋₁| < `min_delta` for each of the last `patience` measurements i = k - patience + 1, …, k. It needs
    patience + 1 measurements; one that is not finite is never close to another.

    **Cost.** A probe of the batches for each measurement (`benchmarks/results/probe_cost.md`): with as many tokens as a
    training batch has, it is little beside the `every` steps. The prepared batches stay in memory.

    The training is the same with and without it: the model's modes and torch's random state are left as they were.
    It works under autocast and gradient checkpointing. In distributed training every process measures the same batches
    on its own copy of the model; a model that is split between processes (FSDP, ZeRO-3) is not supported.

    One Trainer may have several, each on its own data and under its own `name`. One callback may serve several
    trainings, one after the other: each begins its history anew.

    Args:
        dataset: what `loralaw.probe` accepts. Read once, at the beginning of the first training, and kept; its tokens
            are made anew at the beginning of each training, by that training's model and tokenizer.
        every: optimizer steps between measurements.
        tokenizer: for texts; else the Trainer's `processing_class`.
        estimators: names of `loralaw.miub.STATISTICS`.
        batch_size: sequences of a forward pass, where the data are not batches already.
        max_length: tokens of a sequence, where the data are not batches already; what is longer is cut.
        patience: stop the training when MIUB has settled (above). None: never.
        min_delta: in nats; needed with `patience`. Absolute, because a relative one has no meaning near 0.
        name: before the names of what is logged: "heldout" makes "heldout_miub_nats". A resumed training finds its
            history by it.

    Attributes:
        history: one dict a measurement: "step" and the means over layers that `ProbeResult.means` defines ("miub_nats",
            "miub_stderr_nats", "jsd_nats", "norm_ratio", "cosine", …; nan where the model was not finite), here without
            `name`. A resumed training goes on with the history of its checkpoint.
        layers: the rows of `ProbeResult.layers` of the last measurement; empty where that was not finite.
        stopped_at: the step at which this callback stopped the training, or None.

    Raises:
        InputError: at construction, a setting that cannot be; at the beginning of training, what `loralaw.probe`
            raises, and two callbacks of one name on the same Trainer. During training nothing: numbers that are not
            finite are recorded as nan, with one warning.

    **Source**: ours.

    >>> callback = MiubCallback(["some text", "more of it"], every=50, patience=3, min_delta=0.001)
    >>> callback.history
    []
    """

    def __init__(
        self,
        dataset: Iterable[Any] | Mapping[str, Any],
        *,
        every: int = 100,
        tokenizer: Any = None,
        estimators: Sequence[str] = DEFAULT_ESTIMATORS,
        batch_size: int = 8,
        max_length: int = 512,
        patience: int | None = None,
        min_delta: float = 0.0,
        name: str = "",
    ) -> None:
        for setting, value in (("every", every), ("batch_size", batch_size), ("max_length", max_length)):
            check_whole_number(setting, value)
        if not isinstance(name, str):
            raise InputError(f'name={name!r}: give a text such as "heldout"')
        statistics_named(estimators)  # refuses names that it does not know
        _check_settling(patience, min_delta)
        self.every, self.patience, self.min_delta, self.name = every, patience, min_delta, name
        self.estimators = tuple(estimators)
        self.history: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []
        self.stopped_at: int | None = None
        self._dataset, self._tokenizer, self._batch_size, self._max_length = dataset, tokenizer, batch_size, max_length
        self._batches: list[dict[str, torch.Tensor]] = []
        self._leading = column_of(self.estimators[0])
        self._prefix = f"{name}_" if name else ""
        self._columns: list[str] = []
        self._warned = False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: nn.Module, processing_class: Any = None, **_: Any
    ) -> None:
        """Prepare the batches, probe once, and take up the history of the checkpoint, if there is one."""
        self._check_alone()
        self._dataset = items_of(self._dataset)  # an iterator gives its items only once
        tokenizer = processing_class if self._tokenizer is None else self._tokenizer
        self._batches = probe_batches(self._dataset, model, tokenizer, self._batch_size, self._max_length)
        self._columns = list(probe(model, self._batches, estimators=self.estimators).means)
        # The Trainer writes `log_history` into every checkpoint and reads it back. Its own way for the state of
        # callbacks builds them anew from JSON arguments, which a data set is not, and leaves the user's object behind.
        logged = {self._prefix + column: column for column in self._columns}
        self.history = [
            {"step": entry["step"], **{column: entry[key] for key, column in logged.items() if key in entry}}
            for entry in state.log_history
            if self._prefix + self._leading in entry
        ]
        self.layers, self.stopped_at, self._warned = [], None, False

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> Any:
        """Measure when it is time, and at the last step; stop when MIUB has settled."""
        ends = control.should_training_stop
        if state.global_step % self.every and not ends:
            return control
        control = self._measure(model, args, state, control)
        if not ends and self._settled():
            control.should_training_stop, self.stopped_at = True, state.global_step
        return control

    def on_log(
        self, args: Any, state: Any, control: Any, *, model: nn.Module, logs: Mapping[str, Any], **_: Any
    ) -> Any:
        """Measure the last step if `on_step_end` could not know that it was the last (stopped by an evaluation, say).

        The Trainer's summary is the last moment for it: at `on_train_end` the weights of the best checkpoint may have
        been loaded, and the reporters have closed their runs; some would open another.
        """
        measured = self.history[-1]["step"] if self.history else 0
        if "train_runtime" not in logs or measured == state.global_step:
            return control
        return self._measure(model, args, state, control)

    def _check_alone(self) -> None:
        callbacks = getattr(_calling_handler(), "callbacks", [])
        if [each.name for each in callbacks if isinstance(each, MiubCallback)].count(self.name) > 1:
            raise InputError(
                f'two MiubCallbacks of this Trainer have name="{self.name}", and their numbers would mix: give each '
                'a name of its own, such as name="heldout", and add none twice'
            )

    def _measure(self, model: nn.Module, args: Any, state: Any, control: Any) -> Any:
        means = self._means(model, state.global_step)
        self.history.append({"step": state.global_step, **means})
        logs = {**{self._prefix + column: value for column, value in means.items()}, "epoch": state.epoch}
        state.log_history.append({**logs, "step": state.global_step})  # as Trainer.log does
        # Callbacks are not given the Trainer, and they come after those that report, so that a change of `logs` in our
        # own on_log would be too late. The handler that is calling us knows all of them.
        handler = _calling_handler()
        if handler is None:
            return control
        due = control.should_log
        control = handler.on_log(args, state, control, logs)
        control.should_log = due  # the handler takes our entry for the Trainer's own, which is still to come
        return control

    def _means(self, model: nn.Module, step: int) -> dict[str, float]:
        reason = "some means are not finite"
        try:
            result = probe(model, self._batches, estimators=self.estimators)
            means = {name: value for name, value in result.means.items() if value is not None}
            self.layers = result.layers
        except InputError as error:  # the same call was good before the first step: the numbers are to blame
            means, reason, self.layers = dict.fromkeys(self._columns, math.nan), str(error), []
        if not self._warned and not all(map(math.isfinite, means.values())):
            self._warned = True
            warnings.warn(
                f"MIUB could not be measured at step {step}, the training goes on: {reason}", UserWarning, stacklevel=2
            )
        return means

    def _settled(self) -> bool:
        if self.patience is None:
            return False
        values = [entry[self._leading] for entry in self.history[-self.patience - 1 :]]
        steps = [abs(after - before) for before, after in pairwise(values)]
        settled = [len(steps) == self.patience and all(step < self.min_delta for step in steps)]
        # All processes have the same numbers up to rounding; where one stopped alone the others would wait for ever.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(settled, src=0)
        return settled[0]


def _check_settling(patience: int | None, min_delta: float) -> None:
    if patience is None:
        if min_delta != 0:
            raise InputError(f"min_delta={min_delta!r} without patience does nothing: give patience=3, say")
        return
    check_whole_number("patience", patience)
    if not (isinstance(min_delta, Real) and math.isfinite(min_delta) and min_delta > 0):
        raise InputError(
            f"patience={patience} with min_delta={min_delta!r}: give the largest change in nats that counts as none, "
            "such as min_delta=0.001"
        )


def _calling_handler() -> Any:
    """The handler of the Trainer's callbacks further up the call stack, or None where a callback is called by hand."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, CallbackHandler):
            return caller
        frame = frame.f_back
    return None
