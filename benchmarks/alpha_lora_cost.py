"""What a row scale costs in a training step: time and memory of α-LoRA beside PEFT's LoRA and DoRA.

    python benchmarks/alpha_lora_cost.py [--quick]

A Llama of hidden size 256 with 4 layers, batches of 8 x 128 tokens, float32, one thread. All arms take their steps in
turns, each round in another order; what is compared are processor seconds of whole steps (forward, backward, AdamW),
as medians of the ratios to LoRA's step of the same round. Memory: what autograd keeps after the forward pass, without
parameters. Some eight minutes; writes `results/alpha_lora_cost.md`.
"""

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from provenance import provenance, table
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import LlamaConfig, LlamaForCausalLM

from loralaw.store.atomic import write_text
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.row_scale import active_row_scale, is_row_scale
from loralaw.tuners.row_scale_variant import RowScaleVariant

ROUNDS, BATCH, LENGTH, VOCABULARY = 40, 8, 128, 1000
TARGETS = {"all linear layers": "all-linear", "q_proj and v_proj": ["q_proj", "v_proj"]}
RESULT = Path(__file__).parent / "results" / "alpha_lora_cost.md"


def llama() -> nn.Module:
    torch.manual_seed(0)
    size = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **size))


class _InPlace(torch.autograd.Function):
    """delta + W̃x, with α's gradient Σ g·(W̃x)/α."""

    @staticmethod
    def forward(ctx: Any, scaled: Tensor, delta: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(scaled, alpha)
        return scaled + delta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, alpha = ctx.saved_tensors
        return gradient, gradient, (scaled * gradient).flatten(0, -2).sum(0) / alpha


class InPlaceVariant(RowScaleVariant):
    """The experiment: the frozen layer holds W̃ = α ⊙ W, so that a step of the adapter is LoRA's."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        delta = module.lora_B[active_adapter](module.lora_A[active_adapter](x)) * module.scaling[active_adapter]
        alpha = active_row_scale(module, active_adapter).weight
        return _InPlace.apply(result, delta, alpha) if alpha.requires_grad else result + delta


def adapted(config: LoraConfig) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(llama(), config)


def alpha_lora(targets: Any, *, trains_alpha: bool, trains_adapter: bool = True, **settings: Any) -> nn.Module:
    model = adapted(AlphaLoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM", **settings))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.requires_grad_(trains_alpha if is_row_scale(name) else trains_adapter)
    return model


def in_place(targets: Any, *, trains_alpha: bool) -> nn.Module:
    model = alpha_lora(targets, trains_alpha=trains_alpha, trains_adapter=not trains_alpha)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_variant["default"] = InPlaceVariant()
    return model


@torch.no_grad()
def refresh(model: nn.Module) -> None:
    """W̃ ← W̃ ⊙ (α/α_before); a copy of W instead of this division would be as large as the model."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            alpha = active_row_scale(layer, "default").weight
            layer.get_base_layer().weight.mul_((alpha / getattr(layer, "alpha_before", 1.0))[:, None])
            layer.alpha_before = alpha.detach().clone()


@dataclass(frozen=True)
class Arm:
    model: Callable[[Any], nn.Module]
    after: Callable[[nn.Module], None] = lambda model: None


ARMS = {
    "LoRA": Arm(lambda targets: adapted(LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))),
    "LoRA again": Arm(lambda targets: adapted(LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))),
    "α-LoRA, step of the adapter (α frozen)": Arm(lambda targets: alpha_lora(targets, trains_alpha=False)),
    "α-LoRA, step of α (adapter frozen)": Arm(
        lambda targets: alpha_lora(targets, trains_alpha=True, trains_adapter=False)
    ),
    "α-LoRA, step of both, save": Arm(lambda targets: alpha_lora(targets, trains_alpha=True)),
    "α-LoRA, step of both, recompute": Arm(
        lambda targets: alpha_lora(targets, trains_alpha=True, row_scale_memory="recompute")
    ),
    "α·W in place, step of the adapter": Arm(lambda targets: in_place(targets, trains_alpha=False)),
    "α·W in place, step of α with the refresh": Arm(lambda targets: in_place(targets, trains_alpha=True), refresh),
    "DoRA": Arm(lambda targets: adapted(LoraConfig(r=8, target_modules=targets, use_dora=True, task_type="CAUSAL_LM"))),
}


class Step:
    """One arm: its model, its optimizer, its batch."""

    def __init__(self, arm: Arm, targets: Any) -> None:
        self.model, self._after = arm.model(targets), arm.after
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        self._ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))

    def seconds(self) -> float:
        started = time.process_time()
        self.model(input_ids=self._ids, labels=self._ids).loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._after(self.model)
        return time.process_time() - started

    def kept_bytes(self) -> int:
        own = {p.untyped_storage().data_ptr() for p in (*self.model.parameters(), *self.model.buffers())}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.model(input_ids=self._ids, labels=self._ids).loss
        total = sum(kept.values())
        del loss
        return total


def measure(targets: Any, rounds: int) -> list[list[str]]:
    """A row for every arm."""
    steps = {name: Step(arm, targets) for name, arm in ARMS.items()}
    kept = {name: step.kept_bytes() for name, step in steps.items()}
    for step in steps.values():
        step.seconds()
        step.seconds()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(steps), len(steps)):
            seconds[name].append(steps[name].seconds())
    rows = []
    for name, step in steps.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(seconds[name], seconds["LoRA"], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-len(ratios) // 4]
        n_trained = sum(p.numel() for p in step.model.parameters() if p.requires_grad)
        rows.append(
            [
                name,
                f"{1000 * statistics.median(seconds[name]):.0f}",
                f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})",
                f"{kept[name] / kept['LoRA']:.2f}",
                f"{n_trained:,}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    rounds = 2 if options.quick else ROUNDS
    columns = ["arm", "ms a step", "over LoRA (middle half of the rounds)", "kept for backward, over LoRA", "trained"]
    text = f"# The cost of a row scale\n\n{provenance(f'{rounds} rounds.')}"
    for title, targets in TARGETS.items():
        text += f"\n## {title}\n\n{table(columns, measure(targets, rounds))}"
    print(text)
    if not options.quick:
        write_text(RESULT, text)


if __name__ == "__main__":
    main()
