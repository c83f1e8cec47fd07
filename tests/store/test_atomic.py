"""One file: through links, into devices, and a sentence for every place that cannot be written to."""

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loralaw.errors import InputError, LoralawError, StorageError
from loralaw.store import write_json, write_text
from loralaw.store.atomic import check_place


@pytest.mark.parametrize("before", [None, "old"], ids=["to nothing", "to a file"])
def test_a_link_is_written_through(before: str | None, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    target, link = tmp_path / "kept" / "x.txt", tmp_path / "link"
    if before is not None:
        target.write_text(before)
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "link", "x.txt"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "x" * 100_000)
    reader.join()
    assert read == ["x" * 100_000]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".", "is a folder: name a file in it"),
        ("file/x", "Not a directory"),
        ("file/new/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("new/" + "x" * 300, None),  # found when the folder is there
    ],
)
def test_what_is_no_place_is_refused_in_a_sentence(name: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    if said is not None:
        with pytest.raises(InputError, match=said):
            check_place(tmp_path / name)
    with pytest.raises(InputError, match=said or "File name too long"):
        write_text(tmp_path / name, "x")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    for name in ("x", "new/folder/x"):
        check_place(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "choose a place that you may write to"),
        (errno.EROFS, "choose a place that you may write to"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, "choose another place"),
    ],
)
def test_each_refusal_has_its_own_remedy(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(StorageError, match=said) as refused:
        write_text(tmp_path / "x", "x")
    assert ("space" in str(refused.value).replace("No space", "")) == (number == errno.ENOSPC)


def test_a_folder_that_may_not_be_written_to_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda place, mode: place != tmp_path)
    with pytest.raises(LoralawError, match="choose a place that you may write to"):
        check_place(tmp_path / "new" / "x")
    monkeypatch.undo()
    check_place(Path(os.devnull))


def test_a_name_that_is_no_text_is_written_as_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"name": os.fsdecode(b"m\xff"), "text": "é"})
    assert json.loads(path.read_bytes().decode("utf-8")) == {"name": "m?", "text": "é"}


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o600)
    write_text(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_threads_that_write_one_file_do_not_tear_it(tmp_path: Path) -> None:
    path, texts = tmp_path / "x", [letter * 100_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: write_text(path, texts[i % 4]), range(40)))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
