"""Records how the newest attempt to build a cell failed, in a file next to the cell's versions.

The file informs people and decides nothing: a failed cell is built like any other missing one, and failing to write or
read the file is ignored. There is one file per readable name, so a new attempt replaces the file of an older one,
whatever its fingerprint.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mmgrid.files import write_json
from mmgrid.store.address import Address
from mmgrid.store.names import FAILURE_FILE
from mmgrid.store.places import is_published, walk

log = logging.getLogger(__name__)


class Failure(BaseModel):
    """A failed attempt to build a cell.

    Attributes:
        name, fingerprint: its address.
        message: the first line of the error.
        blocked: name → fingerprint of the cells that could not be built because of it.
        when: UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    fingerprint: str
    message: str
    blocked: dict[str, str]
    when: str

    @property
    def address(self) -> Address:
        """The address of the cell."""
        return Address.of(self.name, self.fingerprint)


def write_failure(root: Path, failure: Failure) -> None:
    """Write `failure` into the store at `root`; if that fails, do nothing."""
    path = Path(_place(root, failure.address))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, failure.model_dump())
    except OSError as error:
        log.debug("%s: not written: %s", path, error)


def read_failure(root: Path, address: Address) -> Failure | None:
    """The recorded failure of this cell; None if there is none, it cannot be read, or the cell is built by now."""
    found = _read(_place(root, address))
    return found if found and found.address == address and not is_published(root / address.folder) else None


def read_failures(root: Path) -> Iterator[Failure]:
    """The recorded failures of cells that are still not built, sorted by name."""
    for path in walk(root):
        found = _read(path) if path.name == FAILURE_FILE else None
        if found and _place(root, found.address) == str(path) and not is_published(root / found.address.folder):
            blocked = {n: f for n, f in found.blocked.items() if not is_published(root / Address.of(n, f).folder)}
            yield found.model_copy(update={"blocked": blocked})


def remove_failure(root: Path, address: Address) -> None:
    """Remove the recorded failure of a cell's name, if there is one and it can be removed."""
    with contextlib.suppress(OSError):
        Path(_place(root, address)).unlink(missing_ok=True)


def _place(root: Path, address: Address) -> str:
    return f"{root}/{address.name}/{FAILURE_FILE}"


def _read(path: Path | str) -> Failure | None:
    try:
        with open(path, "rb") as file:
            found = Failure.model_validate_json(file.read())
        _ = found.address, [Address.of(*one) for one in found.blocked.items()]
    except (OSError, ValueError):
        return None
    return found
