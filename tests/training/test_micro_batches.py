"""A batch in equal parts: the steps of the whole batch, for the memory of a part."""

import dataclasses
from pathlib import Path

import pytest
import torch
from plain_peft import mixed_cells, train_packed
from safetensors.torch import load_file
from solo_cells import SILENT, Heard, base_model, cell, cell_folder, encoded, results
from torch import Tensor

from loralaw.errors import InputError
from loralaw.training import micro_batch_counts, train_cells
from loralaw.training.train_solo import train_solo

torch.set_num_threads(1)


def assert_same_adapter(ours: Path, theirs: Path) -> None:
    mine, expected = (load_file(folder / "adapter_model.safetensors") for folder in (ours, theirs))
    assert mine.keys() == expected.keys()
    for name, tensor in expected.items():
        moved: Tensor = tensor - 1 if "row_scale" in name else tensor
        assert float((mine[name] - tensor).norm()) <= 1e-4 * float(moved.norm()), name


def test_a_pack_takes_the_steps_of_whole_batches(tmp_path: Path) -> None:
    """Ragged lengths, prompts, clipping, α by every protocol, and dropout: parts drop what the whole batch drops."""
    cells = [dataclasses.replace(one, batch_size=4) for one in mixed_cells()]
    whole = train_packed(cells, tmp_path / "1")
    for n in (2, 4):
        parts = train_packed(cells, tmp_path / str(n), n_micro_batches=n)
        for one in cells:
            assert parts[one.key] == pytest.approx(whole[one.key], rel=1e-5), one.key
            assert_same_adapter(tmp_path / str(n) / one.key, tmp_path / "1" / one.key)


@pytest.mark.parametrize("method", ["lora", "alpha-lora", "full"])
def test_the_trainer_takes_the_steps_of_whole_batches(method: str, tmp_path: Path) -> None:
    base, one = base_model(), cell(method, batch_size=4, learning_rate=1e-3)
    task, whole, parts = encoded(base, one), Heard(), Heard()
    expected = train_solo(base, task, one, tmp_path / "whole", whole.events)
    record = train_solo(base, task, one, tmp_path / "parts", parts.events, n_micro_batches=2)
    assert parts.n_steps == whole.n_steps == 12
    assert parts.lines[0].pop("key") == whole.lines[0].pop("key")
    assert parts.lines[0] == pytest.approx(whole.lines[0], rel=1e-5)
    assert record["counts"] == expected["counts"]
    assert record["metrics"] == pytest.approx(expected["metrics"], rel=1e-4, abs=1e-7)
    if method != "full":
        assert_same_adapter(tmp_path / "parts" / "adapter", tmp_path / "whole" / "adapter")


def test_a_part_may_have_no_scored_token(tmp_path: Path) -> None:
    """On both paths the loss is the mean over what is scored in the whole batch, not a mean of means."""
    base, cells = base_model(), [cell("lora", batch_size=4), cell("lora", 8, 2, batch_size=4)]
    task = encoded(base, cells[0])
    task.train(1).labels[:5] = -100
    task.train(1).labels[8:12, 4:] = -100
    whole = list(train_cells(base, task, cells, cell_folder(tmp_path / "whole"), SILENT))
    parts = list(train_cells(base, task, cells, cell_folder(tmp_path / "parts"), SILENT, n_micro_batches=4))
    solo = train_solo(base, task, cells[0], tmp_path / "solo", SILENT, n_micro_batches=4)
    for record, expected in zip([*parts, solo], [*whole, whole[0]], strict=True):
        assert record["metrics"] == pytest.approx(expected["metrics"], rel=1e-5, abs=1e-7)
    assert_same_adapter(tmp_path / "solo" / "adapter", tmp_path / "whole" / cells[0].key / "adapter")


def test_no_bit_depends_on_company(tmp_path: Path) -> None:
    base, cells = base_model(), [cell("lora", batch_size=4), cell("alpha-lora", 8, 2, batch_size=4, lora_dropout=0.2)]
    task = encoded(base, cells[0])
    together = list(train_cells(base, task, cells, cell_folder(tmp_path / "together"), SILENT, n_micro_batches=2))
    for one, record in zip(cells, together, strict=True):
        [alone] = train_cells(base, task, [one], cell_folder(tmp_path / "alone"), SILENT, n_micro_batches=2)
        assert results(alone) == results(record)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_record_says_how_many_where_there_were_several(method: str, tmp_path: Path) -> None:
    base, one = base_model(), cell(method, batch_size=6)
    task = encoded(base, one)
    assert micro_batch_counts(6) == [1, 2, 3, 6]
    for n, said in ((1, None), (3, 3)):
        [record] = train_cells(base, task, [one], cell_folder(tmp_path / str(n)), SILENT, n)
        assert record["provenance"].get("n_micro_batches") == said
    for n in (0, 4, 12):
        with pytest.raises(InputError, match=f"n_micro_batches is {n}, .* batch of 6 rows; accepted: 1, 2, 3, 6"):
            list(train_cells(base, task, [one], cell_folder(tmp_path), SILENT, n_micro_batches=n))
