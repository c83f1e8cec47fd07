"""How the study was made: settings, versions, hashes, hardware, and the command that makes it again."""

from collections import Counter
from typing import Any

import yaml

from loralaw.store import task_label

SHOWN_APART = ("command", "base_model_hashes")


def settings_text(settings: dict[str, Any]) -> str:
    """The study file with every default, as YAML that `loralaw run` accepts."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)


def made_with(study_provenance: dict[str, Any], records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(name, value) of everything that is known; values that differ between cells are all listed with their counts."""
    rows = [(name, _text(v)) for name, v in _flat({k: v for k, v in study_provenance.items() if k not in SHOWN_APART})]
    known = {name for name, _ in rows}
    seen: dict[str, Counter[str]] = {}
    for record in records:
        for name, value in _flat(record.get("provenance") or {}):
            if name not in ("pack", "finished_at"):
                seen.setdefault(name, Counter())[_text(value)] += 1
    rows += [(name, _several(values)) for name, values in seen.items() if name not in known or len(values) > 1]
    ends = sorted(
        str(r["provenance"]["finished_at"]) for r in records if (r.get("provenance") or {}).get("finished_at")
    )
    return rows + ([("cells ended", f"{ends[0]} to {ends[-1]}")] if ends else [])


def hashes(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Contents behind the names: of every base model and of the data."""
    found: dict[tuple[str, str], None] = {}
    for record in records:
        cell = record["cell"]
        found.setdefault((f"base model {cell['base_model']}", str(cell.get("base_model_hash"))))
        found.setdefault((f"data of {task_label(cell.get('task') or {})}", str(cell.get("data_hash"))))
    return sorted(found)


def command(study_provenance: dict[str, Any]) -> str | None:
    """The command of the last run as one line, if it was recorded."""
    value = study_provenance.get("command")
    return str(value) if value else None


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, inner in value.items():
        rows += _flat(inner, f"{prefix}{name} · ") if isinstance(inner, dict) else [(f"{prefix}{name}", inner)]
    return rows


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _several(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({n} cells)" for value, n in values.most_common(8)) + ("; …" if len(values) > 8 else "")
