"""From whatever holds text or tokens to padded batches of token ids."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from loralaw.errors import InputError
from loralaw.tuners.peft_surface import base_model_of

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
        Batches of (rows, length) tensors by name. Those made here are int64, on the processor, padded on the right, and
        always have an attention mask; rows without any token are left out. Of ready batches all tensors but the labels
        are handed on, in their own type and on their own device, except that `input_ids` become int64; a mask that is
        a list becomes a tensor, and one that is None is dropped: then every place is a token.

    Raises:
        InputError: the data are of another form, there is no token in them, or a size is not a whole number of at least
            1.
    """
    check_whole_number("batch_size", batch_size)
    check_whole_number("max_length", max_length)
    items = items_of(dataset)
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


def check_whole_number(name: str, value: object) -> None:
    """Raise `InputError` unless the value is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}={value!r}: give a whole number of at least 1")


def items_of(dataset: Iterable[Any] | Mapping[str, Any]) -> list[Any]:
    """The texts, rows or batches of a dataset, read once; what is returned here is a dataset too."""
    if isinstance(dataset, str):
        raise InputError(f"the dataset is one string: {ACCEPTED}")
    if isinstance(dataset, Mapping):
        if not _is_batch(dataset):
            raise InputError(f"the dataset is a {_described(dataset)}: {ACCEPTED}")
        return [dataset]
    with torch.random.fork_rng(devices=[]):  # a DataLoader draws from the global random state whenever it is iterated
        try:
            iterator = iter(dataset)
        except TypeError:
            raise InputError(f"the dataset is a {type(dataset).__name__}: {ACCEPTED}") from None
        items = list(iterator)
    if not items:
        raise InputError(f"the dataset is empty: {ACCEPTED}")
    return items


def _is_batch(item: Mapping[str, Any]) -> bool:
    ids = item.get("input_ids")
    return isinstance(ids, Tensor) and ids.dim() == 2


def _described(item: Any) -> str:
    keys = f" with the keys {list(item)[:9]}" if isinstance(item, Mapping) else ""
    return f"{type(item).__name__}{keys}"


def _ready(item: Any, number: int) -> dict[str, Tensor]:
    where = f"batch {number} of the dataset"
    if not (isinstance(item, Mapping) and _is_batch(item)):
        raise InputError(f"{where} is a {_described(item)}, not like the first: {ACCEPTED}")
    batch = {name: value for name, value in item.items() if name not in _LABELS and isinstance(value, Tensor)}
    if item.get("attention_mask") is not None:  # never lost, whatever it is made of: padding would count as tokens
        batch["attention_mask"] = _numbers(item, "attention_mask", where)
    ids, mask = _token_numbers(item, where), batch.get("attention_mask")
    if mask is not None and mask.shape != ids.shape:
        raise InputError(
            f"{where}: attention_mask is {tuple(mask.shape)} and input_ids {tuple(ids.shape)}: "
            "both must be (rows, length), so that padding can be told from tokens"
        )
    return {**batch, "input_ids": ids}


def _numbers(item: Mapping[str, Any], name: str, where: str) -> Tensor:
    try:
        return torch.as_tensor(item[name])
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: None, or numbers beyond int64
        raise InputError(f"{where}: its {name} is no list of numbers ({error})") from None


def _token_numbers(item: Mapping[str, Any], where: str) -> Tensor:
    """`input_ids`, of any shape, as int64."""
    ids = _numbers(item, "input_ids", where)
    if ids.numel() and (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool):
        raise InputError(f"{where}: input_ids is {ids.dtype}: give whole numbers")
    return ids.to(torch.int64)


def _rows(items: list[Any], tokenizer: Any, limit: int) -> list[dict[str, Tensor]]:
    key = _key(items[0])
    if key is None:
        raise InputError(f"the dataset holds a {_described(items[0])}: {ACCEPTED}")
    for number, item in enumerate(items):
        if _key(item) != key:
            raise InputError(f"row {number} of the dataset is a {_described(item)}, not like the first: {ACCEPTED}")
    if key == "input_ids":
        return [_row(item, number, limit) for number, item in enumerate(items)]
    return _encoded([item[key] for item in items] if key else items, tokenizer, limit)


def _key(item: Any) -> str | None:
    """Where a row holds its tokens; "" for a text by itself, None for what is no row."""
    if isinstance(item, str):
        return ""
    return next((key for key in ("input_ids", "text") if isinstance(item, Mapping) and key in item), None)


def _encoded(texts: Sequence[Any], tokenizer: Any, limit: int) -> list[dict[str, Tensor]]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"row {number} of the dataset holds {type(text).__name__} where a text is needed")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"row {number} of the dataset is no valid Unicode ({error}): read its file with the right encoding, or "
                'drop what is broken with text.encode(errors="ignore").decode()'
            ) from None
    if not callable(tokenizer):
        raise InputError(
            f"the dataset holds texts, the tokenizer is a {type(tokenizer).__name__}: give tokenizer=..., the base "
            "model's"
        )
    encoded = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)
    return [
        {name: torch.as_tensor(values, dtype=torch.int64) for name, values in zip(encoded, row, strict=True)}
        for row in zip(*encoded.values(), strict=True)
    ]


def _row(item: Mapping[str, Any], number: int, limit: int) -> dict[str, Tensor]:
    where = f"row {number} of the dataset"
    ids = _token_numbers(item, where)
    if ids.dim() != 1:
        raise InputError(
            f"{where}: input_ids has {ids.dim()} dimensions; a row is a list or 1-D tensor of whole numbers. "
            f"Otherwise {ACCEPTED}"
        )
    row = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in ("attention_mask", "token_type_ids"):
        if item.get(name) is not None:
            row[name] = _numbers(item, name, where)
    if any(value.shape != ids.shape for value in row.values()):
        sizes = {name: tuple(value.shape) for name, value in row.items()}
        raise InputError(f"{where}: {sizes}: all must have the same length")
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
    return [int(limit) for limit in of_both if limit is not None and limit > 0]  # -1 is XLNet's word for none


def _pad_id(model: nn.Module, tokenizer: Any) -> int:
    config = getattr(base_model_of(model), "config", None)
    of_both = (getattr(tokenizer, "pad_token_id", None), getattr(config, "pad_token_id", None))
    return next((int(number) for number in of_both if isinstance(number, int) and number >= 0), 0)
