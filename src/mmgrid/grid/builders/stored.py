"""`checkpoint/…` with `[store] keep = "delta"`: a trained checkpoint as its change from what the training started from."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.families import compress
from mmgrid.files import move_up
from mmgrid.grid.cells.stored import TRAINING_SECONDS
from mmgrid.store import Address, Record, Store, StoreError
from mmgrid.store.record import RECORD_FILE


def write_change(
    trained: Path, start: Path, part: Mapping[str, Any], folder: Path, *, final_place: Path
) -> Mapping[str, Any]:
    """Write a checkpoint into `folder` as its change from another.

    Args:
        trained: its folder. start: that of the other, which may be stored so itself.
        part: the options of a delta.
        final_place: the final path of the folder, for relative paths.

    Returns:
        The bytes of the change and of the plain weights, and the error of what was written and read back.
    """
    out = folder / "stored"
    report = compress(trained, start, out, part=part, place=final_place)
    move_up(out)  # the cell itself stands for the checkpoint
    (written,) = report.domains.values()
    error = max(one.error for one in written.parts)
    return {"bytes": written.bytes, "plain_bytes": written.plain_bytes, "error": error}


def facts_of_training(record: Record) -> dict[str, Any]:
    """What the record of a trained checkpoint says of its training, for the checkpoint that is kept of it."""
    return {TRAINING_SECONDS: record.seconds} | dict(record.summary)


def take_exact(store: Store, address: Address, folder: Path) -> Mapping[str, Any] | None:
    """Copy the checkpoint that a grid with exact checkpoints has trained into `folder`.

    Returns:
        The facts of its training; None if it is not in the store, or not sound.
    """
    try:
        source, record = store.sound(address), store.record(address)
    except StoreError:
        return None
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(RECORD_FILE), dirs_exist_ok=True)
    return facts_of_training(record)
