"""What can be wrong with a store, each with its own name so that a caller can tell them apart."""


class StoreError(RuntimeError):
    """The store cannot do what was asked; the message says what was wrong, where, and what to do."""


class DamagedRecordError(StoreError):
    """A published folder whose record cannot be read or does not belong to it."""


class CollisionError(StoreError):
    """Two fingerprints share the eight digits that name a folder."""


class LockLostError(StoreError):
    """Another process took the lock of the cell that was being built; nothing was published."""
