"""The store of built cells: records, locks, verification."""

from mmgrid.store.address import Address
from mmgrid.store.errors import (
    CollisionError,
    DamagedRecordError,
    LockLostError,
    NewerRecordError,
    StoreError,
    StoreGoneError,
)
from mmgrid.store.failure import Failure
from mmgrid.store.format import is_store
from mmgrid.store.integrity import DamagedFilesError
from mmgrid.store.lock import Lock, try_lock
from mmgrid.store.record import FileEntry, Record, Upstream
from mmgrid.store.store import Store
from mmgrid.store.work import STEP_FOLDER, watched

__all__ = [
    "STEP_FOLDER",
    "Address",
    "CollisionError",
    "DamagedFilesError",
    "DamagedRecordError",
    "Failure",
    "FileEntry",
    "Lock",
    "LockLostError",
    "NewerRecordError",
    "Record",
    "Store",
    "StoreError",
    "StoreGoneError",
    "Upstream",
    "is_store",
    "try_lock",
    "watched",
]
