"""Names of sources by content, and the digests that are taken beside a merge."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors.torch import save_file
from xxhash import xxh3_128

from mmgrid.files import digest as file_digest
from mmgrid.merging import MergeError, merge
from mmgrid.merging.models import content_names, digests
from mmgrid.merging.models.content_names import content_of
from mmgrid.merging.models.digests import Hashing, differs, digest_by_hub, digest_of, joint_digest, kinds_in

HEX = "0123456789abcdef" * 4


@pytest.fixture
def _few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_names, "_PIECES", 4)
    monkeypatch.setattr(content_names, "_PIECE_BYTES", 8)


def _model(folder: Path, seed: int, changed: int | None = None) -> Path:
    """A model of 4,000 bytes; `changed` is an element that differs."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(seed))
    if changed is not None:
        values[changed] = 1
    folder.mkdir()
    save_file({"w": values}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _merge(folders: list[Path], out: Path) -> None:
    merge({"method": "linear", "sources": [{"path": str(folder)} for folder in folders]}, out)


def content_name(files: list[Path]) -> str:
    return joint_digest(content_of(files))


def _names(out: Path) -> list[str]:
    return [source["name"] for source in json.loads((out / "mmgrid.json").read_text())["recipe"]["sources"]]


def test_small_files_are_named_by_their_digest(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1" * 100)
    two.write_bytes(b"2")
    each = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, two)]
    assert content_name([one]) == each[0]
    assert content_name([two, one]) == hashlib.sha256("".join(each).encode()).hexdigest()


@pytest.mark.usefixtures("_few_pieces")
def test_large_files_are_named_by_size_and_pieces(tmp_path: Path) -> None:
    file, content = tmp_path / "model", bytearray(range(100))
    file.write_bytes(content)
    name = content_name([file])
    (tmp_path / "elsewhere").write_bytes(content)
    assert content_name([tmp_path / "elsewhere"]) == name, "the path does not matter"
    for place in (0, 7, 99, 92, 30, 61):  # pieces begin at 0, 30, 61 and 92
        other = bytearray(content)
        other[place] ^= 1
        file.write_bytes(other)
        assert content_name([file]) != name, place
    file.write_bytes(content + b"\0")
    assert content_name([file]) != name, "the size matters"
    other = bytearray(content)
    other[10] ^= 1
    file.write_bytes(other)
    assert content_name([file]) == name, "this place is in no piece"


@pytest.mark.usefixtures("_few_pieces")
def test_sources_that_differ_outside_of_the_pieces_are_named_by_their_digests(tmp_path: Path) -> None:
    a, b = _model(tmp_path / "a", 0), _model(tmp_path / "b", 0, changed=100)
    assert content_name([a / "model.safetensors"]) == content_name([b / "model.safetensors"])
    _merge([a, b], tmp_path / "out")
    whole = [hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in (a, b)]
    assert _names(tmp_path / "out") == whole


@pytest.mark.usefixtures("_few_pieces")
def test_sources_with_the_same_weights_are_refused(tmp_path: Path) -> None:
    a, b = _model(tmp_path / "a", 0), _model(tmp_path / "b", 0)
    with pytest.raises(MergeError, match="have the same weights"):
        _merge([a, b], tmp_path / "out")


@pytest.mark.usefixtures("_few_pieces")
def test_names_do_not_depend_on_what_is_cached_and_the_record_has_whole_digests(tmp_path: Path) -> None:
    folders = [_model(tmp_path / name, seed) for seed, name in enumerate("ab")]
    for folder in folders:
        os.utime(folder / "model.safetensors", (1_600_000_000, 1_600_000_000))  # old enough to be cached
    for out in ("first", "second"):
        _merge(folders, tmp_path / out)
    names = _names(tmp_path / "first")
    assert names == _names(tmp_path / "second") == [content_name([folder / "model.safetensors"]) for folder in folders]
    recorded = json.loads((tmp_path / "first" / "mmgrid.json").read_text())["sources"]
    for name, folder in zip(names, folders, strict=True):
        whole = (folder / "model.safetensors").read_bytes()
        assert recorded[name]["files"] == {
            "model.safetensors": {"xxh128": xxh3_128(whole).hexdigest(), "bytes": len(whole)}
        }


def test_the_hub_names_large_files_by_their_digest(tmp_path: Path) -> None:
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    for name in (HEX, HEX[:40]):  # files that are not large are named by git
        (blobs / name).write_bytes(b"weights")
    (tmp_path / "link").symlink_to(blobs / HEX)
    (tmp_path / "small").symlink_to(blobs / HEX[:40])
    (tmp_path / HEX).write_bytes(b"not of the Hub")
    assert digest_by_hub(tmp_path / "link") == HEX
    assert digest_by_hub(tmp_path / "small") is None
    assert digest_by_hub(tmp_path / HEX) is None
    with Hashing([tmp_path / "link", tmp_path / "small"], 2) as hashing:
        found = hashing.of([tmp_path / "link", tmp_path / "small"])
    assert found["link"] == {"sha256": HEX, "bytes": 7}
    assert found["small"] == {"xxh128": xxh3_128(b"weights").hexdigest(), "bytes": 7}
    assert joint_digest({"link": found["link"]}) == HEX


def test_the_digest_that_takes_the_least_time_or_all_that_are_wanted(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"weights")
    both = {"blake3": blake3(b"weights").hexdigest(), "sha256": hashlib.sha256(b"weights").hexdigest()}
    for kinds, found in {("sha256",): ["sha256"], ("sha256", "blake3"): ["blake3"]}.items():
        with Hashing([file], 1, kinds) as hashing:
            assert hashing.of([file]) == {"model": {**{kind: both[kind] for kind in found}, "bytes": 7}}
    with Hashing([file], 1, list(both), every=True) as hashing:
        assert hashing.of([file]) == {"model": {**both, "bytes": 7}}
    assert digest_of({**both, "bytes": 7}) == ("blake3", both["blake3"])
    assert digest_of({"sha256": both["sha256"]}) == ("sha256", both["sha256"])


def test_entries_differ_unless_a_digest_of_one_kind_is_equal() -> None:
    assert not differs({"sha256": "a", "bytes": 1}, {"sha256": "a", "blake3": "b"})
    assert differs({"sha256": "a", "blake3": "c"}, {"sha256": "a", "blake3": "b"})
    assert differs({"sha256": "a"}, {"blake3": "a"})
    assert differs({}, {"blake3": "a"})


def test_a_record_is_compared_by_one_kind_of_digest_if_all_entries_have_it() -> None:
    assert kinds_in([]) == []
    assert kinds_in([{"sha256": "a"}, {"blake3": "b", "sha256": "c"}]) == ["sha256"]
    assert kinds_in([{"sha256": "a"}, {"blake3": "b"}]) == ["blake3", "sha256"]
    assert kinds_in([{"xxh128": "a", "sha256": "c"}, {"xxh128": "b", "sha256": "c"}]) == ["xxh128"]


def test_what_fails_in_the_background_is_raised_where_digests_are_asked_for(tmp_path: Path) -> None:
    with Hashing([tmp_path / "absent"], 1) as hashing:
        hashing.start()
        with pytest.raises(FileNotFoundError):
            hashing.of([tmp_path / "absent"])


def test_hashing_ends_with_the_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of a large file is stopped, and its thread is gone."""
    file = tmp_path / "large"
    file.write_bytes(bytes(1000))
    monkeypatch.setattr(file_digest, "_CACHED_BYTES", 1)
    seen = []
    check = Hashing._check_wanted

    def checked(self: Hashing, n_bytes: int) -> None:
        seen.append(1)
        if len(seen) == 3:
            self._stopped.set()
        check(self, n_bytes)

    monkeypatch.setattr(digests.Hashing, "_check_wanted", checked)
    clock = time.monotonic()
    with Hashing([file], 1) as hashing:
        hashing.start()
        with pytest.raises(InterruptedError, match="ended before"):
            hashing.of([file])
    assert len(seen) == 3
    assert hashing.waited_seconds <= time.monotonic() - clock
