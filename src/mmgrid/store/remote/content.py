"""Compares a file of a remote store with its record, by reading it."""

import hashlib

from mmgrid.store.record import FileEntry, Record
from mmgrid.store.remote.layout import files_folder
from mmgrid.store.remote.place import BLOCK_BYTES, Count, Place


def differs(place: Place, path: str, entry: FileEntry, count: Count) -> str | None:
    """What is wrong with a file, after reading all of it; None if it is as recorded."""
    digest, done = hashlib.sha256(), 0
    while done < entry.bytes:
        try:
            block = place.read(path, done, min(done + BLOCK_BYTES, entry.bytes))
        except FileNotFoundError:
            return f"{place.shown}/{path}: is missing"
        if not block:
            return f"{place.shown}/{path}: has {done} bytes instead of the recorded {entry.bytes}"
        digest.update(block)
        done += len(block)
        count(len(block))
    if digest.hexdigest() != entry.sha256:
        return f"{place.shown}/{path}: its content differs from the record"
    return None


def wrong_size(place: Place, sizes: dict[str, int], path: str, entry: FileEntry) -> str | None:
    """What a listing shows to be wrong with a file."""
    if path not in sizes:
        return f"{place.shown}/{path}: is missing"
    if sizes[path] != entry.bytes:
        return f"{place.shown}/{path}: has {sizes[path]} bytes instead of the recorded {entry.bytes}"
    return None


def wrong_sizes(place: Place, sizes: dict[str, int], record: Record) -> dict[str, str]:
    """Name of a file → what a listing shows to be wrong with it, for the files of a cell."""
    folder = files_folder(record)
    found = {name: wrong_size(place, sizes, f"{folder}/{name}", entry) for name, entry in sorted(record.files.items())}
    return {name: problem for name, problem in found.items() if problem}
