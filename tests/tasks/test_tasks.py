"""Tasks: whole modules a split, files of the user, and what is scored after encoding."""

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from loralaw.errors import DataError
from loralaw.models.source import EMBEDDED_FOLDER
from loralaw.spec import TaskSpec
from loralaw.tasks import (
    NOT_SCORED,
    Choice,
    Example,
    TaskData,
    encode_choices,
    encode_examples,
    load_task,
    read_texts,
    sample,
)
from loralaw.tasks.stdlib_code import EXAMPLE_CHARACTERS, N_CHOICES


@pytest.fixture(scope="module")
def stdlib() -> TaskData:
    return load_task(TaskSpec(name="stdlib-code"))


TOKENIZER = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")


def test_no_module_is_in_two_splits(stdlib: TaskData) -> None:
    train, validation, test = ({e.document for e in rows} for rows in (stdlib.train, stdlib.validation, stdlib.test))
    assert train
    assert validation
    assert test
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert {c.document for c in stdlib.choices} <= test


def test_examples_are_real_source_of_bounded_length(stdlib: TaskData) -> None:
    import argparse

    pieces = [e.completion for e in stdlib.train + stdlib.validation + stdlib.test if e.document == "argparse"]
    source = Path(argparse.__file__).read_text()
    assert pieces
    assert all(piece in source and len(piece) <= EXAMPLE_CHARACTERS for piece in pieces)


def test_choices_have_one_true_option_among_four(stdlib: TaskData) -> None:
    assert len(stdlib.choices) == N_CHOICES
    for choice in stdlib.choices:
        assert len(set(choice.options)) == 4
    labels = [choice.label for choice in stdlib.choices]
    assert all(labels.count(k) > N_CHOICES / 8 for k in range(4))


def test_the_task_is_the_same_every_time(stdlib: TaskData) -> None:
    assert load_task(TaskSpec(name="stdlib-code")).hash == stdlib.hash


def test_smaller_training_sets_are_part_of_larger_ones(stdlib: TaskData) -> None:
    assert stdlib.train_subset(100, seed=3)[:10] == stdlib.train_subset(10, seed=3)
    assert stdlib.train_subset(10, seed=3) != stdlib.train_subset(10, seed=4)


def test_hash_sees_every_row_and_its_split() -> None:
    a, b = Example("", "a", "x"), Example("", "b", "x")
    assert TaskData("t", [a], [b], []).hash != TaskData("t", [b], [a], []).hash
    assert TaskData("t", [a, b], [], []).hash != TaskData("t", [a], [b], []).hash


def test_sample_keeps_order_and_takes_all_of_few() -> None:
    assert sample([1, 2, 3], 5) == [1, 2, 3]
    drawn = sample(list(range(100)), 10)
    assert drawn == sorted(drawn) == sample(list(range(100)), 10)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5), st.integers(8, 40))
def test_scored_tokens_spell_the_completion(texts: list[str], length: int) -> None:
    rows = encode_examples([Example("", text, "d") for text in texts], TOKENIZER, length)
    for ids, labels, n, cut, text in zip(rows.ids, rows.labels, rows.n_tokens, rows.is_cut, texts, strict=True):
        scored = labels[labels != NOT_SCORED]
        assert scored.tolist() == ids[1:n].tolist()  # all but the start token
        assert (labels[n:] == NOT_SCORED).all()
        if not cut:
            assert TOKENIZER.decode(scored) == text


def test_long_prompts_lose_their_beginning_and_never_the_completion() -> None:
    rows = encode_examples([Example("one two three " * 20, "yes", "d")], TOKENIZER, 16)
    scored = rows.labels[0][rows.labels[0] != NOT_SCORED]
    assert TOKENIZER.decode(scored) == " yes<|endoftext|>"  # with the blank before it, which the tokenizer joins to it
    assert rows.n_tokens.tolist() == [16]
    assert rows.is_cut.tolist() == [True]
    assert rows.n_bytes.tolist() == [4]


def test_choice_rows_score_the_option_only() -> None:
    rows = encode_choices([Choice("if x:", ("\n  a\n", "\n  bb\n"), 0, "d")], TOKENIZER, 32)
    texts = [TOKENIZER.decode(row[row != NOT_SCORED]) for row in rows.labels]
    assert texts == ["\n  a\n", "\n  bb\n"]
    assert rows.n_bytes.tolist() == [5, 6]


def test_without_a_start_token_the_end_token_begins_a_row() -> None:
    """As Qwen's tokenizer: then the first real token is scored too, and bytes and tokens are of the same text."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")
    tokenizer.bos_token = None
    rows = encode_examples([Example("", "yes", "d")], tokenizer, 8)
    assert rows.ids[0, 0] == tokenizer.eos_token_id
    assert tokenizer.decode(rows.labels[0, 1:][rows.labels[0, 1:] != NOT_SCORED]) == "yes"


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_files_of_the_user(tmp_path: Path, ending: str) -> None:
    table = pl.DataFrame({"prompt": [f"q{i}" for i in range(80)], "completion": [f"a{i}" for i in range(80)]})
    path = tmp_path / f"rows{ending}"
    {".jsonl": table.write_ndjson, ".csv": table.write_csv, ".parquet": table.write_parquet}[ending](path)
    data = load_task(TaskSpec(file=path))
    assert len(data.train) + len(data.validation) + len(data.test) == 80
    assert all(e.prompt == "q" + e.completion[1:] for e in data.train)


def test_equal_rows_are_never_in_two_splits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    pl.DataFrame({"text": [f"row {i % 40}" for i in range(400)]}).write_ndjson(path)
    data = load_task(TaskSpec(file=path))
    train, test = {e.completion for e in data.train}, {e.completion for e in data.test}
    assert not train & test


@pytest.mark.parametrize(
    ("name", "content", "columns", "part"),
    [
        ("none.jsonl", None, {}, "no such file"),
        ("x" * 300 + ".jsonl", None, {}, "no such file"),
        ("x.jsonl", "", {}, "is empty"),
        ("x.jsonl", "\ufeff", {}, "is empty"),
        ("x.csv", "\n \n", {}, "is empty"),
        ("x.parquet", "", {}, "is empty"),
        ("x.txt", "a", {}, "ending"),
        ("x.jsonl", '{"text": "a"}\n{"te', {}, "cannot be read as jsonl"),
        ("x.parquet", "not parquet", {}, "cannot be read as parquet"),
        ("x.csv", "txt\na\n", {}, 'it has "txt"'),
        ("x.csv", "txt\na\n", {"text_column": "tx"}, 'Did you mean "txt"'),
        ("x.jsonl", '{"text": 1}\n', {}, "not text"),
        ("x.csv", "text\na\nb\n", {}, "at least 2 are needed"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: str | None, columns: dict[str, str], part: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=part):
        load_task(TaskSpec(file=tmp_path / name, **columns))


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".txt"])
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path, ending: str) -> None:
    table = pl.DataFrame({"text": ["a", "b"]})
    path = tmp_path / f"rows{ending}"
    {
        ".jsonl": table.write_ndjson,
        ".csv": table.write_csv,
        ".parquet": table.write_parquet,
        ".txt": lambda path: path.write_text("a\nb\n"),
    }[ending](path)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    assert read_texts(path.rename(folder / path.name)) == ["a", "b"]


def test_training_rows_are_not_held_out_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text\na\nb\n")
    with pytest.raises(DataError, match="both trained on and held out"):
        load_task(TaskSpec(file=path, test_file=path))


def test_a_byte_order_mark_is_not_data(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(b'{"text": "row %d"}\n' % i for i in range(80)))
    assert load_task(TaskSpec(file=path)).train


def test_unknown_task() -> None:
    with pytest.raises(DataError, match='Did you mean "stdlib-code"'):
        load_task(TaskSpec(name="stdlib-cod"))
