"""Follows the records in a store from a built cell to the cells that it was built from."""

from __future__ import annotations

from pathlib import Path

from mmgrid.store.address import Address
from mmgrid.store.errors import StoreError
from mmgrid.store.record import Record


def ancestor(folder: Path, kind: str) -> Path | None:
    """The folder of the nearest cell of this kind among those that the cell in `folder` was built from.

    None if the folder is no cell of a store, or the ancestor is no longer in the store.
    """
    folder = folder.resolve()
    try:
        record = Record.read(folder)
    except (OSError, StoreError):
        return None
    if folder.parts[-len(Path(record.address.folder).parts) :] != Path(record.address.folder).parts:
        return None  # a copy outside of the store
    root = folder.parents[len(Path(record.address.folder).parts) - 1]
    for role in record.upstream.values():
        above = root / Address.of(role.name, role.fingerprint).folder
        found = above if role.name.partition("/")[0] == kind else ancestor(above, kind)
        if found is not None and found.is_dir():
            return found
    return None
