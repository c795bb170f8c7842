"""A cell that travels to an object store and back, for the tests of each kind of store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmgrid.store import Address, Store
from mmgrid.store.remote import Moved, Place, RemoteError, pull, push, verify

MODEL = Address("checkpoint", ("semb", "books", "phase1"), "3fa9c1d2" + "0" * 56)


def store_of_a_model(root: Path, weights: bytes = b"w" * 100_000) -> Store:
    """A store that holds MODEL, with an empty file in a folder of its own."""

    def make(work: Path) -> dict[str, Any]:
        (work / "deep").mkdir()
        (work / "deep" / "empty").touch()
        (work / "model.bin").write_bytes(weights)
        return {}

    store = Store(root)
    store.build(MODEL, {"seed": 0}, {}, make)
    return store


def assert_comes_back_and_never_changes(bucket: str, folder: Path) -> None:
    """Three push MODEL into an empty place at once, two of them alike; one is the first, and its bytes come back."""
    store, second = store_of_a_model(folder / "a"), store_of_a_model(folder / "b", b"v" * 100_000)
    with pytest.raises(RemoteError, match="holds nothing"):
        verify(Place(bucket), lambda name: True)
    with ThreadPoolExecutor(3) as pool:  # the server tells one of them that it was the first
        moved = list(pool.map(lambda one: push(one, Place(bucket), [MODEL]), (store, second, store)))
    assert not any(one.problems for one in moved)
    first = second if moved[1].done else store
    assert [one.other == [MODEL.name] for one in moved] == (
        [True, False, True] if first is second else [False, True, False]
    )
    assert push(first, Place(bucket), [MODEL]) == Moved(present=[MODEL.name])
    found = verify(Place(bucket), lambda name: True, deep=True)
    assert (found.cells, found.bytes, found.damaged, found.foreign) == ([MODEL.name], 100_000, {}, [])
    again = Store(folder / "again")
    assert pull(again, Place(bucket), lambda name: True) == Moved(done=[MODEL.name], bytes=100_000)
    assert _files(again) == _files(first)


def _files(store: Store) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes() for path in store.root.rglob("*") if path.is_file()
    }
