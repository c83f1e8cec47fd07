"""The embedded task `stdlib-code`: the source code of the running Python's own standard library.

Every machine that can run this package has it. It differs between Python versions, so its hash is part of every cell.
Whole top-level modules go to train, validation or test, never single lines.
"""

import hashlib
import random
import sysconfig
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from loralaw.errors import DataError
from loralaw.tasks.task_data import Choice, Example, TaskData

NAME = "stdlib-code"
EXAMPLE_CHARACTERS = 400
CONTEXT_CHARACTERS = 80
OPTION_CHARACTERS = (24, 64)
N_CHOICES = 512
N_OPTIONS = 4

# Absent on some systems (split into other packages, or removed in newer versions), not code, or tests and vendored.
_LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "distutils", "ensurepip", "site-packages",
    "dist-packages", "encodings", "pydoc_data", "__pycache__", "__phello__", "_pyrepl",
}  # fmt: skip


def stdlib_code() -> TaskData:
    """Read the standard library's source.

    Raises:
        DataError: this Python carries no readable source (a zipped or compiled-only standard library).
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    modules = _modules(folder)
    if len(modules) < 50:
        raise DataError(
            f"the task {NAME} needs the source of Python's standard library; {folder} has {len(modules)} modules with "
            "source, at least 50 are needed: run with an ordinary Python, or give a file of your own as task"
        )
    by_split: dict[str, list[Example]] = defaultdict(list)
    test_modules: dict[str, str] = {}
    for module, text in modules.items():
        by_split[_split(module)] += [Example("", piece, module) for piece in _pieces(text)]
        if _split(module) == "test":
            test_modules[module] = text
    return TaskData(NAME, by_split["train"], by_split["validation"], by_split["test"], _choices(test_modules))


def _modules(folder: Path) -> dict[str, str]:
    """Source text by top-level module; the files of a package are joined in the order of their paths."""
    texts: dict[str, list[str]] = defaultdict(list)
    for path in sorted(_source_files(folder)):
        module = path.relative_to(folder).parts[0].removesuffix(".py")
        try:
            with tokenize.open(path) as file:
                texts[module].append(file.read())
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue  # a file of another encoding than it says is not source we can learn from
    return {module: "\n".join(parts) for module, parts in sorted(texts.items())}


def _source_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.name.startswith("_sysconfigdata"):
            continue
        if path.is_dir():
            yield from _source_files(path)
        elif path.suffix == ".py":
            yield path


def _split(module: str) -> str:
    """Eight modules in ten train, one validates, one tests; by a hash of the name, so that it never shifts."""
    bucket = hashlib.sha256(module.encode()).digest()[0] % 10
    return {8: "validation", 9: "test"}.get(bucket, "train")


def _pieces(text: str) -> list[str]:
    """Runs of whole lines of at most EXAMPLE_CHARACTERS; a longer single line is cut."""
    pieces, current = [], ""
    for line in text.splitlines(keepends=True):
        if current and len(current) + len(line) > EXAMPLE_CHARACTERS:
            pieces.append(current)
            current = ""
        current += line[:EXAMPLE_CHARACTERS]
    pieces.append(current)
    return [piece for piece in pieces if len(piece.strip()) >= EXAMPLE_CHARACTERS // 4]


def _choices(modules: dict[str, str]) -> list[Choice]:
    """Four-way questions: the true next lines against three real ones from other modules of the test split."""
    rng = random.Random(0)
    places = [place for module, text in modules.items() for place in _places(module, text)]
    rng.shuffle(places)
    choices = []
    for module, context, truth in places[:N_CHOICES]:
        options = [truth]
        while len(options) < N_OPTIONS:
            other_module, _, other = rng.choice(places)
            if other_module != module and other not in options:
                options.append(other)
        order = rng.sample(range(N_OPTIONS), N_OPTIONS)
        choices.append(Choice(context, tuple(options[i] for i in order), order.index(0), module))
    return choices


def _places(module: str, text: str) -> list[tuple[str, str, str]]:
    """(module, context, next lines), every few lines; both are whole lines of a bounded length."""
    lines = text.splitlines(keepends=True)
    places = []
    for at in range(4, len(lines) - 2, 5):
        following = _first_lines(lines[at : at + 3])
        context = "".join(lines[max(0, at - 4) : at])[-CONTEXT_CHARACTERS:].partition("\n")[2]
        if following and lines[at].strip() and len(context.strip()) >= CONTEXT_CHARACTERS // 4:
            places.append((module, context, following))
    return places


def _first_lines(lines: list[str]) -> str | None:
    """The fewest whole lines that say something, or None where they are too long."""
    shortest, longest = OPTION_CHARACTERS
    text = ""
    for line in lines:
        text += line
        if len(text.strip()) >= shortest:
            return text if len(text) <= longest else None
    return None
