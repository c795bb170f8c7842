"""The digest of a file from the runs that others read of it: right in any order, and read once in the usual one."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from xxhash import xxh3_128

from mmgrid.merging import merge
from mmgrid.merging.arrays.buffers import at_end_of_frame, frame, take
from mmgrid.merging.models import digests, passing
from mmgrid.merging.models.passing import PassingDigest
from mmgrid.merging.models.tensors import TensorFolder

CONTENT = bytes(range(256)) * 8


def _add(digest: PassingDigest, start: int, stop: int) -> None:
    digest.announce(start, stop)
    assert digest.add(start, memoryview(CONTENT)[start:stop], wait=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passing") / "file"
    path.write_bytes(CONTENT)
    return path


@given(
    runs=st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 400)), max_size=12),
    gap=st.sampled_from([0, 50, 1 << 16]),
)
def test_any_runs_in_any_order_give_the_digest(file: Path, runs: list[tuple[int, int]], gap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "_SMALL_GAP", gap)
        digest = PassingDigest(file, "xxh128")
        for start, size in runs:
            _add(digest, start, min(start + size, len(CONTENT)))
        assert digest.finish(lambda _: None) == xxh3_128(CONTENT).hexdigest()
        digest.close()


def test_runs_in_order_are_not_read_again(file: Path) -> None:
    digest = PassingDigest(file, "xxh128")
    for start in range(100, len(CONTENT), 100):
        _add(digest, start, min(start + 100, len(CONTENT)))
        _add(digest, start, min(start + 100, len(CONTENT)))  # a second pass adds nothing
    read: list[int] = []
    assert digest.finish(read.append) == xxh3_128(CONTENT).hexdigest()
    assert read == []
    digest.close()


def test_a_run_waits_for_the_one_before_it(file: Path) -> None:
    digest, begun = PassingDigest(file, "xxh128"), threading.Event()

    def later() -> None:
        digest.announce(1000, 2000)
        assert not digest.add(1000, memoryview(CONTENT)[1000:2000], wait=False)
        begun.set()
        assert digest.add(1000, memoryview(CONTENT)[1000:2000], wait=True)

    digest.announce(0, 1000)
    thread = threading.Thread(target=later)
    thread.start()
    begun.wait()
    assert digest.add(0, memoryview(CONTENT)[:1000], wait=False)
    thread.join()
    read: list[int] = []
    assert digest.finish(read.append) == xxh3_128(CONTENT).hexdigest()
    assert read == [len(CONTENT) - 2000]
    digest.close()


def test_a_run_that_never_comes_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "_PATIENCE_SECONDS", 0.0)
    digest = PassingDigest(file, "xxh128")
    digest.announce(0, 1000)
    _add(digest, 1000, 2000)
    digest.withdraw(0, 1000)
    assert digest.finish(lambda _: None) == xxh3_128(CONTENT).hexdigest()
    digest.close()


def test_a_file_that_became_shorter_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    digest = PassingDigest(path, "xxh128")
    _add(digest, 0, 10)
    os.truncate(path, 20)
    _add(digest, 100, 200)
    assert digest.finish(lambda _: None) == xxh3_128(CONTENT[:20]).hexdigest()
    digest.close()


def test_what_is_to_be_done_at_the_end_of_a_frame_is_done_before_its_arrays_are_used_again() -> None:
    done: list[str] = []

    def call(name: str, array: np.ndarray, *, waits: bool = False) -> None:
        def at_end(wait: bool) -> bool:
            if waits and not wait:
                return False
            done.append(f"{name} {array.sum():g}")
            return True

        at_end_of_frame(at_end)

    def failing() -> None:
        with frame():
            call("inner", np.ones(2))
            raise ValueError("inner")

    assert not at_end_of_frame(lambda _: True)
    with frame():
        outer = take(4)
        outer[:] = 1
        call("waits", outer, waits=True)
        call("does not", outer)
        with pytest.raises(ValueError, match="inner"):
            failing()
        assert done == ["inner 2"]
    assert done == ["inner 2", "does not 4", "waits 4"]


@pytest.mark.parametrize("method", ["linear", "ties", "slerp"])
def test_a_merge_reads_its_sources_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(digests, "_FOLLOWED_BYTES", 1)
    monkeypatch.setattr(digests, "digest_file", lambda *_: pytest.fail("a whole file is read for its digest"))
    generator = np.random.default_rng(0)
    for name in ("a", "b", "base"):
        (tmp_path / name).mkdir()
        tensors = {f"layers.{n}.w": generator.normal(size=(40, 300)).astype(np.float32) for n in range(5)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    read: list[int] = []
    fill = TensorFolder._fill

    def counted(self: TensorFolder, view: memoryview, *rest: object) -> None:
        read.append(len(view))
        fill(self, view, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(TensorFolder, "_fill", counted)
    recipe = {
        "method": method,
        "sources": [{"name": name, "path": str(tmp_path / name)} for name in "ab"],
        "options": {"scope": "tensor"} if method == "ties" else {},
    }
    merge(recipe | ({"base": str(tmp_path / "base")} if method == "ties" else {}), tmp_path / "out", workers=2)
    names = ("a", "b", "base") if method == "ties" else ("a", "b")
    record = (tmp_path / "out" / "mmgrid.json").read_text(encoding="utf-8")
    for name in names:
        assert xxh3_128((tmp_path / name / "model.safetensors").read_bytes()).hexdigest() in record
    assert sum(read) == len(names) * 5 * 40 * 300 * 4
