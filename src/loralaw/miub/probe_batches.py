"""From whatever holds text or tokens to padded batches of token ids."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from loralaw.errors import InputError
from loralaw.miub.adapted_layers import base_model_of

ACCEPTED = (
    'give texts, rows with "input_ids" or "text", or batches of 2-D tensors with "input_ids" (a DataLoader, or what a '
    'tokenizer returns with padding=True, return_tensors="pt")'
)
_LABELS = ("labels", "label", "label_ids")


def forward_parameters(model: nn.Module) -> set[str]:
    """The names of what the base model's forward accepts."""
    return set(inspect.signature(base_model_of(model).forward).parameters)


def probe_batches(
    dataset: Iterable[Any] | Mapping[str, Any], model: nn.Module, tokenizer: Any, batch_size: int, max_length: int
) -> list[dict[str, Tensor]]:
    """What `loralaw.probe` runs a model on.

    Args:
        dataset: texts; or rows, each a mapping with "input_ids" (a list or 1-D tensor; "attention_mask" and
            "token_type_ids" are used too) or with "text"; or ready batches; or one ready batch.
        model: the model that will read them; it says which inputs it takes and how long they may be.
        tokenizer: for texts; its padding token is used for rows too.
        batch_size: rows of a batch, where the data are not batches already.
        max_length: tokens of a row, where the data are not batches already; what is longer loses its end. Never more
            than the tokenizer and the model's positions allow.

    Returns:
        Batches of (rows, length) int64 tensors, on the processor. Padding is on the right, and batches made here always
        have an attention mask. Ready batches stay as they are, without labels. Rows without any token are left out.

    Raises:
        InputError: the data are of another form, or there is no token in them.
    """
    for name, value in (("batch_size", batch_size), ("max_length", max_length)):
        if value < 1:
            raise InputError(f"{name}={value}: give at least 1")
    with torch.random.fork_rng(devices=[]):  # a DataLoader draws from the global random state whenever it is iterated
        items = _items(dataset)
    if isinstance(items[0], Mapping) and _is_batch(items[0]):
        batches = [_ready(item, number) for number, item in enumerate(items)]
    else:
        limit = min([max_length, *_limits(model, tokenizer)])
        rows = [row for row in _rows(items, tokenizer, limit) if len(row["input_ids"])]
        wanted = {"input_ids", "attention_mask"} | forward_parameters(model) & {"token_type_ids"}
        pad_id = _pad_id(model, tokenizer)
        batches = [_padded(rows[at : at + batch_size], wanted, pad_id) for at in range(0, len(rows), batch_size)]
    batches = [batch for batch in batches if batch["input_ids"].numel()]
    if not batches:
        raise InputError("the dataset has no token: give some text")
    return batches


def _items(dataset: Iterable[Any] | Mapping[str, Any]) -> list[Any]:
    if isinstance(dataset, str):
        raise InputError(f"the dataset is one string: {ACCEPTED}")
    if isinstance(dataset, Mapping):
        if not _is_batch(dataset):
            raise InputError(f"the dataset is a {type(dataset).__name__} with the keys {list(dataset)[:9]}: {ACCEPTED}")
        return [dataset]
    try:
        items = list(dataset)
    except TypeError:
        raise InputError(f"the dataset is a {type(dataset).__name__}: {ACCEPTED}") from None
    if not items:
        raise InputError(f"the dataset is empty: {ACCEPTED}")
    return items


def _is_batch(item: Mapping[str, Any]) -> bool:
    ids = item.get("input_ids")
    return isinstance(ids, Tensor) and ids.dim() == 2


def _ready(item: Any, number: int) -> dict[str, Tensor]:
    if not (isinstance(item, Mapping) and _is_batch(item)):
        raise InputError(f"batch {number} of the dataset is not like the first: {ACCEPTED}")
    batch = {name: value for name, value in item.items() if name not in _LABELS and isinstance(value, Tensor)}
    if item.get("attention_mask") is not None:  # never lost, whatever it is made of: padding would count as tokens
        batch["attention_mask"] = torch.as_tensor(item["attention_mask"])
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    if ids.is_floating_point():
        raise InputError(f"batch {number} of the dataset: input_ids is {ids.dtype}: give whole numbers")
    if mask is not None and mask.shape != ids.shape:
        raise InputError(
            f"batch {number} of the dataset: attention_mask is {tuple(mask.shape)} and input_ids {tuple(ids.shape)}: "
            "both must be (rows, length), so that padding can be told from tokens"
        )
    return batch


def _rows(items: list[Any], tokenizer: Any, limit: int) -> list[dict[str, Tensor]]:
    first = items[0]
    if isinstance(first, Mapping) and "input_ids" in first:
        return [_row(item, number, limit) for number, item in enumerate(items)]
    if isinstance(first, Mapping) and "text" in first:
        items = [item.get("text") for item in items]
    elif not isinstance(first, str):
        keys = f" with the keys {list(first)[:9]}" if isinstance(first, Mapping) else ""
        raise InputError(f"the dataset holds a {type(first).__name__}{keys}: {ACCEPTED}")
    return _encoded(items, tokenizer, limit)


def _encoded(texts: Sequence[Any], tokenizer: Any, limit: int) -> list[dict[str, Tensor]]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"row {number} of the dataset holds {type(text).__name__} where a text is needed")
    if tokenizer is None:
        raise InputError("the dataset holds texts: give tokenizer=..., the base model's")
    encoded = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)
    return [
        {name: torch.as_tensor(values, dtype=torch.int64) for name, values in zip(encoded, row, strict=True)}
        for row in zip(*encoded.values(), strict=True)
    ]


def _row(item: Any, number: int, limit: int) -> dict[str, Tensor]:
    try:
        ids = torch.as_tensor(item["input_ids"])
        row = {name: torch.as_tensor(item[name]) for name in ("attention_mask", "token_type_ids") if name in item}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"row {number} of the dataset: its input_ids are no list of numbers ({error})") from None
    if ids.dim() != 1 or (len(ids) and ids.is_floating_point()):
        raise InputError(
            f"row {number} of the dataset: input_ids is {ids.dtype} with {ids.dim()} dimensions; a row is a list or "
            f"1-D tensor of whole numbers. Otherwise {ACCEPTED}"
        )
    row = {"input_ids": ids, "attention_mask": torch.ones(len(ids), dtype=torch.int64), **row}
    if any(value.shape != ids.shape for value in row.values()):
        sizes = {name: tuple(value.shape) for name, value in row.items()}
        raise InputError(f"row {number} of the dataset: {sizes}: all must have the same length")
    # Padding at the ends goes, so that the cut leaves tokens wherever the padding was.
    tokens = row["attention_mask"].nonzero().squeeze(1)
    ends = slice(int(tokens[0]), int(tokens[-1]) + 1) if len(tokens) else slice(0)
    return {name: value[ends][:limit].to(torch.int64) for name, value in row.items()}


def _padded(rows: list[dict[str, Tensor]], wanted: set[str], pad_id: int) -> dict[str, Tensor]:
    rows = [{**row, "attention_mask": row.get("attention_mask", torch.ones_like(row["input_ids"]))} for row in rows]
    return {
        name: nn.utils.rnn.pad_sequence([row[name] for row in rows], True, pad_id if name == "input_ids" else 0)
        for name in sorted(wanted)
        if all(name in row for row in rows)
    }


def _limits(model: nn.Module, tokenizer: Any) -> list[int]:
    config = getattr(base_model_of(model), "config", None)
    of_both = (getattr(tokenizer, "model_max_length", None), getattr(config, "max_position_embeddings", None))
    return [int(limit) for limit in of_both if limit is not None]


def _pad_id(model: nn.Module, tokenizer: Any) -> int:
    config = getattr(base_model_of(model), "config", None)
    of_both = (getattr(tokenizer, "pad_token_id", None), getattr(config, "pad_token_id", None))
    return next((int(number) for number in of_both if isinstance(number, int) and number >= 0), 0)
