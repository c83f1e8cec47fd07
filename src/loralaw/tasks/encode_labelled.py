"""From labelled texts to token rows for a model with a classification head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loralaw.tasks.task_data import Labelled


@dataclass(frozen=True)
class LabelledRows:
    """Token rows of equal padded length, each with one label.

    inputs: what the model is called with, each (rows, length) int64: input_ids, attention_mask, and token_type_ids
    where the tokenizer has them. labels: (rows,), int64 classes or float32 values. document: (rows,) int64, the number
    of the source document. is_cut: (rows,) bool, whether the text was longer than the rows.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    document: Tensor
    is_cut: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_tokens(self) -> Tensor:
        """(rows,) int64, the real tokens of a row."""
        return self.inputs["attention_mask"].sum(1)

    def trimmed(self, rows: slice | Sequence[int]) -> dict[str, Tensor]:
        """The inputs of some rows, as long as the longest of them."""
        length = max(1, int(self.n_tokens[rows].max()))
        return {name: tensor[rows, :length] for name, tensor in self.inputs.items()}


def encode_labelled(rows: Sequence[Labelled], tokenizer: Any, max_length: int, is_regression: bool) -> LabelledRows:
    """Encode texts and pairs of texts as the tokenizer does it, with its special tokens.

    What is too long loses the end of the longer of its two texts, token by token.

    Args:
        rows: one or more.
        tokenizer: of the model, with a padding token.
        max_length: tokens of a row.
        is_regression: whether labels are values instead of classes.
    """
    texts: list[list[str]] = [[row.text for row in rows]]
    if rows[0].other_text is not None:
        texts.append([row.other_text or "" for row in rows])
    names = {"input_ids", "attention_mask", "token_type_ids"} & {*tokenizer.model_input_names, "attention_mask"}
    encoded = tokenizer(
        *texts,
        truncation="longest_first",
        max_length=max_length,
        padding="max_length",
        padding_side="right",
        return_attention_mask=True,
        return_tensors="pt",
    )
    whole = tokenizer(*texts, verbose=False)["input_ids"]
    number = {name: i for i, name in enumerate(dict.fromkeys(row.document for row in rows))}
    labels = torch.tensor([row.label for row in rows], dtype=torch.float32)
    return LabelledRows(
        {name: encoded[name] for name in sorted(names)},
        labels if is_regression else labels.long(),
        torch.tensor([number[row.document] for row in rows]),
        torch.tensor([len(ids) > max_length for ids in whole]),
    )
