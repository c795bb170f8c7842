"""Large files are flushed to the disk while they are written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mmgrid.merging.models import flusher, tensor_writer
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorFolder, TensorInfo

N = 1 << 16


def write(path: Path) -> None:
    with TensorWriter(path, {"w": TensorInfo("float32", (N,))}) as writer:
        for start in range(0, N, 1 << 10):
            writer.write("w", start, np.arange(start, start + (1 << 10), dtype=np.float32))


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (flusher, tensor_writer):
        monkeypatch.setattr(module, "FLUSHED_BYTES", 1 << 13)


@pytest.mark.usefixtures("_soon")
def test_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    write(tmp_path / "model.safetensors")
    assert flushed
    with TensorFolder(tmp_path) as folder:
        assert folder.read("w", 0, N).tolist() == list(range(N))


@pytest.mark.usefixtures("_soon")
def test_disk_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later flush would not report the error again."""

    def refused(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refused)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path / "model.safetensors")


@pytest.mark.usefixtures("_soon")
def test_an_error_of_the_merge_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refused)

    def failing() -> None:
        with TensorWriter(tmp_path / "w", {"w": TensorInfo("float32", (N,))}) as writer:
            writer.write("w", 0, np.zeros(N, np.float32))
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        failing()


def test_small_files_start_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_writer, "Flusher", lambda descriptor: pytest.fail("a thread"))
    write(tmp_path / "model.safetensors")
