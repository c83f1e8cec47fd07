"""Encoding: context and continuation are one text to the tokenizer, and a row begins with the start token once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from loralaw.errors import DataError
from loralaw.models.source import EMBEDDED_FOLDER
from loralaw.tasks import NOT_SCORED, Choice, Example, encode_choices, encode_examples, encode_questions


def tokenizer_of_the_micro_family() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")


TOKENIZER = tokenizer_of_the_micro_family()
START = TOKENIZER.bos_token_id
TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
TEXT = st.text(st.sampled_from("ab c\n é→.<|0"), min_size=1, max_size=20)


@given(TEXT, TEXT)
def test_rows_are_the_tokens_of_the_whole_text(prompt: str, completion: str) -> None:
    rows = encode_examples([Example(prompt, completion, "d")], TOKENIZER, 128)
    ids = rows.ids[0, : rows.n_tokens[0]].tolist()
    assert ids == [START, *TOKENIZER(prompt + completion)["input_ids"], TOKENIZER.eos_token_id]
    assert TOKENIZER.decode(ids[1:-1]) == prompt + completion
    scored = rows.labels[0][rows.labels[0] != NOT_SCORED].tolist()
    assert ids[-len(scored) :] == scored
    # The split is where the prompt would end alone; a blank before it is scored.
    kept = prompt.rstrip()
    n_prompt = min(len(TOKENIZER(kept)["input_ids"]), len(ids) - 3)
    assert len(ids) - len(scored) == 1 + n_prompt
    assert rows.n_bytes.tolist() == [len((prompt[len(kept) :] + completion).encode())]


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), st.integers(6, 40))
def test_options_of_a_question_are_compared_on_the_same_context(
    context: str, options: list[str], max_length: int
) -> None:
    rows = encode_choices(
        [Choice(context.rstrip() + ".", tuple(" " + o for o in options), 0, "d")], TOKENIZER, max_length
    )
    n_scored = (rows.labels != NOT_SCORED).sum(1).tolist()
    n_context = [int(n) - scored for n, scored in zip(rows.n_tokens, n_scored, strict=True)]
    assert (rows.ids[:, 0] == START).all()
    assert all(n >= 1 for n in n_scored)
    assert all(int(n) <= max_length for n in rows.n_tokens)
    assert len(set(n_context)) == 1
    assert len({tuple(ids[:n]) for ids, n in zip(rows.ids.tolist(), n_context, strict=True)}) == 1


def test_a_start_token_in_the_text_is_not_doubled() -> None:
    given_by_text = encode_examples([Example("<|endoftext|>a b", " c", "d")], TOKENIZER, 16)
    plain = encode_examples([Example("a b", " c", "d")], TOKENIZER, 16)
    assert given_by_text.ids.tolist() == plain.ids.tolist()
    assert given_by_text.labels.tolist() == plain.labels.tolist()


def test_a_token_that_joins_prompt_and_completion_is_scored() -> None:
    rows = encode_examples([Example("th", "e", "d")], TOKENIZER, 8)
    assert TOKENIZER.decode(rows.labels[0][rows.labels[0] != NOT_SCORED]) == "the<|endoftext|>"


def test_chats_go_through_the_template() -> None:
    tokenizer = tokenizer_of_the_micro_family()
    tokenizer.chat_template = TEMPLATE
    rows = encode_examples([Example("a b", " c", "d"), Example("", "text", "d")], tokenizer, 64, is_chat=True)
    texts = [tokenizer.decode(ids[:n]) for ids, n in zip(rows.ids, rows.n_tokens, strict=True)]
    assert texts == ["<|endoftext|><user>a b<assistant> c<|endoftext|>", "<|endoftext|>text"]
    scored = [tokenizer.decode(labels[labels != NOT_SCORED]) for labels in rows.labels]
    assert scored == [" c<|endoftext|>", "text"]
    asked = encode_questions([Choice("a", (" b", " c"), 0, "d")], tokenizer, 64, is_chat=True)
    assert tokenizer.decode(asked.rows.ids[0, : asked.rows.n_tokens[0]]) == "<|endoftext|><user>a<assistant> b"


def test_a_chat_needs_a_template() -> None:
    with pytest.raises(DataError, match="no chat template"):
        encode_examples([Example("a", "b", "d")], TOKENIZER, 8, is_chat=True)


def test_questions_may_have_different_numbers_of_options() -> None:
    asked = encode_questions(
        [Choice("a", (" b", " c"), 1, "x"), Choice("a", (" b", " c", " d"), 0, "y"), Choice("z", (" b",), 0, "x")],
        TOKENIZER,
        16,
    )
    assert asked.question.tolist() == [0, 0, 1, 1, 1, 2]
    assert asked.labels.tolist() == [1, 0, 0]
    assert asked.document.tolist() == [0, 1, 0]
    assert [len(tree.options) for tree in asked.trees()] == [2, 3, 1]
    assert len(asked.single_rows()) == 6
