"""The pretraining corpus: public-domain English novels, split by whole books, as one stream of tokens a split."""

from pathlib import Path

import numpy as np
import polars as pl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
CONTEXT = 512
END, PAD = "<|endoftext|>", "<|pad|>"


def books(path: Path, split: str) -> list[str]:
    """The texts of one split (train, validation or test), whole books in the order of the file."""
    return pl.read_parquet(path, columns=["split", "text"]).filter(pl.col("split") == split)["text"].to_list()


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 4,096 tokens: any text can be encoded, nothing is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(keepends=True)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD, model_max_length=CONTEXT
    )


def token_stream(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """All books of a split as one uint16 array, an end token after each book."""
    parts = []
    for text in texts:
        lines = tokenizer.backend_tokenizer.encode_batch(text.splitlines(keepends=True))
        parts.append(np.concatenate([np.asarray(line.ids, np.uint16) for line in lines if line.ids]))
        parts.append(np.array([tokenizer.eos_token_id], np.uint16))
    return np.concatenate(parts)
