"""The format of a store: a file at its top that says which version of the program can read it."""

import json
from pathlib import Path

from mmgrid.files import clear_disk_errors, write_json
from mmgrid.files.addresses import address_in
from mmgrid.files.folder import is_partial
from mmgrid.files.foreign import MALFORMED
from mmgrid.store.errors import StoreError, StoreGoneError
from mmgrid.store.names import STORE_FILE
from mmgrid.store.places import listed

FORMAT = 1


def is_store(folder: Path) -> bool:
    """Whether the folder is a store, of any format."""
    return (folder / STORE_FILE).exists()


def check_there(root: Path) -> None:
    """Check that the store at `root` is still there, before anything is written below it.

    Raises:
        StoreGoneError: it is not. What would be written is no part of it, and may fill another disk.
    """
    if not is_store(root):
        raise StoreGoneError(
            f"{root}: the store is no longer there; was its folder moved, or its disk unmounted? Nothing was written. "
            "Put it back, or name its new place with --store, then run the same command again"
        )


def open_format(root: Path) -> None:
    """Check that a folder is a store of this format, or make one of an absent or empty folder.

    Raises:
        StoreError: the folder is an address, or holds other files, or a store of another format.
        DiskFull, NotWritableError: a new store cannot be written.
    """
    if is_store(root):
        _check(root / STORE_FILE)
        return
    if (address := address_in(root)) is not None:
        raise StoreError(
            f"{address}: is an address, and a store is a folder on a disk; build in a folder, and copy its cells with "
            "`mmgrid store push`"
        )
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root}: is a file; a store is a folder: give another path with --store")
    foreign = [path for path in listed(root) if not is_partial(path)]
    if foreign and not is_store(root):  # another process may just have created it
        raise StoreError(
            f"{root}: is not a store (it holds {foreign[0].name} and no {STORE_FILE}); "
            f"give an empty or new folder with --store"
        )
    with clear_disk_errors(root, remedy="give another place with --store"):
        root.mkdir(parents=True, exist_ok=True)
        if not is_store(root):
            write_json(root / STORE_FILE, {"format": FORMAT})


def _check(file: Path) -> None:
    try:
        found = json.loads(file.read_bytes())["format"]
    except (OSError, *MALFORMED) as error:
        raise StoreError(
            f"{file}: cannot be read as the format file of a store ({error!r}). If this folder is a store, write "
            f'{{"format": {FORMAT}}} into the file; otherwise give another folder with --store'
        ) from error
    if found != FORMAT:
        raise StoreError(
            f"{file}: this store has format {found}, and this version of mmgrid reads format "
            f"{FORMAT}. Use the version of mmgrid that created it, or give another folder with --store; "
            f"nothing was changed"
        )
