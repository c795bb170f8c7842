"""The choice of compiled loops: when they are used, where they are cached, and how merges work without them."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mmgrid.merging import merge_state_dicts
from mmgrid.merging.kernels import choice
from mmgrid.merging.kernels.choice import PAYS_FROM, VARIABLE, Choice, is_installed

SMALL = {"w": torch.arange(100.0)}
SCRIPT = """
import sys
from mmgrid.cli.main import main
from mmgrid.merging import merge
try:
    main()
except SystemExit:
    pass
assert not {"numba", "llvmlite"} & set(sys.modules), "compilers are imported"
"""


def test_help_imports_no_compiler() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, "--help"], check=True, capture_output=True)


def test_small_merges_load_no_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(Choice, "_load", lambda self: pytest.fail("loading"))
    own = Choice()
    assert not own.begin(PAYS_FROM - 1)
    assert own.loops is None


def test_off_disables_loaded_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    own = Choice()
    own._loops = object()  # pyright: ignore[reportAttributeAccessIssue]
    assert not own.begin(PAYS_FROM)
    assert own.loops is None


def test_without_numba_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "on")
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    own = Choice()
    assert not own.begin(PAYS_FROM)
    assert own.loops is None


def test_numpy_is_used_if_the_compiler_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(loading: threading.Lock) -> None:
        raise RuntimeError("compiled loops call foo")

    monkeypatch.setenv(VARIABLE, "on")
    monkeypatch.setattr(choice, "is_installed", lambda: True)
    monkeypatch.setattr(choice, "_loaded", failing)
    own = Choice()
    own.begin(1)
    assert own.loops is None
    assert "continues without compiled loops: compiled loops call foo" in caplog.text


@pytest.mark.skipif(not is_installed(), reason="needs numba")
def test_a_second_process_uses_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "on")
    assert Choice().begin(1), "compiles if the cache is empty"
    monkeypatch.setattr(choice, "compile_into", lambda path: pytest.fail("compiling"))
    again = Choice()
    again.begin(1)
    assert again.loops is not None


@pytest.mark.skipif(not is_installed(), reason="needs numba")
def test_damaged_code_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmgrid.merging.kernels.loading import load

    monkeypatch.setenv(VARIABLE, "on")
    assert Choice().begin(1)
    (kept, *_) = (choice.cache_folder() / "kernels").glob("*.bin")
    content = kept.read_bytes()
    for damaged in (b"", content[:31], content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        (tmp_path / "damaged.bin").write_bytes(damaged)
        assert load(tmp_path / "damaged.bin") is None
    assert load(tmp_path / "absent.bin") is None


def test_numpy_is_used_if_the_cache_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmgrid").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "on")
    monkeypatch.setattr("mmgrid.merging.engine.run.CHOICE", Choice())
    merged = merge_state_dicts("linear", {"a": SMALL, "b": SMALL})
    np.testing.assert_array_equal(merged["w"].numpy(), SMALL["w"].numpy())
