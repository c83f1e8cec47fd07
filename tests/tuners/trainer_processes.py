"""What every process of a distributed training runs, and what one alone does with the same batches.

    torchrun --nproc-per-node 2 trainer_processes.py FOLDER

Each process writes, for every case, its weights and the rows that it read.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import save_file
from trainer_models import Recorder, language_model, named, texts, trainer

N_PROCESSES = 2
CASES = {
    "held-out": {"row_scale_every": 2},
    "accumulated": {"row_scale_every": 1, "gradient_accumulation_steps": 2},
    "joint": {"row_scale_protocol": "joint"},
    "authors": {"row_scale_protocol": "authors", "row_scale_every": 3, "max_steps": 13},  # 10 steps are an epoch
}


def train(folder: Path, case: str, rows_per_process: int) -> Recorder:
    one = trainer(
        folder / case,
        model=language_model(),
        train_dataset=texts(80),
        per_device_train_batch_size=rows_per_process,
        row_scale_learning_rate=1e-2,
        logging_steps=1,
        **CASES[case],
    )
    one.train()
    return one


def resumed(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A training with dropout, and the same one from its checkpoint in the middle."""
    models = []
    for checkpoint in (None, str(folder / "resumed" / "checkpoint-3")):
        one = trainer(
            folder / "resumed",
            model=language_model(dropout=0.3),
            train_dataset=texts(80),
            max_steps=7,
            save_strategy="steps",
            save_steps=3,
        )
        torch.manual_seed(one.args.process_index)
        one.train(resume_from_checkpoint=checkpoint)
        models.append(one.model)
    return models[0], models[1]


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**named(model, row_scale=True), **named(model, row_scale=False)}


def main(folder: Path) -> None:
    for case in CASES:
        one = train(folder, case, rows_per_process=4)
        rank = one.args.process_index
        save_file(weights(one.model), folder / f"{case}-{rank}.safetensors")
        seen = {side: one.ids(side) for side in ("adapter", "row_scale", "both")}
        losses = [entry.get("row_scale_loss") for entry in one.state.log_history if "loss" in entry]
        told = {"seen": seen, "losses": losses, "model": type(one.model_wrapped).__name__}
        (folder / f"{case}-{rank}.json").write_text(json.dumps(told))
    for name, model in zip(("whole", "resumed"), resumed(folder), strict=True):
        save_file(weights(model), folder / f"{name}-{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
