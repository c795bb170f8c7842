"""What all test processes of a run share: one of them makes it, and the others wait."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE = 900  # seconds


def made_once(name: str, make: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """A folder that `make` filled, in this process or in another one of the same run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done, failed = (folder.with_name(f"{name}.{state}") for state in ("done", "failed"))
    try:
        folder.mkdir()
    except FileExistsError:
        start = time.monotonic()
        while not done.exists():
            assert not failed.exists(), f"another process could not make {folder}"
            assert time.monotonic() - start < PATIENCE, f"nobody has made {folder}"
            time.sleep(0.1)
        return folder
    try:
        make(folder)
    except BaseException:
        failed.touch()
        raise
    done.touch()
    return folder
