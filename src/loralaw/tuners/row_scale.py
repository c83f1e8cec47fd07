"""The row scale α of a layer: its parameter, of one task or of several, and how it is found in a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from loralaw.errors import InputError, ModelError, did_you_mean
from loralaw.tuners.peft_surface import LoraLayer, base_model_of

ROW_SCALE = "lora_row_scale"
"""Name of the attribute of a LoRA layer, and part of every parameter's name. It begins with PEFT's prefix for LoRA;
not "alpha", since `lora_alpha` is PEFT's constant in s = lora_alpha/r."""


class RowScale(nn.Module):
    """α of one layer: y = α ⊙ (Wx + b) + what the adapter adds.

    A module of its own with one `weight`, so that whoever shards or counts modules meets an ordinary leaf.

    Args:
        n_rows: output features of the frozen layer.
        start: the value of all entries at first.
        n_space_dims: dimensions after the features (of a convolution: 1, 2 or 3; else 0).
        device: where it is.
        dtype: float32 or float64.
    """

    def __init__(self, n_rows: int, start: float, n_space_dims: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((n_rows,), float(start), device=device, dtype=dtype))
        self._shape = (n_rows,) + (1,) * n_space_dims

    def factor(self) -> Tensor:
        """α in the shape that multiplies the layer's output."""
        return self.weight if len(self._shape) == 1 else self.weight.view(self._shape)


def add_row_scales(layer: Any, adapter: str, new: Callable[[], RowScale], tasks: list[str] | None) -> None:
    """Give a LoRA layer the row scale of an adapter, or one for each task; the first task is active.

    They are kept as PEFT keeps A and B, a container by adapter for each, so that it saves, moves, freezes and deletes
    them as it does those.
    """
    if not hasattr(layer, "row_scale_task"):
        layer.row_scale_task = {}
        layer.other_param_names = (*layer.other_param_names, "row_scale_task")
        layer.register_load_state_dict_pre_hook(_check_loaded)
    layer.row_scale_task.pop(adapter, None)
    for _, scales in _containers(layer):  # where the adapter's name is used again
        if adapter in scales:
            del scales[adapter]
    for name in [ROW_SCALE] if tasks is None else map(_container, tasks):
        if name not in layer.adapter_layer_names:
            layer.add_module(name, nn.ModuleDict())
            layer.adapter_layer_names = (*layer.adapter_layer_names, name)
        getattr(layer, name)[adapter] = new()
    if tasks is not None:
        layer.row_scale_task[adapter] = tasks[0]


def freeze_row_scales(layer: Any, adapter: str, *, all_of_them: bool) -> None:
    """Tell PEFT which row scales of an adapter it may not train: those of idle tasks, or all."""
    own = [name for name, scales in _containers(layer) if adapter in scales]
    active = _container(layer.row_scale_task.get(adapter))
    frozen = tuple(name for name in own if all_of_them or name != active)
    layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, adapter: frozen}
    for name in frozen:
        getattr(layer, name)[adapter].requires_grad_(False)


def active_row_scale(layer: nn.Module, adapter: str) -> RowScale | None:
    """The row scale of an adapter in a LoRA layer, where it has tasks that of the active one; None without any."""
    scales: Any = getattr(layer, _container(getattr(layer, "row_scale_task", {}).get(adapter)), ())
    if adapter not in scales:
        return None
    scale: RowScale = scales[adapter]
    return scale


def all_row_scales(layer: nn.Module, adapter: str) -> list[nn.Module]:
    """The row scales of an adapter in a LoRA layer, of every task."""
    return [scales[adapter] for _, scales in _containers(layer) if adapter in scales]


def is_row_scale(name: str) -> bool:
    """Whether this is the name of a row scale among a model's parameters."""
    return f".{ROW_SCALE}" in name


def row_scale_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """α of the active adapters, and where these have tasks of the active task.

    Args:
        model: any model; read only.

    Returns:
        The parameters, (rows,) each, by the names that `model.named_parameters()` gives them; empty without a row
        scale.
    """
    found = {}
    for name, layer in model.named_modules():
        for adapter in layer.active_adapters if isinstance(layer, LoraLayer) else ():
            if (scale := active_row_scale(layer, adapter)) is not None:
                container = _container(layer.row_scale_task.get(adapter))
                found[f"{name}.{container}.{adapter}.weight".removeprefix(".")] = scale.weight
    return found


def row_scales(model: nn.Module, adapter: str | None = None) -> dict[str, Tensor]:
    """α of one adapter by layer; where it has tasks, of the active task.

    Args:
        model: a model with an α-LoRA adapter; read only.
        adapter: its name; the active adapter if not given.

    Returns:
        (rows,) each, detached, by the name of the layer in the base model, in the model's order.

    Raises:
        InputError: there is no such row scale, or several active adapters have one and none is named.
    """
    found, owners = {}, set()
    for name, layer in base_model_of(model).named_modules():
        if isinstance(layer, LoraLayer):
            for own in layer.active_adapters if adapter is None else [adapter]:
                if (scale := active_row_scale(layer, own)) is not None:
                    found[name] = scale.weight.detach()
                    owners.add(own)
    if len(owners) > 1:
        raise InputError(f"several adapters are active and have a row scale, {', '.join(sorted(owners))}: name one")
    if not found:
        known = sorted(_adapters_with_row_scale(model))
        which = "its active adapter" if adapter is None else f'its adapter "{adapter}"'
        others = (
            f"; these have one: {', '.join(known)}.{did_you_mean(adapter, known)}"
            if known
            else ": give a model made with get_peft_model(model, AlphaLoraConfig(...)), or loaded from such an adapter"
        )
        raise InputError(f"{type(model).__name__} has no row scale in {which}{others}")
    return found


def set_task(model: nn.Module, task: str) -> None:
    """Make a task the active one in every adapter that has it.

    Args:
        model: a model with an adapter made with `AlphaLoraConfig(row_scale_tasks=[...])`.
        task: its name there.

    Raises:
        InputError: no adapter has this task, or the adapter is merged, so that the frozen weights hold another's α.
    """
    layers: list[Any] = [layer for layer in model.modules() if getattr(layer, "row_scale_task", None)]
    known = list(dict.fromkeys(name for layer in layers for name in _tasks(layer)))
    if task not in known:
        accepted = ", ".join(known) if known else "none: see row_scale_tasks of AlphaLoraConfig"
        raise InputError(f'"{task}" is not a task of this model; it has {accepted}.{did_you_mean(task, known)}')
    own = [(layer, a) for layer in layers for a in layer.row_scale_task if a in getattr(layer, _container(task), {})]
    if merged := [layer.row_scale_task[adapter] for layer, adapter in own if adapter in layer.merged_adapters]:
        raise InputError(
            f'the adapter is merged into the frozen weights with the row scale of "{merged[0]}": call '
            "unmerge_adapter() before another task is made active"
        )
    for layer, adapter in own:
        _switch(layer, adapter, task)


def _switch(layer: Any, adapter: str, task: str) -> None:
    """The new task's α is trained if the one before it was."""
    before = active_row_scale(layer, adapter)
    assert before is not None
    fixed = _container(layer.row_scale_task[adapter]) in layer.frozen_peft_weight_names[adapter]
    layer.row_scale_task[adapter] = task
    getattr(layer, _container(task))[adapter].requires_grad_(before.weight.requires_grad)
    freeze_row_scales(layer, adapter, all_of_them=fixed)


def _container(task: str | None) -> str:
    """The layer's attribute that holds the row scales of a task by adapter. PEFT takes the names of adapters out of
    those of parameters, where a dot is before and after them; before a task there is none."""
    return ROW_SCALE if task is None else f"{ROW_SCALE}:{task}"


def _containers(layer: nn.Module) -> list[tuple[str, nn.ModuleDict]]:
    named = ((name, module) for name, module in layer.named_children() if isinstance(module, nn.ModuleDict))
    return [(name, module) for name, module in named if name.partition(":")[0] == ROW_SCALE]


def _tasks(layer: nn.Module) -> list[str]:
    return [name.partition(":")[2] for name, scales in _containers(layer) if ":" in name and len(scales)]


def _adapters_with_row_scale(model: nn.Module) -> set[str]:
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return {adapter for layer in layers for _, scales in _containers(layer) for adapter in scales}


def _check_loaded(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse a row scale that does not fit, is broken, or is not there though the rest of its adapter is."""
    known = dict(_containers(layer))
    for key in state:
        container = key.removeprefix(prefix).split(".")[0]
        if key.startswith(prefix + ROW_SCALE) and container not in known:
            task = container.partition(":")[2]
            what = f'a row scale of the task "{task}"' if task else "one row scale without a task"
            raise ModelError(
                f"the adapter's file has {what}, its configuration has {', '.join(_tasks(layer)) or 'no tasks'} "
                "(row_scale_tasks): the two are not of one save"
            )
    for container, scales in known.items():
        for adapter, scale in scales.items():
            loaded: Tensor | None = state.get(f"{prefix}{container}.{adapter}.weight")
            others = f"{prefix}lora_A.{adapter}.weight", f"{prefix}lora_embedding_A.{adapter}"
            if loaded is not None:
                _check_values(prefix.removesuffix("."), loaded, scale.get_parameter("weight").numel())
            elif any(name in state for name in others):
                raise ModelError(
                    f"the adapter's file has no row scale for {prefix.removesuffix('.')}: it is not an α-LoRA adapter "
                    "of this configuration (a plain LoRA file, or one of other tasks?); load it as what it was saved as"
                )


def _check_values(layer: str, loaded: Tensor, n_rows: int) -> None:
    if tuple(loaded.shape) != (n_rows,):
        raise ModelError(
            f"the row scale of {layer} in the adapter's file has the shape {tuple(loaded.shape)}, the layer has "
            f"{n_rows} rows: the adapter was trained on another base model"
        )
    if loaded.device.type != "meta" and (n_off := int((~torch.isfinite(loaded)).sum())):
        raise ModelError(
            f"the row scale of {layer} in the adapter's file has {n_off} of {n_rows} entries that are not finite: its "
            "training diverged; take an earlier checkpoint"
        )
