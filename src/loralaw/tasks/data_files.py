"""Where the rows of a benchmark come from: a folder of Parquet files, or the hub.

A folder is `data_dir` of the task, else the environment variable LORALAW_DATA. In it lies FAMILY/TASK/SPLIT.parquet, as
in `commonsense/piqa/test.parquet`; FAMILY or TASK itself may be given as well. Without a folder the hub is asked, in
the Parquet form that it makes of every data set.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from huggingface_hub import hf_hub_download

from loralaw.errors import DataError

ENVIRONMENT = "LORALAW_DATA"
HUB_REVISION = "refs/convert/parquet"
_MAX_SAID = 300


@dataclass(frozen=True)
class DataSource:
    """Where the files of a task are: in `family/task` of a folder, or in a configuration of a data set of the hub."""

    task: str
    family: str
    hub_repo: str
    hub_config: str
    files: tuple[str, ...]
    """The names of the files in a folder, without their ending, for messages."""
    columns: tuple[str, ...]
    """Of the files in a folder, for messages."""

    def folder(self, data_dir: Path | None) -> Path | None:
        """The folder with the task's files; None if no folder was named, so that the hub is asked.

        Raises:
            DataError: a folder was named and has no files of this task.
        """
        named = data_dir or (Path(value).expanduser() if (value := os.environ.get(ENVIRONMENT)) else None)
        if named is None:
            return None
        places = [named / self.family / self.task, named / self.task]
        if (
            os.path.isdir(named) and named.resolve().name == self.task
        ):  # another task's folder would be read as this one's
            places.append(named)
        for place in places:
            if os.path.isdir(place):  # pathlib raises where a name is too long
                return place
        what = "data_dir" if data_dir else ENVIRONMENT
        raise DataError(
            f'{what} is "{named}", which has no files of {self.task}: {self._needed(str(named))}; or name no folder, '
            f"and the data set {self.hub_repo} is read from the hub"
        )

    def read_local(self, folder: Path, split: str) -> "Split | None":
        """The rows of `split.parquet`, or None if there is no such file."""
        path = folder / f"{split}.parquet"
        return Split.read(str(path), path) if os.path.isfile(path) else None

    def read_needed(self, folder: Path, split: str) -> "Split":
        """The rows of `split.parquet`.

        Raises:
            DataError: there is no such file.
        """
        found = self.read_local(folder, split)
        if found is None:
            listed = ", ".join(self.columns)
            raise DataError(f"{folder / split}.parquet: no such file; it is needed, with the columns {listed}")
        return found

    def read_hub(self, split: str) -> "Split":
        """The rows of a split on the hub, or of the hub's cache on this machine.

        Raises:
            DataError: it cannot be had: no network, no such file, or its owners ask for a login.
        """
        name = f"{self.hub_config}/{split}/0000.parquet"
        try:
            path = hf_hub_download(self.hub_repo, name, repo_type="dataset", revision=HUB_REVISION)
        except Exception as error:  # the hub client raises its own kinds, those of its transport, and OSError
            offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
            raise DataError(
                f"{self.task}: {name} of the data set {self.hub_repo} (revision {HUB_REVISION}) could not be read from "
                f"the hub{offline}: {_first_line(error)} To use files of your own, {self._needed('DIR')}, and name DIR "
                f"as data_dir of the task or in {ENVIRONMENT}"
            ) from None
        return Split.read(f"{self.hub_repo} {name}", Path(path))

    def _needed(self, folder: str) -> str:
        files = " and ".join(f"{name}.parquet" for name in self.files)
        place = Path(folder) / self.family / self.task
        return f"put {files} into {place}, with the columns {', '.join(self.columns)}"


@dataclass(frozen=True)
class Split:
    """The rows of one file, and what messages call it."""

    place: str
    table: pl.DataFrame

    @classmethod
    def read(cls, place: str, path: Path) -> "Split":
        """Read a Parquet file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return cls(place, pl.read_parquet(path.read_bytes()))  # polars takes no path that is not UTF-8
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{place}: cannot be read as Parquet ({_first_line(error)}): save it again, or load it anew"
            ) from None

    def layout(self, *layouts: Sequence[str]) -> Sequence[str]:
        """The first layout whose columns are all here.

        Raises:
            DataError: the file has the columns of none.
        """
        for columns in layouts:
            if set(columns) <= set(self.table.columns):
                return columns
        accepted = "; or ".join(dict.fromkeys(", ".join(columns) for columns in layouts))
        found = ", ".join(self.table.columns) or "no columns"
        raise DataError(f"{self.place}: has the columns {found}; accepted are {accepted}")


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= _MAX_SAID else line[:_MAX_SAID].rpartition(" ")[0] + " …"
