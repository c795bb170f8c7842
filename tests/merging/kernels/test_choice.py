"""The choice of native loops: when they are used, and what is said without them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from mmgrid.merging import MergeError, merge_state_dicts
from mmgrid.merging.kernels import choice
from mmgrid.merging.kernels.choice import VARIABLE, loops, standing
from mmgrid.merging.kernels.library import Loops, NoLibrary

SMALL = {"w": torch.arange(100.0)}
_SCRIPT = """
import subprocess, sys
subprocess.Popen = None
from mmgrid.merging.kernels.choice import loops
loops()
assert "torch" not in sys.modules
"""


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    choice._loaded.cache_clear()
    yield
    choice._loaded.cache_clear()


@pytest.fixture
def _no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Loops:
        raise NoLibrary("the native loops were not built")

    monkeypatch.setattr(choice, "load", load)


def test_loading_starts_no_process_and_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True)


def test_off_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    monkeypatch.setattr(choice, "load", lambda: pytest.fail("loading"))
    assert loops() is None
    assert standing() == "numpy (MMGRID_KERNELS is off)"


@pytest.mark.usefixtures("_no_library")
def test_numpy_merges_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert loops() is None
    assert standing() == "numpy: the native loops were not built"
    assert merge_state_dicts("linear", {"a": SMALL, "b": SMALL})["w"].equal(SMALL["w"])


@pytest.mark.usefixtures("_no_library")
def test_on_is_an_error_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "on")
    with pytest.raises(MergeError, match="MMGRID_KERNELS is on, but the native loops were not built"):
        merge_state_dicts("linear", {"a": SMALL, "b": SMALL})


@pytest.mark.usefixtures("_no_library")
def test_a_library_that_cannot_be_used_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(choice, "LIBRARY", choice.LIBRARY.parent)  # something is there
    assert loops() is None
    assert "merging does without native loops: the native loops were not built" in caplog.text
