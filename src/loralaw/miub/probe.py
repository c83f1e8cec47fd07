"""MIUB of any model with LoRA layers: one forward pass over some data, and nothing in the model is changed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from loralaw.errors import InputError
from loralaw.miub.adapted_layers import AdaptedLayer, adapted_layers
from loralaw.miub.estimators import DEFAULT_ESTIMATORS
from loralaw.miub.layer_hooks import LayerHooks
from loralaw.miub.layer_statistics import LayerStatistics
from loralaw.miub.probe_batches import forward_parameters, probe_batches
from loralaw.miub.probe_pass import ProbePass
from loralaw.miub.probe_result import ProbeResult
from loralaw.miub.scratch import Scratch
from loralaw.tuners.peft_surface import base_model_of
from loralaw.tuners.undisturbed import undisturbed


def probe(
    model: nn.Module,
    dataset: Iterable[Any] | Mapping[str, Any],
    *,
    tokenizer: Any = None,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    batch_size: int = 8,
    max_length: int = 512,
) -> ProbeResult:
    """Measure how much the active adapter leans on the frozen base, at every layer that it adapts.

    At each layer the features of each real token are what the frozen layer gives, z, and what the adapter adds, u; the
    estimators compare the two (docs/miub.md). One pass, without gradients and in evaluation mode; the features are not
    kept. Weights, modes and torch's random state are left as they were, also when the pass fails.

    LoRA (rank-stabilised, several active adapters: their sum), DoRA and α-LoRA on linear layers (quantised too),
    embeddings and convolutions are measured. Other layers are listed in `ProbeResult.skipped` with the reason. Where a
    mixture of experts regroups tokens, an expert's padding cannot be told from its tokens and counts.

    Args:
        model: a `PeftModel`, or any torch module with PEFT's LoRA layers in it; on any device, in any type.
        dataset: texts (with `tokenizer`); rows with "input_ids" or "text", such as a `datasets.Dataset`; ready batches,
            such as a DataLoader's; or one ready batch. See `probe_batches`.
        tokenizer: the base model's, for texts.
        estimators: names of `loralaw.miub.STATISTICS`. The norm ratio, the cosine and the effective rank come always.
        batch_size: sequences of a forward pass, where the data are not batches already.
        max_length: tokens of a sequence, where the data are not batches already; what is longer is cut.

    Returns:
        One row a layer, the means over layers, and the layers that were not measured with the reason; in nats.

    Raises:
        InputError: no model, no LoRA layer, adapters that are merged or disabled, data that cannot be used, too few
            tokens, or features that are not finite numbers. What the model's forward raises is passed on.

    **Cost.** One forward pass and the sums: in all about a plain pass where layers are wide, more where they are narrow
    (`benchmarks/results/probe_cost.md`). O(features) numbers a layer.
    **Source**: ours; what MIUB is meant to be: arXiv 2501.03152.

    >>> import torch
    >>> from peft import LoraConfig, get_peft_model
    >>> from transformers import AutoModelForCausalLM, AutoTokenizer
    >>> from loralaw.models import find_model
    >>> place = find_model("micro-0.4m").location
    >>> model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    >>> model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    >>> result = probe(model, ["It was a dark night.", "She laughed."], tokenizer=AutoTokenizer.from_pretrained(place))
    >>> len(result.layers), result.means["miub_nats"]  # an untrained adapter carries nothing
    (14, 0.0)
    """
    layers, skipped = adapted_layers(model)
    if "decoder_input_ids" in forward_parameters(model):
        raise InputError(
            f"{type(base_model_of(model)).__name__} is an encoder with a decoder, whose padding differs: probe one of "
            "the two, such as model.get_encoder()"
        )
    statistics = LayerStatistics(estimators)
    batches = probe_batches(dataset, model, tokenizer, batch_size, max_length)
    _check_vocabulary(model, batches)
    measured = ProbePass(statistics, " + ".join(dict.fromkeys(name for layer in layers for name in layer.adapters)))
    with ExitStack() as undo:
        undo.enter_context(undisturbed(model))
        scratch = Scratch()
        for layer in layers:
            undo.enter_context(LayerHooks(layer, measured.add, scratch))
        measured.run(model, batches, _extra_inputs(model, layers))
    return _result(measured, model, layers, tuple(estimators), skipped)


def _check_vocabulary(model: nn.Module, batches: list[dict[str, Any]]) -> None:
    """Refuse token numbers that the model has no embedding for: a tokenizer of another model, or one that has grown."""
    try:
        embedding = getattr(base_model_of(model), "get_input_embeddings", lambda: None)()
    except NotImplementedError:  # a model without a table of tokens (CANINE)
        embedding = None
    n_known = getattr(embedding, "num_embeddings", None)
    largest = max(int(batch["input_ids"].max()) for batch in batches)
    smallest = min(int(batch["input_ids"].min()) for batch in batches)
    if smallest < 0:
        raise InputError(
            f"the data hold the token {smallest}: numbers of tokens begin at 0; for padding give 0 there and in the "
            "attention_mask"
        )
    if n_known is not None and largest >= n_known:
        raise InputError(
            f"the data hold the token {largest}, the model's embedding has {n_known}: use the base model's own "
            "tokenizer, or enlarge the embedding before the adapter is loaded"
        )


def _result(
    measured: ProbePass,
    model: nn.Module,
    layers: list[AdaptedLayer],
    estimators: tuple[str, ...],
    skipped: dict[str, str],
) -> ProbeResult:
    skipped = skipped | {layer.name: reason for layer in layers if (reason := measured.why_not(layer.name))}
    by_name = {layer.name: layer for layer in layers if layer.name not in skipped}
    if not by_name:
        name, reason = next(iter(skipped.items()))
        raise InputError(f"no layer could be measured on {measured.n_tokens} tokens; {name}: {reason}")
    ranks = {name: layer.effective_rank() for name, layer in by_name.items()}
    full_rows: list[dict[str, Any]] = []
    for row in measured.statistics.rows(measured.adapter):
        name = str(row["layer"])
        full_rows.append({"layer": name, "module": name.rpartition(".")[2], **row, "effective_rank": ranks[name]})
        _check_finite(full_rows[-1])
    means = {**measured.statistics.means(measured.adapter), "effective_rank": sum(ranks.values()) / len(ranks)}
    return ProbeResult(
        adapter=measured.adapter,
        base_model=getattr(base_model_of(model), "name_or_path", None) or None,
        estimators=estimators,
        n_tokens=measured.n_tokens,
        n_sequences=measured.n_sequences,
        layers=full_rows,
        means=means,
        skipped=skipped,
    )


def _check_finite(row: Mapping[str, Any]) -> None:
    """The rows are in the order of the pass: the first that is not finite is where it began."""
    if any(isinstance(value, float) and math.isnan(value) for value in row.values()):
        raise InputError(
            f"{row['layer']}: what the frozen layer gives or the adapter adds is not a finite number: the adapter has "
            "diverged, or the numbers are too large for the type the model runs in"
        )


def _extra_inputs(model: nn.Module, layers: list[AdaptedLayer]) -> dict[str, Any]:
    """Inputs that save memory: no cache of keys and values, and no logits that nobody reads."""
    accepted = forward_parameters(model)
    extra: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}
    base: Any = base_model_of(model)
    if "logits_to_keep" in accepted and type(base).__module__.startswith("transformers."):
        head = base.get_output_embeddings()
        if head is not None and not any(layer.module in set(head.modules()) for layer in layers):
            # Positions, but none: a number keeps at least one, whose logits in bfloat16 are slow on some processors.
            extra["logits_to_keep"] = torch.empty(0, dtype=torch.int64)
    return extra
