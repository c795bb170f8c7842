"""The record of a built cell: recipe, upstream cells, package versions, time, memory, and the digest of each file.

The record is the last file written into a cell's folder. A folder without one does not count as a cell.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, JsonValue, ValidationError, field_validator

from mmgrid.store.address import Address
from mmgrid.store.errors import DamagedRecordError, NewerRecordError
from mmgrid.store.names import RECORD_FILE

_PACKAGES = ("mmgrid", "torch", "transformers", "numpy", "polars")


# A store has thousands of records, and a record several of these: slots take half the room and time of models.
@dataclass(frozen=True, slots=True)
class FileEntry:
    """Digest and size of one file of a cell."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Upstream:
    """A cell that this one was built from."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    fingerprint: str


class Record(BaseModel):
    """The record of one built cell.

    Attributes:
        name, fingerprint: its address.
        recipe: all resolved values that determined the content.
        upstream: role → cell.
        versions: of Python and of installed packages.
        seconds: wall time of the run that finished it (for a resumed training, of the last run only).
        peak_bytes: peak resident memory of the process while it was built.
        started, finished: UTC, ISO 8601.
        files: path below the folder → digest and size, for all files except the record.
        summary: small facts for tables, as returned by the function that built the cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    recipe: dict[str, JsonValue]
    upstream: dict[str, Upstream]
    versions: dict[str, str]
    seconds: FiniteFloat
    peak_bytes: int
    started: str
    finished: str
    files: dict[str, FileEntry]
    summary: dict[str, JsonValue]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for path in files:
            if not path or path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
                raise ValueError(f"{path!r} is no path inside the cell's folder")
        return files

    @property
    def address(self) -> Address:
        """The address of the cell."""
        return Address.of(self.name, self.fingerprint)

    @classmethod
    def read(cls, folder: Path | str) -> Record:
        """The record of a published folder.

        Raises:
            FileNotFoundError: the folder has no record, so it is not a cell.
            NewerRecordError: another version has written it.
            DamagedRecordError: the record cannot be read.
        """
        path = f"{folder}/{RECORD_FILE}"
        try:
            with open(path, "rb") as file:
                return cls.model_validate_json(file.read())
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path}: there is no record") from None
        except ValidationError as error:
            if (key := unknown_key(error)) is not None:
                raise NewerRecordError(f"{path}: {of_newer(key)}") from None
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            problem = f"{place}: {first['msg']}" if place else first["msg"]
        except OSError as error:
            problem = str(error)
        raise DamagedRecordError(
            f"{path}: cannot be read as a record ({problem}). Restore the file, or remove the folder to have "
            f"the cell built again."
        )


def unknown_key(error: ValidationError) -> str | None:
    """The first key of a record that this version does not know, if nothing else is wrong with it; else None.

    Keys that were damaged are missing, too.
    """
    found = error.errors()
    if any(one["type"] not in ("extra_forbidden", "unexpected_keyword_argument") for one in found):
        return None
    return ".".join(str(part) for part in found[0]["loc"])


def of_newer(key: str) -> str:
    """What is said of a record with such a key."""
    return (
        f"holds {key}, which this version of mmgrid does not know; a newer one may have written it: use that one, "
        "or restore the file"
    )


@functools.cache
def installed_versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that affect numerical results; imports none of them. Not to be changed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
