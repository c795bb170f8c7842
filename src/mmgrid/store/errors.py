"""Errors of a store."""


class StoreError(RuntimeError):
    """An operation of the store failed; the message says what was wrong, where, and what to do."""


class StoreGoneError(StoreError):
    """The store is no longer where it was: its folder was moved or removed, or its disk unmounted."""


class DamagedRecordError(StoreError):
    """The record of a published folder cannot be read or does not belong to it."""


class NewerRecordError(DamagedRecordError):
    """A record holds what this version does not know. Another version has written it: the cell is not damaged."""


class CollisionError(StoreError):
    """Two fingerprints share their first eight digits, which name the folder."""


class LockLostError(StoreError):
    """Another process took over the lock of the cell while it was built; nothing was published."""
