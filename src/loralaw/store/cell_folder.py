"""The folder of one cell: what it is, its log, what it trained, and its record."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loralaw._version import __version__
from loralaw.spec import Cell
from loralaw.store.atomic import storage_error, sync_files, write_json, write_text
from loralaw.store.events import append_event, read_events

FORMAT = 1
ADAPTER, MODEL = "adapter", "model"
"""Folders of what a cell trained, inside the cell's own: PEFT's, or transformers' where all weights were trained."""


class CellFolder:
    """Where a cell is trained. The record comes last: while there is none, the cell has not ended.

    cell.json       what the cell is
    events.jsonl    its training log
    adapter/        an ordinary PEFT adapter,
    model/          or, after full fine-tuning, an ordinary folder of transformers
    error.txt       the traceback of a cell that failed
    record.json     present = ended: its result for good
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    def begin(self, cell: Cell) -> None:
        """Write what the cell is, and forget an attempt that was killed or failed.

        Raises:
            StorageError: the disk refused.
        """
        write_json(self.path / "cell.json", cell.settings())
        for name in ("record.json", "events.jsonl", "error.txt"):
            (self.path / name).unlink(missing_ok=True)
        for name in (ADAPTER, MODEL):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def log(self, event: dict[str, Any]) -> None:
        """Add a line to the training log."""
        append_event(self.path / "events.jsonl", event)

    def events(self) -> list[dict[str, Any]]:
        """The lines of the training log, without a torn last one.

        Raises:
            StudyFolderError: a line before the last is torn.
        """
        return read_events(self.path / "events.jsonl")

    def write_part(self, name: str, offset: int, content: bytes) -> None:
        """Write a part of a file that was made on another machine; the parts of a file come in order.

        Raises:
            StorageError: the disk refused.
        """
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(content)
        except OSError as error:
            raise storage_error(path, error) from error

    def finish(self, record: dict[str, Any], traceback: str | None = None) -> None:
        """Make what was trained safe on the disk, then write the record with time and version: the result for good.

        Raises:
            StorageError: the disk refused.
        """
        if traceback is not None:
            write_text(self.path / "error.txt", traceback)
        for name in (ADAPTER, MODEL):
            sync_files(self.path / name)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record["provenance"] = {**record["provenance"], "loralaw": __version__, "finished_at": now}
        write_json(self.record_path, {"format": FORMAT, **record})
