"""A study in one file: what it says, what its page draws, and what is refused."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from synthetic_study import write_synthetic

from loralaw.errors import InputError, StudyFolderError
from loralaw.laws import fit, read_table
from loralaw.report import write_report
from loralaw.store import Study, StudyFile, read_study, write_study_file

FAILED = {1: ("diverged", "the loss was nan at step 41"), 4: ("out-of-memory", "needed 9 GiB, had 7 GiB")}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Not finished, and with cells that failed."""
    return write_synthetic(tmp_path_factory.mktemp("study"), sizes=[8, 64], seeds=[0], n_run=20, failed=FAILED)


@pytest.fixture(scope="module")
def file(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "study.parquet"
    write_study_file(study, path)
    return path


def test_it_says_what_the_folder_says(study: Study, file: Path) -> None:
    read = read_study(file)
    assert isinstance(read, StudyFile)
    assert isinstance(read_study(study.path), Study)
    assert read.name == study.name
    assert read.settings == study.settings
    assert read.provenance == study.provenance
    assert read.planned_keys == study.planned_keys
    assert read.records() == study.records()
    assert read.table().equals(study.table())
    assert read.table()["status"].value_counts().sort("status").rows() == [
        ("diverged", 1),
        ("finished", 18),
        ("out-of-memory", 1),
    ]


def test_its_page_is_that_of_the_folder(study: Study, file: Path, tmp_path: Path) -> None:
    """But for the links to the folders of cells, which are not in it."""
    page = write_report(read_study(file))
    assert page == file.with_suffix(".html")
    of_folder, links = write_report(study, tmp_path / "folder.html").read_text(), r'<a href="cells/[^>]*>(.*?)</a>'
    assert re.search(links, of_folder)
    assert page.read_text() == re.sub(links, r"\1", of_folder)


def test_to_others_it_is_a_table(study: Study, file: Path) -> None:
    table = read_table(file)
    assert table.drop("record").equals(study.table())
    laws = [fit(each, metric="cross_entropy", axis="rank").params for each in (table, study.table())]
    assert laws[0] == laws[1]


def test_a_file_of_a_file_is_the_same(file: Path, tmp_path: Path) -> None:
    write_study_file(read_study(file), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()


def test_an_older_file_stays_where_the_new_one_cannot_be_written(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write_study_file(study, tmp_path)
    (tmp_path / "note").write_text("x")
    with pytest.raises(InputError, match="not a place"):
        write_study_file(study, tmp_path / "note" / "study.parquet")


def _rewritten(file: Path, path: Path, study: dict[str, Any] | None = None, record: str | None = None) -> Path:
    """The file with other contents."""
    table, content = pl.read_parquet(file), json.loads(pl.read_parquet_metadata(file)["loralaw_study"])
    table = table if record is None else table.with_columns(record=pl.lit(record))
    table.write_parquet(path, metadata={"loralaw_study": json.dumps({**content, **(study or {})})})
    return path


@pytest.mark.parametrize(
    ("changed", "record", "part"),
    [
        ({"format": 99}, None, "study format 99"),
        ({"settings": {}}, None, "it has no name"),
        ({"planned_keys": [1]}, None, "what is no key"),
        ({"provenance": {"base_model_hashes": 3}}, None, "no base_model_hashes"),
        (None, "{", "is damaged"),
        (None, "3", "does not hold an object"),
        (None, "{}", "has format None"),
        (None, '{"format": 1, "key": "k"}', "has no status"),
    ],
)
def test_a_damaged_file_is_refused(
    changed: dict[str, Any] | None, record: str | None, part: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyFolderError, match=part):
        read_study(_rewritten(file, tmp_path / "other.parquet", changed, record))


def test_what_is_no_such_file(study: Study, tmp_path: Path) -> None:
    study.table().write_parquet(tmp_path / "table.parquet")
    with pytest.raises(StudyFolderError, match="--records -o"):
        read_study(tmp_path / "table.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(StudyFolderError, match="cannot be read as a study in Parquet"):
        read_study(tmp_path / "text.parquet")
    with pytest.raises(StudyFolderError, match="No such file"):
        read_study(tmp_path / "absent.parquet")
    with pytest.raises(StudyFolderError, match="name too long"):
        read_study(tmp_path / f"{'x' * 300}.parquet")


def test_another_ending_is_refused_for_the_page_would_take_the_place_of_the_study(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "study.html"
    other.write_bytes(file.read_bytes())
    with pytest.raises(StudyFolderError, match=r"not a \.parquet file"):
        read_study(other)


def test_names_are_no_patterns(file: Path, tmp_path: Path) -> None:
    (tmp_path / "run1.parquet").write_text("another")
    path = tmp_path / "run[1].parquet"
    path.write_bytes(file.read_bytes())
    assert read_study(path).table().height == StudyFile(file).table().height


@pytest.mark.parametrize("place", [("layers",), ("cell", "evaluation"), ("cell", "rank"), ("cell", "task")])
@pytest.mark.parametrize("value", ["[1]", "5", "null", '{"name": "\\ud800"}', "1e999", "[" * 5000, "9" * 5000])
def test_hostile_records_give_one_message_or_a_page(
    place: tuple[str, ...], value: str, file: Path, tmp_path: Path
) -> None:
    record = json.loads(pl.read_parquet(file)["record"][0])
    inner = record
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = "HERE"
    text = json.dumps(record).replace('"HERE"', value)
    with suppress(StudyFolderError):
        write_report(read_study(_rewritten(file, tmp_path / "hostile.parquet", record=text)))


def test_a_link_is_written_through(study: Study, tmp_path: Path) -> None:
    (tmp_path / "link.parquet").symlink_to(tmp_path / "real.parquet")
    write_study_file(study, tmp_path / "link.parquet")
    assert (tmp_path / "link.parquet").is_symlink()
    assert read_study(tmp_path / "real.parquet").name == study.name
