"""PEFT builds every adapter and reads every saved one; between the two we hold only its tensors."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora.layer import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loralaw.errors import InputError, ModelError, StorageError
from loralaw.models import is_quantised
from loralaw.training.targets import targeted_layers
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, AlphaLoraModel
from loralaw.tuners.row_scale import active_row_scale

_UNSUPPORTED_FIELDS = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "alora_invocation_tokens",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "megatron_config",
    "row_scale_tasks",
)
# The other initialisations (pissa, olora, corda, ...) change the frozen base, which the cells share.
_INITIALISATIONS = (True, False, "gaussian")


@dataclass(frozen=True)
class LayerAdapter:
    """One layer's two factors, laid out for x @ a @ b (PEFT keeps them transposed), and with α-LoRA its row scale."""

    a: Tensor
    """(in, rank), float32."""
    b: Tensor
    """(rank, out), float32."""
    row_scale: Tensor | None
    """α: (out,), float32."""


@dataclass(frozen=True)
class Adapter:
    """An adapter as PEFT initialised it."""

    config: LoraConfig
    """A copy of the cell's own, with `target_modules` resolved to names."""
    scaling: float
    """s in s·BAx: lora_alpha / r, or lora_alpha / √r with rank-stabilised scaling."""
    layers: dict[str, LayerAdapter]
    """By module name in the base model."""

    @property
    def rank(self) -> int:
        return int(self.config.r)

    @property
    def n_params_trainable(self) -> int:
        return sum(
            layer.a.numel() + layer.b.numel() + (0 if layer.row_scale is None else layer.row_scale.numel())
            for layer in self.layers.values()
        )

    @property
    def has_row_scale(self) -> bool:
        return isinstance(self.config, AlphaLoraConfig)


def build_adapter(model: PreTrainedModel, config: LoraConfig, seed: int) -> Adapter:
    """Let PEFT initialise an adapter with the draws of `torch.manual_seed(seed); get_peft_model(model, config)`.

    The model is left as it was, and so is torch's global random state.

    Raises:
        InputError: the configuration asks for something that packed training does not do.
        ModelError: the targeted layers do not exist or are not linear.
    """
    _check_config(config)
    config = copy.deepcopy(config)
    set_layout(config, model)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        kind = AlphaLoraModel if isinstance(config, AlphaLoraConfig) else LoraModel
        tuner = kind(model, config, "default")  # what get_peft_model wraps; it draws the same numbers
        try:
            layers, scaling = _take_tensors(model)
        finally:
            tuner.unload()
    return Adapter(config, scaling, layers)


def set_layout(config: LoraConfig, model: PreTrainedModel) -> None:
    """Tell PEFT how the weights of the targeted layers lie: it warns unless it is told, and then does the same.

    Raises:
        ModelError: the targeted layers do not exist or are not linear; or they are of an unknown kind, where the model
            does not say that it is quantised.
    """
    layers = {name: model.get_submodule(name) for name in targeted_layers(model, config.target_modules or "")}
    for name, layer in layers.items():
        if type(layer) not in (torch.nn.Linear, Conv1D) and not is_quantised(model.config):
            raise ModelError(
                f"{name} is a {type(layer).__name__}: training here knows torch.nn.Linear and Conv1D, and other linear "
                "layers only in a model whose configuration says that it is quantised; load the model unchanged"
            )
    config.fan_in_fan_out = all(isinstance(layer, Conv1D) for layer in layers.values())


def save_adapter(adapter: Adapter, trained: Mapping[str, LayerAdapter], base_name: str, folder: Path) -> None:
    """Write an ordinary PEFT folder: `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        adapter: the configuration to write.
        trained: the trained factors, by module name in the base model.
        base_name: name or path of the base model, as PEFT records it.
        folder: created if absent; files of the same names are replaced.

    Raises:
        StorageError: the disk refused.
    """
    tensors = {}
    for name, layer in trained.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.a.T.contiguous().cpu()
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.b.T.contiguous().cpu()
        if layer.row_scale is not None:
            tensors[f"base_model.model.{name}.{ROW_SCALE}.weight"] = layer.row_scale.contiguous().cpu()
    write_adapter(adapter.config, tensors, base_name, folder)


def write_adapter(config: LoraConfig, tensors: Mapping[str, Tensor], base_name: str, folder: Path) -> None:
    """`save_adapter` for tensors on the processor, by the names that PEFT's state dict gives them."""
    config = copy.deepcopy(config)
    config.inference_mode, config.base_model_name_or_path = True, base_name or None
    config.task_type = config.task_type or "CAUSAL_LM"
    # A set would be written in another order in every process.
    config.target_modules = sorted(config.target_modules)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(folder))
        save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"the adapter could not be written to {folder}: {error}. Every finished cell is safe; free some space, "
            "then run the same command to go on"
        ) from error


def _check_config(config: LoraConfig) -> None:
    asked = [name for name in _UNSUPPORTED_FIELDS if getattr(config, name, None)]
    if asked:
        raise InputError(f"packed training does not support {', '.join(asked)} of LoraConfig: leave it out")
    if config.bias != "none":
        raise InputError(f'packed training keeps biases frozen, but LoraConfig has bias="{config.bias}": use "none"')
    if isinstance(config, AlphaLoraConfig) and not config.train_row_scale:
        raise InputError("train_row_scale is False, but packed training trains the row scale: leave it out")
    if config.init_lora_weights not in _INITIALISATIONS:
        raise InputError(
            f"init_lora_weights is {config.init_lora_weights!r}; packed training supports {_INITIALISATIONS}, "
            "because the others may change the frozen base, which all cells share"
        )


def _take_tensors(model: torch.nn.Module) -> tuple[dict[str, LayerAdapter], float]:
    layers, scaling = {}, 1.0
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            factor_a, factor_b = module.lora_A["default"].weight, module.lora_B["default"].weight
            row_scale = active_row_scale(module, "default")
            layers[name] = LayerAdapter(
                factor_a.detach().float().T,
                factor_b.detach().float().T,
                None if row_scale is None else row_scale.weight.detach().float(),
            )
            scaling = float(module.scaling["default"])
    return layers, scaling
