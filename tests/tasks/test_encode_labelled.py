"""From labelled texts to rows: what transformers' own tokenizers make of each row alone, padded."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from loralaw.models.heads import let_pad
from loralaw.models.source import EMBEDDED_FOLDER
from loralaw.tasks import Labelled, encode_labelled

MICRO = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "##s"]
texts = st.lists(st.sampled_from(WORDS[:-1]), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of BERT's kind: [CLS] text [SEP] other [SEP], and token types."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={word: number for number, word in enumerate(words)})


def labelled(text: str, other: str | None = None, label: float = 0.0, document: str = "d") -> Labelled:
    return Labelled(text, other, label, document)


def test_a_pair_has_separators_and_types(bert: Any) -> None:
    rows = encode_labelled([labelled("the cat", "a mat"), labelled("cats", "on")], bert, 9, False)
    assert bert.convert_ids_to_tokens(rows.inputs["input_ids"][0].tolist()) == [
        "[CLS]", "the", "cat", "[SEP]", "a", "mat", "[SEP]", "[PAD]", "[PAD]",
    ]  # fmt: skip
    assert rows.inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0, 0]]
    assert rows.inputs["attention_mask"].tolist() == [[1] * 7 + [0] * 2, [1] * 6 + [0] * 3]
    assert bert.convert_ids_to_tokens(rows.inputs["input_ids"][1].tolist())[:3] == ["[CLS]", "cat", "##s"]
    assert {name: tensor.dtype for name, tensor in rows.inputs.items()} == dict.fromkeys(rows.inputs, torch.int64)
    assert list(rows.n_tokens) == [7, 6]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.integers(5, 20))
def test_rows_are_those_of_each_text_alone(bert: Any, pairs: list[tuple[str, str]], max_length: int) -> None:
    rows = encode_labelled([labelled(*pair) for pair in pairs], bert, max_length, False)
    for i, pair in enumerate(pairs):
        (whole,) = bert(*([text] for text in pair))["input_ids"]
        alone = bert(*([text] for text in pair), truncation="longest_first", max_length=max_length)
        n = len(alone["input_ids"][0])
        assert int(rows.n_tokens[i]) == n
        assert bool(rows.is_cut[i]) == (len(whole) > max_length)
        for name, tensor in rows.inputs.items():
            assert tensor.shape == (len(pairs), max_length)
            assert tensor[i, :n].tolist() == alone[name][0]
        assert rows.inputs["input_ids"][i, n:].tolist() == [bert.pad_token_id] * (max_length - n)


@given(st.lists(texts, min_size=1, max_size=6), st.integers(4, 20), st.data())
def test_trimming_loses_padding_only(bert: Any, single: list[str], max_length: int, data: st.DataObject) -> None:
    rows = encode_labelled([labelled(text) for text in single], bert, max_length, False)
    some = data.draw(st.lists(st.sampled_from(range(len(single))), min_size=1))
    first = data.draw(st.integers(0, len(single) - 1))
    for index, chosen in ((some, some), (slice(first, None), list(range(first, len(single))))):
        trimmed = rows.trimmed(index)
        length = max(int(rows.n_tokens[i]) for i in chosen)
        assert {tensor.shape for tensor in trimmed.values()} == {(len(chosen), length)}
        assert int(trimmed["attention_mask"].sum()) == int(rows.n_tokens[chosen].sum())
        for name, tensor in trimmed.items():
            assert torch.equal(tensor, rows.inputs[name][chosen, :length])


def test_the_longer_text_is_cut_and_counted(bert: Any) -> None:
    long, short = "the cat sat on a mat", "a cat"
    rows = encode_labelled([labelled(long, short), labelled(short, long), labelled(short, short)], bert, 9, False)
    assert rows.is_cut.tolist() == [True, True, False]
    words = [bert.convert_ids_to_tokens(ids) for ids in rows.inputs["input_ids"].tolist()]
    assert words[0] == ["[CLS]", "the", "cat", "sat", "on", "[SEP]", "a", "cat", "[SEP]"]
    assert words[1] == ["[CLS]", "a", "cat", "[SEP]", "the", "cat", "sat", "on", "[SEP]"]
    assert encode_labelled([labelled(long, short)], bert, 11, False).is_cut.tolist() == [False]  # exactly full


def test_classes_are_whole_numbers_and_values_are_not(bert: Any) -> None:
    given = [labelled("a", label=2.0), labelled("cat", label=0.0), labelled("on", label=1.0)]
    classes = encode_labelled(given, bert, 8, False)
    assert (classes.labels.dtype, classes.labels.tolist()) == (torch.int64, [2, 0, 1])
    values = encode_labelled([labelled("a", label=2.75), labelled("a", label=0.5)], bert, 8, True)
    assert (values.labels.dtype, values.labels.tolist()) == (torch.float32, [2.75, 0.5])
    assert len(values) == 2


def test_documents_are_numbered_in_their_order(bert: Any) -> None:
    rows = encode_labelled([labelled("a", document=name) for name in ("x", "y", "x", "z")], bert, 8, False)
    assert (rows.document.dtype, rows.document.tolist()) == (torch.int64, [0, 1, 0, 2])


def test_without_token_types_there_are_none() -> None:
    rows = encode_labelled([labelled("one text", "another")], MICRO, 16, False)
    assert set(rows.inputs) == {"input_ids", "attention_mask"}


def test_the_right_side_is_padded_whatever_the_tokenizer_does(bert: Any) -> None:
    given = [labelled("the cat", "a mat"), labelled("a", "cat")]
    expected = encode_labelled(given, bert, 9, False)
    left = BertTokenizer(vocab=bert.get_vocab(), padding_side="left")
    rows = encode_labelled(given, left, 9, False)
    assert all(torch.equal(rows.inputs[name], tensor) for name, tensor in expected.inputs.items())


def test_a_tokenizer_without_padding_pads_with_its_end_token() -> None:
    """As a causal model's often is; its end token at the end of a text then stays a token."""
    bare = PreTrainedTokenizerFast(tokenizer_object=MICRO.backend_tokenizer, eos_token=MICRO.eos_token)
    assert bare.pad_token_id is None
    let_pad("bare", bare)
    rows = encode_labelled([labelled("a text"), labelled("a text that is longer")], bare, 12, False)
    n = int(rows.n_tokens[0])
    assert bare.pad_token_id == MICRO.eos_token_id
    assert rows.inputs["input_ids"][0, n:].tolist() == [MICRO.eos_token_id] * (12 - n)
    assert rows.inputs["attention_mask"][0].tolist() == [1] * n + [0] * (12 - n)
