"""Whether what a store holds belongs to it: records to their fingerprints, and files to the store."""

from pathlib import Path

from mmgrid.files.folder import WORK_SUFFIX
from mmgrid.grid.cells.fingerprint import FingerprintError, fingerprint
from mmgrid.store import Record, Store
from mmgrid.store.failure import FAILURE_FILE
from mmgrid.store.format import is_store
from mmgrid.store.lock import LOCK_SUFFIX
from mmgrid.store.names import STORE_FILE
from mmgrid.store.places import DIGESTS_FILE, walk

_VERSIONS = range(1, 65)  # of the code that builds a kind of cell; a record does not hold it


def unlike_its_recipe(record: Record) -> str | None:
    """What is wrong with a record whose fingerprint is not that of its recipe and its upstream cells; else None."""
    upstream = {role: above.fingerprint for role, above in record.upstream.items()}
    identity = {"kind": record.address.kind, "recipe": record.recipe, "upstream": upstream}
    try:
        if any(fingerprint(identity | {"step_version": version}) == record.fingerprint for version in _VERSIONS):
            return None
    except FingerprintError as error:
        return f"record.json: {error}"
    return "record.json: recipe and upstream are not those of its fingerprint; somebody has changed it"


def foreign_files(store: Store) -> list[Path]:
    """Files in a store, outside of its cells, that it has not written, and other stores in it, sorted."""
    leftovers = set(store.leftovers())
    own = {store.root / STORE_FILE, store.root / DIGESTS_FILE}
    return [
        path
        for path in walk(store.root)
        if path not in own | leftovers
        and (path.is_symlink() or not path.is_dir() or is_store(path))
        and not (path.name == FAILURE_FILE or path.name.endswith((LOCK_SUFFIX, WORK_SUFFIX)))
    ]
