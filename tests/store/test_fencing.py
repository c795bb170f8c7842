"""A builder that slept beyond its lease: whenever it wakes up, it changes nothing of the one that took over."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmgrid.store import STEP_FOLDER, Address, LockLostError, Record, Store, watched
from mmgrid.store import store as store_module

BOOKS = Address("checkpoint", ("semb", "books"), "3fa9c1d2" + "0" * 56)
PLACE = "checkpoint/semb/books"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def _fall_asleep(store: Store) -> None:
    """The lock looks as it does once its holder, on another machine, was silent for longer than its lease."""
    lock = store.root / PLACE / "3fa9c1d2.lock"
    lock.write_text(json.dumps(json.loads(lock.read_bytes()) | {"host": "elsewhere"}))
    os.utime(lock, (1, 1))


def _train(work: Path) -> dict[str, Any]:
    """Ten steps, each of which is kept; returns those that were there already."""
    steps = work / STEP_FOLDER
    steps.mkdir(exist_ok=True)
    begun = len(list(steps.iterdir()))
    for step in range(begun, 10):
        (steps / str(step)).write_text("done")
    (work / "model.bin").write_bytes(b"weights")
    return {"begun": begun}


def _build(store: Store, make: Callable[[Path], dict[str, Any]] = _train) -> Record | None:
    return Store(store.root).build(BOOKS, {"seed": 0}, {}, make)


def _first_steps(work: Path) -> None:
    (work / STEP_FOLDER).mkdir()
    for step in range(4):
        (work / STEP_FOLDER / str(step)).write_text("done")


def _assert_only_the_cell(store: Store) -> None:
    assert [path.name for path in (store.root / PLACE).iterdir()] == ["3fa9c1d2"]
    assert not store.verify(BOOKS)
    assert sorted(path.name for path in store.folder(BOOKS).iterdir()) == ["model.bin", "record.json"]


@pytest.mark.parametrize("wakes", ["during the training", "before it writes", "and writes nothing"])
def test_who_wakes_up_after_the_other_has_published_loses(store: Store, wakes: str) -> None:
    def sleeper(work: Path) -> dict[str, Any]:
        progress = watched(work, None)
        progress(4, 10, None)
        _first_steps(work)
        _fall_asleep(store)
        taken = _build(store)
        assert taken is not None
        assert taken.summary == {"begun": 4}  # it goes on from the steps of the sleeper
        if wakes == "during the training":
            progress(5, 10, None)
        if wakes == "before it writes":
            (work / "model.bin").write_bytes(b"late")
        return {}

    with pytest.raises(LockLostError, match="taken over by another process while it was being built here.*Run again"):
        _build(store, sleeper)
    _assert_only_the_cell(store)


def test_who_wakes_up_while_the_other_builds_does_not_disturb_it(store: Store) -> None:
    def sleeper(work: Path) -> dict[str, Any]:
        _first_steps(work)
        _fall_asleep(store)

        def thief(own: Path) -> dict[str, Any]:
            facts = _train(own)
            work.mkdir()  # as a library does that makes the folders that it lacks
            _train(work)
            return facts

        assert _build(store, thief) is not None
        return {}

    with pytest.raises(LockLostError):
        _build(store, sleeper)
    assert not store.verify(BOOKS)
    assert store.record(BOOKS).summary == {"begun": 4}
    (left,) = store.leftovers()  # what the sleeper made in its own place
    assert left.name == "3fa9c1d2.work"
    assert store.discard(left)


def test_a_take_over_between_the_last_question_and_the_renaming_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = store_module.publish

    def late(work: Path, final: Path, **options: Any) -> None:
        monkeypatch.setattr(store_module, "publish", publish)
        _fall_asleep(store)
        assert _build(store) is not None
        publish(work, final, **options)

    monkeypatch.setattr(store_module, "publish", late)
    with pytest.raises(LockLostError):
        _build(store)
    _assert_only_the_cell(store)


def test_who_published_just_before_the_take_over_has_published(store: Store) -> None:
    """The other one has asked whether the cell is there, and only then does the sleeper publish."""
    other = Store(store.root.with_name("other"))
    published = _build(other)

    def thief(work: Path) -> dict[str, Any]:
        other.folder(BOOKS).rename(store.folder(BOOKS))
        return _train(work)

    assert _build(store, thief) == published
    _assert_only_the_cell(store)


def test_the_third_attempt_goes_on_from_the_second(store: Store) -> None:
    """The second, which took over, is killed as well; its folder has a name of its own."""

    def sleeper(work: Path) -> dict[str, Any]:
        _first_steps(work)
        _fall_asleep(store)

        def thief(own: Path) -> dict[str, Any]:
            (own / STEP_FOLDER / "4").write_text("done")
            raise ValueError("killed")

        with pytest.raises(ValueError, match="killed"):
            _build(store, thief)
        (left,) = [path for path in store.leftovers() if path.suffix == ".work"]
        assert left.name != "3fa9c1d2.work"
        third = _build(store)
        assert third is not None
        assert third.summary == {"begun": 5}
        return {}

    with pytest.raises(LockLostError):
        _build(store, sleeper)
    _assert_only_the_cell(store)


CHANGES = ("rename", "replace", "mkdir", "rmdir", "unlink", "link")


@pytest.mark.parametrize("left", ["steps", "a damaged cell"])
def test_whenever_it_falls_asleep_the_cell_is_that_of_the_other(
    store: Store, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps before each of its changes to the store in turn, and meanwhile the other one builds the whole cell."""
    lock = store.root / PLACE / "3fa9c1d2.lock"
    calls, asleep_at = 0, 0
    awake = True

    def before(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **more: Any) -> Any:
            nonlocal calls, awake
            calls += awake
            if awake and calls == asleep_at:
                awake = False  # what the other one does is not counted
                if lock.exists():
                    own = lock.read_bytes()
                    _fall_asleep(store)
                    _build(store)
                    if lock.exists():  # the cell was there already, so nobody took it over
                        lock.write_bytes(own)
                awake = True
            return change(*arguments, **more)

        return changed

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, before(getattr(os, name)))
        while calls >= asleep_at:
            asleep_at += 1
            calls, awake = 0, False
            shutil.rmtree(store.root, ignore_errors=True)
            if left == "steps":
                with pytest.raises(OSError, match="full"):
                    _build(store, _interrupted)
            elif left == "a damaged cell":
                _build(store)
                (store.folder(BOOKS) / "model.bin").unlink()
            awake = True
            with contextlib.suppress(LockLostError):
                assert _build(store) is not None
            awake = False
            assert not store.verify(BOOKS), asleep_at
            assert sorted(path.name for path in store.folder(BOOKS).iterdir()) == ["model.bin", "record.json"]
            assert not list(store.root.rglob("*.lock"))
    assert asleep_at > 8


def _interrupted(work: Path) -> dict[str, Any]:
    _first_steps(work)
    raise OSError("the disk is full")
