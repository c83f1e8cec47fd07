"""The training log of a cell: one JSON object a line, appended while it trains."""

import json
from pathlib import Path
from typing import Any

from loralaw.errors import StudyFolderError
from loralaw.store.atomic import storage_error


def append_event(path: Path, event: dict[str, Any]) -> None:
    """Add one line. A log may lose its last line in a crash; nothing that is needed again lives only here."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    except OSError as error:
        raise storage_error(path, error) from error


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a torn last line is dropped.

    Raises:
        StudyFolderError: a line before the last is no event; names file and line.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    events = []
    for number, line in enumerate(lines[:-1], 1):
        event = _parsed(line)
        if not isinstance(event, dict):
            raise StudyFolderError(
                f"{path}, line {number} is damaged: {line[:60]!r}. Delete the file; the cell's record does not need it"
            )
        events.append(event)
    return events


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
