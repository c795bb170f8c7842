"""How the tests of runners start workers."""

import pytest

from mmgrid.runners import process


@pytest.fixture
def fresh_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start as those of users do: for tests that break what a worker imports."""
    monkeypatch.setattr(process, "START_METHOD", "spawn")
