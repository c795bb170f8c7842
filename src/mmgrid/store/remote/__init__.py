"""Copies of cells in object stores: sent, fetched, and compared with their records."""

from mmgrid.store.remote.errors import RemoteError
from mmgrid.store.remote.place import Place
from mmgrid.store.remote.pulling import pull
from mmgrid.store.remote.pushing import Moved, push
from mmgrid.store.remote.verifying import Verified, verify

__all__ = ["Moved", "Place", "RemoteError", "Verified", "pull", "push", "verify"]
