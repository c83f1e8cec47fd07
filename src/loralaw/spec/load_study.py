"""Reading a study file: YAML in, a `StudySpec` out, or one error with every problem in it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from loralaw.errors import Problem, SpecError, did_you_mean
from loralaw.spec.methods import METHOD_NAMES, method_class
from loralaw.spec.salvage import salvage
from loralaw.spec.study_spec import EvaluationSpec, LoadingSpec, StudySpec, TaskSpec, TemplateSpec, TrainingSpec

_SECTIONS: dict[str, type[BaseModel]] = {
    "task": TaskSpec,
    "tasks": TaskSpec,
    "templates": TemplateSpec,
    "training": TrainingSpec,
    "evaluation": EvaluationSpec,
    "loading": LoadingSpec,
}


class _StudyLoader(yaml.SafeLoader):
    """YAML as people expect it: `2e-3` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_StudyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_study(path: str | Path) -> StudySpec:
    """Read a study file.

    Args:
        path: a YAML file. Relative paths inside it are relative to its own folder.

    Returns:
        The validated study, with defaults.

    Raises:
        SpecError: the file is missing, is not YAML, or has unusable settings; all problems at once.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _StudyLoader)
    except FileNotFoundError:
        raise SpecError(str(path), [Problem("", "no such file; `loralaw new NAME` writes one to start from")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [Problem("", f"cannot be read as text: {error}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date that does not exist
        raise SpecError(str(path), [Problem("", f"is not valid YAML: {_one_line(error)}")]) from None
    if isinstance(raw, dict):
        raw.setdefault("name", path.stem)
    return parse_study(raw, str(path), folder=path.parent)


def parse_study(raw: Any, source: str, folder: Path | None = None) -> StudySpec:
    """Validate settings that were read from anywhere; see `load_study`. `folder`: what relative paths start from."""
    if not isinstance(raw, dict):
        raise SpecError(source, [Problem("", f"holds {_shown(raw)}, not settings: write `key: value` lines")])
    try:
        spec = StudySpec.model_validate(raw)
    except ValidationError as error:
        rest = salvage(raw, [e["loc"] for e in error.errors()])
        if rest and folder is not None:
            rest = replace(rest, spec=_anchored(rest.spec, folder))
        raise SpecError(source, _problems(error), rest) from None
    return spec if folder is None else _anchored(spec, folder)


def _anchored(spec: StudySpec, folder: Path) -> StudySpec:
    """Relative data files and model folders, as seen from the study file."""
    models = [str(folder / m) if m.startswith(".") else m for m in spec.base_models]
    task, tasks = spec.task and _anchored_task(spec.task, folder), [_anchored_task(t, folder) for t in spec.tasks]
    return spec.model_copy(update={"task": task, "tasks": tasks, "base_models": models})


def _anchored_task(task: TaskSpec, folder: Path) -> TaskSpec:
    fields = ("file", "validation_file", "test_file", "data_dir")
    return task.model_copy(update={f: folder / p for f in fields if (p := getattr(task, f)) is not None})


def _problems(error: ValidationError) -> list[Problem]:
    """One problem a place: where a setting may be one of several kinds, the last kind has the most to say."""
    return list({(problem := _problem(dict(e))).where: problem for e in error.errors()}.values())


def _problem(error: dict[str, Any]) -> Problem:
    where = _where(error["loc"])
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        accepted = list(_model_at(error["loc"]).model_fields)
        name = str(error["loc"][-1])
        return Problem(where, f"unknown key.{did_you_mean(name, accepted)} Accepted: {', '.join(accepted)}")
    if kind == "missing":
        return Problem(where, "is required and missing")
    if kind == "too_short":
        return Problem(where, "is empty: give at least one value")
    if kind == "literal_error":
        hint = did_you_mean(value, re.findall(r"'([^']+)'", context["expected"]))
        return Problem(where, f"{_shown(value)} is not one of {context['expected']}.{hint}")
    if kind == "union_tag_invalid":
        names = ", ".join(f"'{name}'" for name in METHOD_NAMES)
        hint = did_you_mean(context["tag"], METHOD_NAMES)
        return Problem(f"{where}.name", f"{_shown(value['name'])} is not one of {names}.{hint}")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Problem(where, f"{_shown(value)} is not settings: write `key: value` lines below it")
    if kind == "list_type":
        return Problem(where, f"{_shown(value)} is not a list: write [{value}]")
    if kind == "value_error":
        return Problem(where, str(context["error"]))
    if kind == "string_pattern_mismatch":
        return Problem(where, f"{_shown(value)} is not a name: use letters, digits, '.', '_' and '-', at most 64")
    if where.startswith("ranks[") and kind in ("greater_than_equal", "int_type", "int_from_float"):
        return Problem(where, f"{_shown(value)} is not a rank: use a whole number of at least 1")
    return Problem(where, f"{_shown(value)}: {error['msg'][0].lower()}{error['msg'][1:]}")


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    if _has_method_name(location):
        return method_class(str(location[2]))
    return _SECTIONS.get(str(location[0]), StudySpec) if len(location) > 1 else StudySpec


def _has_method_name(location: tuple[str | int, ...]) -> bool:
    """Whether pydantic's place has the name of the method at its third place, as in ("methods", 0, "lora", ...)."""
    return location[0] == "methods" and len(location) > 2


def _where(location: tuple[str | int, ...]) -> str:
    """("methods", 0, "lora", "lora_alpha") as methods[0].lora_alpha: without the names of the members of a union."""
    if _has_method_name(location):
        location = location[:2] + location[3:]
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part.startswith(("literal[", "constrained-", "list[")):
            text += f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    text = "nothing" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
