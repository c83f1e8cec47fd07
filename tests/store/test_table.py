"""The table of a study: a row a cell, whatever its method."""

from typing import Any

import pytest

from loralaw.store import table_of
from loralaw.store.table import method_label

LORA = {"name": "lora", "lora_alpha": 16.0, "lora_dropout": 0.0, "target_modules": "all-linear"}
ALPHA = {
    **LORA,
    "name": "alpha-lora",
    "row_scale_protocol": "held-out",
    "row_scale_learning_rate": 0.005,
    "row_scale_every": 10,
    "row_scale_share": 0.1,
}


@pytest.mark.parametrize(
    ("method", "label"),
    [
        (LORA, "lora"),
        ({**LORA, "name": "dora", "lora_alpha": 32.0}, "dora(lora_alpha=32)"),
        ({**LORA, "target_modules": ["q_proj", "v_proj"]}, "lora(target_modules=q_proj+v_proj)"),
        (ALPHA, "alpha-lora"),
        (
            {**ALPHA, "row_scale_protocol": "joint", "learning_rate": 1e-3},
            "alpha-lora(row_scale_protocol=joint, learning_rate=0.001)",
        ),
        ({**ALPHA, "row_scale_every": 4, "row_scale_share": 0.5}, "alpha-lora(row_scale_every=4, row_scale_share=0.5)"),
        ({"name": "full"}, "full"),
        ({"name": "full", "learning_rate": 5e-5}, "full(learning_rate=5e-05)"),
    ],
)
def test_a_method_is_called_by_what_is_unusual_about_it(method: dict[str, Any], label: str) -> None:
    assert method_label(method) == label


def test_a_cell_without_a_rank_has_none_in_the_table() -> None:
    cell = {"base_model": "m", "method": {"name": "full"}, "rank": None, "n_train_examples": 8, "seed": 0,
            "task": {"name": "t"}}  # fmt: skip
    record = {"key": "k", "status": "finished", "cell": cell, "counts": {}, "metrics": {}, "cost": {}}
    table = table_of([record, {**record, "cell": {**cell, "method": LORA, "rank": 4}}])
    assert table["rank"].to_list() == [None, 4]
    assert table["method"].to_list() == ["full", "lora"]
