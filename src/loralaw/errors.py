"""One exception tree. Every message says what was wrong (the value seen), what is accepted, and how to fix it.

`InputError` and its children are the user's to mend (the command line exits with 2); any other `LoralawError` is the
machine's (exit code 1). Numerical outcomes are not exceptions: a fit returns a status, a diverged cell a record.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class LoralawError(Exception):
    """Anything this package raises on purpose."""


class InputError(LoralawError, ValueError):
    """Something the user gave is not usable; the message says how to mend it."""


class DataError(InputError):
    """A data file or data set that cannot be used: missing, broken, empty, or without the named column."""


class ModelError(InputError):
    """A base model that cannot be used: unknown name, folder without weights, unsupported architecture."""


class StudyFolderError(InputError):
    """A study folder that cannot be used: absent, not a study, in use, or written by another version."""


class TableError(InputError):
    """A table that a law cannot be fitted to: a column is missing, or its values are not usable."""


class StorageError(LoralawError, OSError):
    """The disk refused a write (full, read-only). What was finished before is intact."""


class ClusterError(LoralawError):
    """A Ray cluster that cannot go on: it is gone, or its nodes are not set up. What was finished before is intact."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a study: `where` is a path into the file such as `ranks[0]`."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class SpecError(InputError):
    """A study that cannot be run, with all of its problems at once.

    `rest` is what is left of the study without them (a `loralaw.spec.Salvage`), where something is.
    """

    def __init__(self, source: str, problems: Sequence[Problem], rest: object = None) -> None:
        self.source, self.problems, self.rest = source, list(problems), rest
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)]))


def did_you_mean(name: object, accepted: Iterable[str]) -> str:
    """` Did you mean "x"?` where one accepted name is close to the one given, else an empty string."""
    close = difflib.get_close_matches(str(name), list(accepted), n=1)
    return f' Did you mean "{close[0]}"?' if close else ""
