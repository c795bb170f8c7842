"""`mmgrid status --watch` shows a store again whenever it has changed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kits.tiny_grid import mmgrid
from mmgrid.store import Store
from mmgrid.store.lock import try_lock

WORK = "corpus/garden/0123abcd.work"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store, in which a cell is begun between the first look and the second; Ctrl-C comes after the third."""
    store, seconds = Store(tmp_path / "runs"), list[float]()

    def sleep(number: float) -> None:
        seconds.append(number)
        if len(seconds) == 1:
            (store.root / WORK).mkdir(parents=True)
            locks.append(try_lock(store.root / WORK.replace(".work", ".lock")))
        if len(seconds) == 3:
            raise KeyboardInterrupt

    locks = []
    monkeypatch.setattr("time.sleep", sleep)
    yield store.root
    monkeypatch.undo()
    (lock,) = locks
    lock.release()
    assert seconds == [2.0] * 3


def test_it_is_shown_again_when_it_has_changed(root: Path) -> None:
    answer = mmgrid("status", "--watch", "--store", root)
    assert answer.code == 130
    first, second = answer.out.split(f"Store {root}")[1:]
    assert "in work" not in first
    assert f"in work: {WORK} (process {os.getpid()} on " in second.replace("\n", " ")


def test_for_programs_each_look_is_a_line(root: Path) -> None:
    lines = [json.loads(line) for line in mmgrid("status", "--watch", "--json", "--store", root).out.splitlines()]
    assert [line["in_work"] for line in lines] == [[], [WORK]]
