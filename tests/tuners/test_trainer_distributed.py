"""Two processes with DDP on gloo: one model, the rows shared out, and the same training as one process with all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trainer_processes import CASES, N_PROCESSES, train, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    out = tmp_path_factory.mktemp("distributed")
    script = Path(__file__).with_name("trainer_processes.py")
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={N_PROCESSES}", str(script), str(out)]
    done = subprocess.run(
        [sys.executable, *launch],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def told(folder: Path, case: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(N_PROCESSES)]


def weights_of(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    return [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(N_PROCESSES)]


@pytest.mark.parametrize("case", [*CASES, "whole", "resumed"])
def test_the_processes_have_one_model(folder: Path, case: str) -> None:
    first, second = weights_of(folder, case)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", CASES)
def test_every_process_reads_rows_of_its_own(folder: Path, case: str) -> None:
    first, second = told(folder, case)
    assert first["model"] == second["model"] == "DistributedDataParallel"
    for side, mine in first["seen"].items():
        theirs = second["seen"][side]
        assert bool(mine) == bool(theirs) == ((side == "both") == (case == "joint"))
        assert len(mine) == len(theirs)
        assert not any(row in other for batch, other in zip(mine, theirs, strict=True) for row in batch)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_with_all_rows(folder: Path, case: str, tmp_path: Path) -> None:
    alone = train(tmp_path, case, rows_per_process=4 * N_PROCESSES)
    together, expected = weights_of(folder, case)[0], weights(alone.model)
    assert together.keys() == expected.keys()
    assert max(float((together[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    losses = [entry.get("row_scale_loss") for entry in alone.state.log_history if "loss" in entry]
    assert told(folder, case)[0]["losses"] == [loss if loss is None else pytest.approx(loss, 1e-5) for loss in losses]


def test_a_resumed_training_is_the_same_in_both(folder: Path) -> None:
    for whole, resumed in zip(weights_of(folder, "whole"), weights_of(folder, "resumed"), strict=True):
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
