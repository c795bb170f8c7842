"""The digest of a file from the runs that others write to it: right in any order, and nothing is read in the usual one."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from mmgrid.files import digest_file
from mmgrid.merging.models import partial_digest
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.written import WrittenDigest

CONTENT = bytes(range(256)) * 8
DIGEST = xxh3_128(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "file"
    path.write_bytes(CONTENT)
    return path


@given(cuts=st.sets(st.integers(1, len(CONTENT) - 1), max_size=8), data=st.data())
def test_any_runs_in_any_order_give_the_digest(file: Path, cuts: set[int], data: st.DataObject) -> None:
    bounds = [0, *sorted(cuts), len(CONTENT)]
    runs = data.draw(st.permutations(list(itertools.pairwise(bounds))))
    left_out = data.draw(st.integers(0, len(runs)))  # written by a process that was killed before
    digest = WrittenDigest(file, "xxh128")
    for start, stop in runs[left_out:]:
        digest.add(start, memoryview(CONTENT)[start:stop])
        digest.add(start, memoryview(b""))
    assert digest.finish() == DIGEST
    digest.close()


def test_runs_in_order_are_not_read_and_early_ones_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    inner = partial_digest.PartialDigest.read

    def counted(self: partial_digest.PartialDigest, stop: int | None = None) -> None:
        before = self.position
        inner(self, stop)
        read.append((before, self.position))

    monkeypatch.setattr(partial_digest.PartialDigest, "read", counted)
    digest = WrittenDigest(file, "xxh128")
    for start, stop in [(0, 100), (100, 300), (600, 700), (700, 2048), (300, 600)]:
        digest.add(start, memoryview(CONTENT)[start:stop])
    assert digest.finish() == DIGEST
    assert read == [(600, 700), (700, 2048), (2048, 2048)]
    digest.close()


def test_after_an_error_all_is_read_at_the_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = WrittenDigest(file, "xxh128")
    digest.add(10, memoryview(CONTENT)[10:2048])
    with monkeypatch.context() as patch:
        patch.setattr(partial_digest.PartialDigest, "read", lambda *_: (_ for _ in ()).throw(OSError("unreadable")))
        with pytest.raises(OSError, match="unreadable"):
            digest.add(0, memoryview(CONTENT)[:10])
    digest.add(0, memoryview(CONTENT)[:10])
    assert digest.finish() == DIGEST
    digest.close()


def test_several_threads_write_tensors_and_their_twins(tmp_path: Path) -> None:
    infos = {name: TensorInfo("float32", (64, 64)) for name in "abcd"}
    values = np.arange(4096, dtype=np.float32)
    with TensorWriter(tmp_path / "model", infos, twins={"b": "a"}, digest="xxh128") as writer:

        def write(name: str) -> None:
            for start in range(0, 4096, 512):
                writer.write(name, start, values[start : start + 512])

        threads = [threading.Thread(target=write, args=(name,)) for name in "dca"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.digest() == digest_file(tmp_path / "model", "xxh128")
