"""Training α-LoRA on two time scales with transformers' Trainer."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from loralaw.errors import InputError, ModelError
from loralaw.tuners.row_scale import is_row_scale, row_scale_parameters
from loralaw.tuners.row_scale_batches import RowScaleBatches
from loralaw.tuners.row_scale_protocol import AUTHORS_BETAS, RowScaleProtocol
from loralaw.tuners.row_scale_summary import rms_change

_CHECKPOINT_FILE = "row_scale_training.json"


class AlphaLoraTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """transformers' Trainer for α-LoRA: α has its own learning rate, its own time scale and its own rows.

    A training step changes the adapter θ (and whatever else is to be trained, such as a classifier) with α fixed, on a
    batch of the training rows; after the steps 1, 1 + T, 1 + 2T, … a step changes α with θ fixed, on a fresh batch X′:

        θ ← θ - η(t) · AdamW(∇θ loss(θ, α; X)),        α ← α - η′ · Adam(∇α loss(θ, α; X′)).

    | `row_scale_protocol` | the adapter's rows | α's rows | α's steps |
    | --- | --- | --- | --- |
    | "held-out" | all but the share | the share, shuffled anew every round | every T steps, counted through |
    | "joint" | all | the adapter's own batches | in the adapter's own steps, clipped with them |
    | "authors" | all | the share, in file order, round and round | every T steps, counted anew in every epoch |

    α's learning rate stays constant, without weight decay and, outside "joint", without clipping. Its betas are the
    optimizer's; in "authors" (0.9, 0.99). The authors' adapter has the same ones (`adam_beta2=0.99`), a linear schedule
    and no clipping (`max_grad_norm=0`), and the checkpoint of theirs is the one with the best accuracy
    (`load_best_model_at_end` with an `eval_dataset`): these are yours to set.

    One optimizer holds both; a side that is fixed has no gradients, and is left alone by it. Checkpoints are therefore
    the Trainer's own and a resumed training is the same training: which batch α reads next follows from the number of
    steps done. Only the α of the active adapters, and of the active task, is trained. Frozen and not frozen is after
    the training what it was before.

    The Trainer's log gains `row_scale_loss`, the mean over α's steps since the last log (in nats for a language model;
    not in "joint"), and `row_scale_rms_change`, the root of the mean of (α - 1)².

    **Cost.** A step of α costs as much as one of the adapter: a training about 1 + 1/T of it.

    Args:
        row_scale_protocol: "held-out", "joint" or "authors" (above).
        row_scale_learning_rate: η′.
        row_scale_every: T, the adapter's steps for one of α; None: 10, and 1 in "joint".
        row_scale_dataset: α's rows in "held-out"; the adapter then learns from all of `train_dataset`.
        row_scale_share: else the share of `train_dataset` that is drawn for α, by `data_seed` or `seed`.
        row_scale_batch_size: rows of α's batch on one device; None: `per_device_train_batch_size`. A step of α takes
            `gradient_accumulation_steps` of them, as the adapter's does.
        *args, **kwargs: the Trainer's own.

    Attributes:
        train_dataset: the adapter's rows.
        row_scale_dataset: α's rows; None in "joint".

    Raises:
        ModelError: at construction, a model without a row scale that can be trained, or with one that is not finite.
        InputError: at construction, a setting or data that cannot be, or a way of training that is not supported:
            FSDP, DeepSpeed, fp16 (bf16 is), several GPUs in one process, optimizers that are handed over or that
            step during the backward pass, `auto_find_batch_size`. When training begins, another active adapter or
            task than at the beginning of an earlier training of this trainer or in the checkpoint to resume from, or
            other settings of α than in that.

    **Source**: α-LoRA, arXiv 2510.21345: its algorithm, and for "authors" the loop of its public code.

    **Departs from source**: "held-out" keeps α's rows from the adapter, which the authors' code does not. In "authors"
    α's batches are always full, where the last of a round is short in theirs, and which rows make their share is drawn
    here; a step of the adapter counts once however many micro-batches it accumulates.
    """

    train_dataset: Any
    optimizer: Any

    def __init__(
        self,
        *args: Any,
        row_scale_protocol: str = "held-out",
        row_scale_learning_rate: float = 5e-3,
        row_scale_every: int | None = None,
        row_scale_dataset: Any = None,
        row_scale_share: float = 0.1,
        row_scale_batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._protocol = RowScaleProtocol(
            row_scale_protocol, row_scale_learning_rate, row_scale_every, row_scale_share, row_scale_batch_size
        )
        super().__init__(*args, **kwargs)
        _refuse_unsupported(self)
        self._names = _names_to_train(self.model)
        self._adapter: list[nn.Parameter] = []
        self._row_scale: list[nn.Parameter] = []
        data_seed = self.args.data_seed
        self._seed = self.args.seed if data_seed is None else data_seed
        self.row_scale_dataset = row_scale_dataset
        if self.train_dataset is not None:  # else it is here to evaluate
            self.train_dataset, self.row_scale_dataset = self._protocol.split(
                self.train_dataset, row_scale_dataset, self._seed
            )
        # First, so that whatever else looks at the model at the end of a step sees the step complete.
        self.callback_handler.callbacks.insert(0, _RowScaleSteps(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does, α included; what was frozen before is frozen afterwards, and nothing else."""
        names = _names_to_train(self.model)
        if checkpoint := self._checkpoint(args[0] if args else kwargs.get("resume_from_checkpoint")):
            self._check_goes_on(checkpoint, names[1])
        if self.optimizer is not None and names != self._names:
            raise InputError(
                "the model's active adapter or task, or what is frozen, was changed since the last training of this "
                "trainer, whose optimizer holds the parameters of then. Make a new AlphaLoraTrainer"
            )
        self._names = names
        try:
            return super().train(*args, **kwargs)
        finally:
            _freeze_all_but(names[0] | names[1], self.model)

    def _checkpoint(self, asked: str | bool | None) -> Path | None:
        """The folder that the Trainer is about to resume from."""
        found = get_last_checkpoint(self.args.output_dir) if asked is True else asked
        return Path(found) if found else None

    def _what_goes_on(self, row_scale_names: set[str]) -> dict[str, Any]:
        """What a checkpoint does not hold by itself, and must be the same where a training goes on."""
        schedule = dataclasses.asdict(self._protocol)
        return {"row_scales": sorted(row_scale_names), **schedule, "seed": self._seed}

    def _check_goes_on(self, checkpoint: Path, row_scale_names: set[str]) -> None:
        path = checkpoint / _CHECKPOINT_FILE
        if not path.is_file():
            return  # then it is no checkpoint of this class, and its optimizer will not fit
        saved, now = json.loads(path.read_text(encoding="utf-8")), self._what_goes_on(row_scale_names)
        different = [name for name in now if saved.get(name) != now[name]]
        if "row_scales" in different:
            raise InputError(
                f"{checkpoint} was trained with {len(saved['row_scales'])} row scales such as "
                f"{saved['row_scales'][0]}, and the model would train {len(row_scale_names)} such as "
                f"{min(row_scale_names)}: make the same adapter and task active (set_adapter, set_task) before resuming"
            )
        if different:
            said = ", ".join(f"{name}={saved.get(name)!r} (now {now[name]!r})" for name in different)
            raise InputError(f"{checkpoint} was trained with {said}: resume with the same settings of the row scale")

    def create_optimizer(self, model: Any = None) -> Any:
        """The Trainer's optimizer for the adapter, and as its last group α with settings of its own."""
        adapter_names, row_scale_names = self._names
        if self.optimizer is None:
            parameters = dict(self.model.named_parameters())
            self._adapter = [parameters[name] for name in sorted(adapter_names)]
            self._row_scale = [parameters[name] for name in sorted(row_scale_names)]
            _freeze_all_but(adapter_names, self.model)  # the Trainer takes what is not frozen
            optimizer = super().create_optimizer(model)
            betas = {"betas": AUTHORS_BETAS} if self._protocol.name == "authors" else {}
            optimizer.add_param_group({"params": self._row_scale, "weight_decay": 0.0} | betas)
        # Before DDP wraps the model, which looks for what is not frozen.
        apart = self.is_in_train and self._protocol.name != "joint"
        _freeze_all_but(adapter_names if apart else adapter_names | row_scale_names, self.model)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's log of a training step, with α's loss and its distance from 1."""
        if "loss" in logs and self.is_in_train:
            if self._n_losses:
                mean_loss = self._sum_losses / self._n_losses
                logs["row_scale_loss"] = self.accelerator.gather(mean_loss).mean().item()
                self._begin_losses()
            logs["row_scale_rms_change"] = rms_change(self._row_scale)
        super().log(logs, start_time)

    def _begin_row_scale(self) -> None:
        """What α's steps need in this training: its rows as the Trainer would read them, and their order."""
        self._begin_losses()
        if self._protocol.name == "joint":
            return
        # Never iterated: it is the Trainer's public way to its collator, and to the rows without unused columns.
        self._loader = self.get_test_dataloader(self.row_scale_dataset)
        self._micro_batch_size = self._protocol.batch_size or self.args.train_batch_size
        self._batches = RowScaleBatches(
            len(self.row_scale_dataset),
            self._micro_batch_size * self.args.gradient_accumulation_steps,
            seed=self._seed,
            shuffle=self._protocol.name == "held-out",
            world_size=self.args.world_size,
            rank=self.args.process_index,
        )

    def _begin_losses(self) -> None:
        self._sum_losses, self._n_losses = torch.zeros((), device=self.args.device), 0

    def _row_scale_turn(self) -> None:
        """After a step of the adapter: a step of α, if it is time."""
        steps_per_epoch = None
        if self._protocol.name == "authors":
            n_micro_batches = len(self.callback_handler.train_dataloader)
            steps_per_epoch = math.ceil(n_micro_batches / self.args.gradient_accumulation_steps)
        step = self._protocol.step_number(self.state.global_step, steps_per_epoch)
        if step is not None:
            _switch(on=self._row_scale, off=self._adapter)
            self._row_scale_step(step)
            _switch(on=self._adapter, off=self._row_scale)

    def _row_scale_step(self, step: int) -> None:
        accumulation = self.args.gradient_accumulation_steps
        batches, n_items = self.get_batch_samples(self._micro_batches(step), accumulation, self.args.device)
        self.current_gradient_accumulation_steps = accumulation  # the Trainer sets it before each of its own steps
        # DDP took only what was not frozen when it wrapped the model, so α's gradients are averaged here.
        with self.accelerator.no_sync(self.model_wrapped):
            for batch in batches:
                self._sum_losses += self.training_step(self.model_wrapped, batch, n_items)
        if self.args.world_size > 1:
            for row_scale in self._row_scale:
                own = torch.zeros_like(row_scale) if row_scale.grad is None else row_scale.grad
                row_scale.grad = self.accelerator.reduce(own, "mean")
        self._n_losses += 1
        self._hold_learning_rate()
        self.optimizer.step()
        self.model_wrapped.zero_grad()

    def _micro_batches(self, step: int) -> Iterator[Any]:
        rows = self._batches.rows(step)
        for first in range(0, len(rows), self._micro_batch_size):
            examples = [self._loader.dataset[row] for row in rows[first : first + self._micro_batch_size]]
            yield self._loader.collate_fn(examples)

    def _hold_learning_rate(self) -> None:
        """α's learning rate, whatever the schedule has made of it."""
        self.optimizer.param_groups[-1]["lr"] = self._protocol.learning_rate


class _RowScaleSteps(TrainerCallback):  # type: ignore[misc]
    """The moments of the Trainer's loop at which something is to be done about α."""

    def __init__(self, trainer: AlphaLoraTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._trainer._begin_row_scale()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer._hold_learning_rate()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            content = self._trainer._what_goes_on(self._trainer._names[1])
            (folder / _CHECKPOINT_FILE).write_text(json.dumps(content), encoding="utf-8")

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The adapter's step is complete, its gradients are gone, and no checkpoint is written yet."""
        self._trainer._row_scale_turn()


def _names_to_train(model: nn.Module) -> tuple[set[str], set[str]]:
    """(the parameters that learn with the adapter, the row scales that learn), each by its full name."""
    row_scales = {name: alpha for name, alpha in row_scale_parameters(model).items() if alpha.requires_grad}
    if not row_scales:
        raise ModelError(
            f"{type(model).__name__} has no row scale that can be trained. Give a model made with "
            "get_peft_model(model, AlphaLoraConfig(...)), train_row_scale left at True, or one loaded with "
            "PeftModel.from_pretrained(model, folder, is_trainable=True); for plain LoRA use transformers' Trainer"
        )
    for name, alpha in row_scales.items():
        n_off = int((~alpha.detach().isfinite()).sum())
        if n_off:
            raise ModelError(
                f"{name} has {n_off} of {alpha.numel()} entries that are not finite. Load an adapter that is whole, or "
                "begin with a new one"
            )
    others = {name for name, p in model.named_parameters() if p.requires_grad and not is_row_scale(name)}
    return others, set(row_scales)


def _freeze_all_but(names: set[str], model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def _switch(*, on: list[nn.Parameter], off: list[nn.Parameter]) -> None:
    for parameter in on:
        parameter.requires_grad_(True)
    for parameter in off:
        parameter.requires_grad_(False)


def _refuse_unsupported(trainer: Trainer) -> None:
    """Ways of training that were not tested with two time scales, or cannot have them."""
    args = trainer.args
    refused = {
        "FSDP": (trainer.is_fsdp_enabled or trainer.is_fsdp_xla_enabled, "use DDP: torchrun without FSDP settings"),
        "DeepSpeed": (trainer.is_deepspeed_enabled, "use DDP: torchrun without a DeepSpeed configuration"),
        "a model that is split between processes": (
            trainer.is_distributed_loading_by_transformers or trainer.accelerator.parallelism_config is not None,
            "use DDP: the whole model in every process",
        ),
        "fp16": (args.fp16 or trainer.accelerator.mixed_precision == "fp16", "use bf16=True, or float32"),
        f"one process with {args.n_gpu} GPUs": (args.n_gpu > 1, "start one process for each GPU with torchrun"),
        "optimizers=(...)": (
            trainer.optimizer is not None or trainer.lr_scheduler is not None,
            "name it: TrainingArguments(optim=..., lr_scheduler_type=...) or optimizer_cls_and_kwargs",
        ),
        f'optim="{args.optim.value}", which steps during the backward pass': (
            "lomo" in args.optim.value or "layerwise" in args.optim.value,
            'use another, such as optim="adamw_torch"',
        ),
        "auto_find_batch_size=True": (args.auto_find_batch_size, "set per_device_train_batch_size"),
    }
    for what, (is_so, instead) in refused.items():
        if is_so:
            raise InputError(
                f"AlphaLoraTrainer does not support {what}: its steps of α are impossible there or were never tested. "
                f"Instead, {instead}"
            )
