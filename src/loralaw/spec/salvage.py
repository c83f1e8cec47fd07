"""What is left of a study file without its mistakes, so that models and data can be checked in the same go."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loralaw.spec.study_spec import StudySpec

# Where full fine-tuning is the only method that is left, ranks are a mistake.
_STAND_INS: tuple[dict[str, Any], ...] = ({"ranks": [1], "sizes": [1]}, {"sizes": [1]})


@dataclass(frozen=True)
class Salvage:
    """A study without the entries that are wrong, and where its own entries stood in the file."""

    spec: StudySpec
    kept: dict[str, list[int]]

    def place_in_file(self, where: str) -> str:
        """`ranks[0]` of the salvaged study as the place in the file, such as `ranks[2]`."""
        match = re.match(r"(\w+)\[(\d+)\](.*)", where)
        if match is None or match[1] not in self.kept:
            return where
        return f"{match[1]}[{self.kept[match[1]][int(match[2])]}]{match[3]}"


def salvage(raw: dict[str, Any], places: Sequence[tuple[str | int, ...]]) -> Salvage | None:
    """Take out what is wrong.

    Args:
        raw: the settings as read.
        places: where the problems are, as paths of keys and indices.

    Returns:
        A valid study with stand-ins for what must be there, or None where base models or task are themselves wrong.
    """
    rest, kept = dict(raw), dict[str, list[int]]()
    bad_entries: dict[str, set[int]] = {}
    for place in places:
        name = str(place[0])
        if len(place) > 1 and isinstance(place[1], int):
            bad_entries.setdefault(name, set()).add(place[1])
        elif len(place) > 1 and isinstance(rest.get(name), dict):
            rest[name] = {key: value for key, value in rest[name].items() if key != place[1]}
        else:
            rest.pop(name, None)
    for name, bad in bad_entries.items():
        if name in rest:
            kept[name] = [i for i in range(len(rest[name])) if i not in bad]
            rest[name] = [rest[name][i] for i in kept[name]]
            if not rest[name]:
                del rest[name]
    for stand_ins in _STAND_INS:
        with suppress(ValidationError):
            return Salvage(StudySpec.model_validate({**stand_ins, **rest}), kept)
    return None
