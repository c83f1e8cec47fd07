"""What a cell of a pack asks for, and its state while it trains."""

from dataclasses import dataclass, field

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import get_scheduler

from loralaw.errors import InputError, did_you_mean
from loralaw.training.adapters import Adapter
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.row_scale_protocol import AUTHORS_BETAS, RowScaleProtocol

SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
"""The names of `transformers.get_scheduler` that need no more settings than a number of steps."""


@dataclass(frozen=True)
class PackCell:
    """One adapter to train: what it is and how it is optimised.

    Raises:
        InputError: a number out of its range or an unknown schedule.
    """

    key: str
    """Names the cell in its pack."""
    peft_config: LoraConfig
    """What PEFT is to build; it is copied, never changed."""
    seed: int
    """Drives the cell's initialisation and, with a generator of its own, its adapter dropout."""
    learning_rate: float
    """The schedule's peak."""
    weight_decay: float
    """AdamW's, on A and B alike."""
    max_grad_norm: float | None
    """Clip this cell's own gradient to this norm; None for no clipping."""
    n_steps: int
    """Optimizer steps of the whole schedule."""
    warmup_steps: int
    """Steps of linear warm-up, part of `n_steps`."""
    schedule: str
    """One of `SCHEDULES`."""
    batch_size: int
    """Rows a step."""
    row_scale: RowScaleProtocol | None = None
    """How α learns, for an `AlphaLoraConfig`; None for others."""

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InputError(
                f'cell "{self.key}": schedule is "{self.schedule}"; accepted: {", ".join(SCHEDULES)}.'
                + did_you_mean(self.schedule, SCHEDULES)
            )
        for name, least in {"n_steps": 1, "warmup_steps": 0, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise InputError(f'cell "{self.key}": {name} is {getattr(self, name)}; give at least {least}')
        if not self.learning_rate > 0:
            raise InputError(f'cell "{self.key}": learning_rate is {self.learning_rate}; give a number above 0')
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise InputError(
                f'cell "{self.key}": max_grad_norm is {self.max_grad_norm}; give a number above 0, or None'
            )
        if isinstance(self.peft_config, AlphaLoraConfig) != (self.row_scale is not None):
            raise InputError(
                f'cell "{self.key}": row_scale is {self.row_scale} with a {type(self.peft_config).__name__}; give an '
                "AlphaLoraConfig and a RowScaleProtocol, or neither"
            )


@dataclass(eq=False)
class RunningCell:
    """A cell in training: its adapter as one long vector, with torch's own AdamW and schedule on it; α as another.

    The parameters keep their identity when the pack moves their numbers to another bucket, so AdamW's state follows.
    """

    cell: PackCell
    adapter: Adapter
    """As PEFT built it; the trained numbers are in `parameter`."""
    parameter: nn.Parameter
    """A and B."""
    row_scale: nn.Parameter | None
    """α of all layers, one after the other."""
    dropout_generator: torch.Generator
    optimizer: torch.optim.AdamW = field(init=False)
    scheduler: torch.optim.lr_scheduler.LRScheduler = field(init=False)
    _row_scale_optimizer: torch.optim.AdamW | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        cell = self.cell
        self.optimizer = torch.optim.AdamW(
            [self.parameter], lr=cell.learning_rate, weight_decay=cell.weight_decay, fused=True
        )
        self.scheduler = get_scheduler(cell.schedule, self.optimizer, cell.warmup_steps, cell.n_steps)
        if cell.row_scale is not None and self.row_scale is not None:
            betas = AUTHORS_BETAS if cell.row_scale.name == "authors" else (0.9, 0.999)
            self._row_scale_optimizer = torch.optim.AdamW(
                [self.row_scale], lr=cell.row_scale.learning_rate, betas=betas, weight_decay=0.0, fused=True
            )

    @property
    def key(self) -> str:
        return self.cell.key

    @property
    def dropout(self) -> float:
        return float(self.adapter.config.lora_dropout)

    @property
    def is_joint(self) -> bool:
        """Whether α learns in the adapter's own steps."""
        return self.cell.row_scale is not None and self.cell.row_scale.name == "joint"

    def optimizer_step(self) -> None:
        """Clip, step and advance the schedule; the gradient is the cell's row of its bucket. A joint α steps too."""
        learning = [self.parameter]
        if self.is_joint and self.row_scale is not None:
            learning.append(self.row_scale)
        if self.cell.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(learning, self.cell.max_grad_norm)
        self.optimizer.step()
        if self.is_joint:
            self.row_scale_step()
        self.scheduler.step()

    def row_scale_step(self) -> None:
        """A step of α, at its constant rate."""
        assert self._row_scale_optimizer is not None
        self._row_scale_optimizer.step()

    def dropout_mask(self, length: int, features: int) -> Tensor:
        """An inverted-dropout mask (rows·length, features), drawn as PEFT's `nn.Dropout` draws it.

        Its shape is the cell's own, never the pack's: the stream must not depend on the partners' padding.
        """
        kept = 1.0 - self.dropout
        mask = torch.empty(self.cell.batch_size, length, features, device=self.parameter.device)
        return mask.bernoulli_(kept, generator=self.dropout_generator).div_(kept)
