"""The summary of α against numbers computed from what was written into the model."""

import math

import numpy as np
import pytest
import torch
from adapted_models import bert
from peft import LoraConfig, get_peft_model
from torch import nn

from loralaw.errors import InputError
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, row_scale_drift, row_scale_summary

BLOCKS, WIDTH = 3, 8
ROWS = {"q_proj": 8, "v_proj": 8, "up_proj": 24}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({name: nn.Linear(WIDTH, ROWS[name], bias=False) for name in ("q_proj", "v_proj")})
        self.up_proj = nn.Linear(WIDTH, ROWS["up_proj"], bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attn["q_proj"](x) + self.attn["v_proj"](x) + self.up_proj(x)[..., :WIDTH]


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block() for _ in range(BLOCKS)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def config(**settings: object) -> AlphaLoraConfig:
    return AlphaLoraConfig(r=2, target_modules=list(ROWS), **settings)


def adapted(adapter: str = "default") -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(Stack(), config(), adapter_name=adapter)


def write(model: nn.Module, adapter: str = "default", seed: int = 0) -> dict[str, np.ndarray]:
    """Random α in every layer, with two rows of each up_proj off; what was written, by layer in the base model."""
    random, written = np.random.default_rng(seed), {}
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, ROW_SCALE):
            parameter = getattr(module, ROW_SCALE)[adapter].weight
            alpha = random.normal(1.05, 0.1, parameter.numel()).astype(np.float32)
            if name.endswith("up_proj"):
                alpha[:2] = 0.0499, -0.01
                alpha[2] = 0.0501
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(alpha))
            written[name] = alpha.astype(np.float64)
    return written


def check(row: dict, alpha: np.ndarray, n_off: int) -> None:
    assert row["n_rows"] == len(alpha)
    assert row["mean"] == pytest.approx(sum(alpha) / len(alpha), rel=1e-12)
    assert row["std"] == pytest.approx(math.sqrt(sum((alpha - sum(alpha) / len(alpha)) ** 2) / len(alpha)), rel=1e-9)
    assert row["rms_change"] == pytest.approx(math.sqrt(sum((alpha - 1) ** 2) / len(alpha)), rel=1e-12)
    assert row["quantiles"] == pytest.approx(list(np.percentile(alpha, [5, 25, 50, 75, 95])))
    assert row["n_off"] == n_off


def test_every_layer_is_described_by_its_own_rows() -> None:
    model = adapted()
    written = write(model)
    summary = row_scale_summary(model)

    assert [layer["layer"] for layer in summary.layers] == list(written)
    assert "layers.0.attn.q_proj" in written
    for layer in summary.layers:
        alpha = written[layer["layer"]]
        assert layer["module_type"] == layer["layer"].split(".")[-1]
        check(layer, alpha, 2 if layer["module_type"] == "up_proj" else 0)
        assert (layer["min"], layer["max"]) == (min(alpha), max(alpha))
        assert set(layer) == {
            *("layer", "module_type", "n_rows", "mean", "std", "min", "max", "quantiles", "rms_change", "n_off")
        }
    assert (summary.n_rows, summary.n_off) == (BLOCKS * 40, BLOCKS * 2)


def test_a_module_type_is_described_by_all_rows_of_its_layers() -> None:
    model = adapted()
    written = write(model)
    summary = row_scale_summary(model)

    assert [row["module_type"] for row in summary.by_module_type] == list(ROWS)
    for row in summary.by_module_type:
        alphas = [alpha for name, alpha in written.items() if name.endswith(row["module_type"])]
        assert row["n_layers"] == BLOCKS
        check(row, np.concatenate(alphas), 6 if row["module_type"] == "up_proj" else 0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_types_that_share_their_last_name_are_told_apart() -> None:
    model = get_peft_model(bert(), AlphaLoraConfig(r=2, target_modules=["dense"]))
    types = [row["module_type"] for row in row_scale_summary(model).by_module_type]

    assert types[:3] == ["attention.output.dense", "intermediate.dense", "output.dense"]
    assert list(row_scale_drift(model)) == types


def test_an_untrained_model_has_not_moved() -> None:
    summary = row_scale_summary(adapted())

    assert all(row["mean"] == 1 and row["rms_change"] == 0 for row in summary.layers)
    assert row_scale_drift(adapted()) == dict.fromkeys(ROWS, 0.0)


def test_distances_are_from_the_base_model_whatever_training_began_with() -> None:
    model = get_peft_model(Stack(), config(init_row_scale=0.5))

    assert row_scale_summary(model).by_module_type[0]["rms_change"] == 0.5
    assert row_scale_drift(model)["q_proj"] == 0.5


def test_the_drift_is_the_rms_change_of_the_summary() -> None:
    model = adapted()
    written = write(model)
    drift = row_scale_drift(model)

    assert list(drift) == list(ROWS)
    for name, value in drift.items():
        alpha = np.concatenate([a for layer, a in written.items() if layer.endswith(name)])
        assert value == pytest.approx(math.sqrt(((alpha - 1) ** 2).mean()), rel=1e-6)
    assert all(isinstance(value, float) for value in drift.values())


def test_the_named_adapter_is_described() -> None:
    model = adapted()
    model.add_adapter("other", config())
    first, other = write(model, seed=1), write(model, "other", seed=2)

    for adapter, written in ((None, first), ("default", first), ("other", other)):
        assert row_scale_summary(model, adapter).layers[0]["mean"] == pytest.approx(
            written["layers.0.attn.q_proj"].mean()
        )


def test_half_precision_is_read_as_it_is() -> None:
    model = adapted().to(torch.bfloat16)
    write(model)
    values = torch.cat([p.detach().double() for n, p in model.named_parameters() if ROW_SCALE in n and "q_proj" in n])

    assert row_scale_summary(model).by_module_type[0]["mean"] == pytest.approx(float(values.mean()), rel=1e-12)


def test_the_table_can_be_read() -> None:
    model = adapted()
    write(model)
    text = str(row_scale_summary(model))
    lines = text.splitlines()

    assert lines[0].startswith("Row scale α of 9 layers, 120 rows; 6 switched off (|α| < 0.05).")
    assert " ".join(lines[2].split()) == "module type layers rows mean std rms change 5% 25% 50% 75% 95% off"
    assert [line.split()[:3] for line in lines[3:]] == [
        [*row] for row in (("q_proj", "3", "24"), ("v_proj", "3", "24"), ("up_proj", "3", "72"))
    ]
    assert len({len(line) for line in lines[2:]}) == 1
    assert max(map(len, lines)) <= 120


def test_values_that_are_not_finite_are_named() -> None:
    model = adapted()
    write(model)
    with torch.no_grad():
        getattr(model.get_base_model().layers[1].up_proj, ROW_SCALE)["default"].weight[3:5] = math.nan

    with pytest.raises(
        InputError, match=r"2 of the 24 row scales of layers\.1\.up_proj are not finite .*nan.*lower row_"
    ):
        row_scale_summary(model)
    assert math.isnan(row_scale_drift(model)["up_proj"])
    assert math.isfinite(row_scale_drift(model)["q_proj"])


@pytest.mark.parametrize("function", [row_scale_summary, row_scale_drift])
def test_a_model_without_row_scale_is_refused(function: object) -> None:
    plain = get_peft_model(Stack(), LoraConfig(r=2, target_modules=list(ROWS)))

    for model in (Stack(), plain):
        with pytest.raises(InputError, match="row scale"):
            function(model)  # type: ignore[operator]
