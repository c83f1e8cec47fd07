"""A model whose weights are spread over devices, a process each (FSDP): what is different from one that lies whole."""

from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def is_sharded(model: PreTrainedModel) -> bool:
    """Whether `load_base_model` has spread it."""
    return bool(model.is_distributed_loading_by_transformers)


def can_be_sharded(model: PreTrainedModel) -> bool:
    """Whether it can be spread: its weights are plain numbers, and transformers' plan for it names its layers, without
    which every device would gather all weights at once.

    Args:
        model: without weights suffices.
    """
    names = {name for name, _ in model.named_modules()}
    names_layers = any(rule.endswith(".*") and f"{rule[:-1]}0" in names for rule in model.fsdp_plan)
    return names_layers and getattr(model.config, "quantization_config", None) is None


def let_go(model: PreTrainedModel) -> None:
    """Free the whole weights that a forward pass has left gathered; until then, those are the model's parameters."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread; all processes of the model must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
