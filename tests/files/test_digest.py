"""Digests, and the cache that avoids hashing large files again."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from mmgrid.files import DigestCache, blake3_file, digest_file, sha256_file, sha256_files
from mmgrid.files import digest as digest_module

# FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABC_BLAKE3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
ABC_XXH128 = "06b05ab6733a618578af5f94892f3950"
LONG_AGO = (1_600_000_000, 1_600_000_000)


def test_known_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == ABC
    assert blake3_file(tmp_path / "abc") == ABC_BLAKE3
    read: list[int] = []
    assert digest_file(tmp_path / "abc", "blake3", read.append) == ABC_BLAKE3
    assert sum(read) == 3
    assert digest_file(tmp_path / "abc", "xxh128") == ABC_XXH128
    assert digest_file(tmp_path / "abc", "sha256") == ABC
    with pytest.raises(ValueError, match="'md5' is no kind"):
        digest_file(tmp_path / "abc", "md5")


def test_all_files_of_a_folder_sorted(tmp_path: Path) -> None:
    (tmp_path / "deep" / "step").mkdir(parents=True)
    (tmp_path / "step").mkdir()
    for name in ["z", "deep/step/b", "step/c", "skipped"]:
        (tmp_path / name).write_bytes(name.encode())
    files = sha256_files(tmp_path, skip=("step", "skipped"))
    assert list(files) == ["deep/step/b", "z"]
    assert files["z"] == {"sha256": hashlib.sha256(b"z").hexdigest(), "bytes": 1}


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="symbolic link"):
        sha256_files(tmp_path)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were hashed, in order."""
    seen: list[Path] = []

    def counted(path: Path, *rest: None) -> str:
        seen.append(path)
        return sha256_file(path, *rest)

    monkeypatch.setattr(digest_module, "sha256_file", counted)
    return seen


def test_the_cache_hashes_once_until_the_file_changes(tmp_path: Path, hashed: list[Path]) -> None:
    raw, memory = tmp_path / "raw.csv", tmp_path / "cache" / "digests.json"
    raw.write_bytes(b"abc")
    os.utime(raw, LONG_AGO)
    assert [DigestCache(memory).sha256(raw) for _ in range(3)] == [ABC] * 3
    assert len(hashed) == 1
    raw.write_bytes(b"abd")  # same size
    os.utime(raw, (LONG_AGO[0], LONG_AGO[1] + 1))
    assert DigestCache(memory).sha256(raw) != ABC
    assert len(hashed) == 2


def test_the_cache_remembers_both_kinds_of_digests(tmp_path: Path, hashed: list[Path]) -> None:
    raw, memory = tmp_path / "raw.csv", tmp_path / "digests.json"
    raw.write_bytes(b"abc")
    os.utime(raw, LONG_AGO)
    for _ in range(2):
        assert DigestCache(memory).sha256(raw) == ABC
        assert DigestCache(memory).of(raw, "blake3", blake3_file) == ABC_BLAKE3
    assert DigestCache(memory).known(raw, "blake3") == ABC_BLAKE3
    assert DigestCache(memory).known(raw, "crc") is None
    assert len(hashed) == 1


def test_a_file_just_written_is_not_cached(tmp_path: Path, hashed: list[Path]) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_bytes(b"abc")
    cache = DigestCache(tmp_path / "digests.json")
    cache.sha256(raw)
    cache.sha256(raw)
    assert len(hashed) == 2


def test_a_broken_or_unwritable_cache_costs_only_time(tmp_path: Path, hashed: list[Path]) -> None:
    raw, memory = tmp_path / "raw.csv", tmp_path / "digests.json"
    raw.write_bytes(b"abc")
    os.utime(raw, LONG_AGO)
    memory.write_text("{ broken")
    assert DigestCache(memory).sha256(raw) == ABC
    assert DigestCache(memory).sha256(raw) == ABC
    assert len(hashed) == 1  # the broken one was replaced
    assert DigestCache(raw / "below-a-file.json").sha256(raw) == ABC


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_bytes(b"abc")

    def grown(path: Path, *rest: object) -> str:
        path.write_bytes(b"abcd")
        return ABC

    monkeypatch.setattr(digest_module, "sha256_file", grown)
    with pytest.raises(OSError, match="changed while it was read"):
        DigestCache(tmp_path / "digests.json").sha256(raw)


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, hashed: list[Path]) -> None:
    raw, cache = tmp_path / "raw.csv", DigestCache(tmp_path / "digests.json")
    raw.write_bytes(b"abc")
    os.utime(raw, (1, 1))
    before = cache.sha256(raw)
    with raw.open("r+b") as stream:
        stream.write(b"abd")
    os.utime(raw, (1, 1))
    assert cache.sha256(raw) != before
    other = tmp_path / "other.csv"  # and one that was put in its place
    other.write_bytes(b"abe")
    os.utime(other, (1, 1))
    other.replace(raw)
    assert cache.sha256(raw) == hashlib.sha256(b"abe").hexdigest()


@pytest.mark.parametrize("written", [5, None, ["x"], "..", "xyz"])
def test_what_is_no_digest_is_not_remembered(tmp_path: Path, hashed: list[Path], written: object) -> None:
    raw, cache = tmp_path / "raw.csv", DigestCache(tmp_path / "digests.json")
    raw.write_bytes(b"abc")
    os.utime(raw, LONG_AGO)
    cache.sha256(raw)
    cache.path.write_text(json.dumps({str(raw): json.loads(cache.path.read_text())[str(raw)] | {"sha256": written}}))
    assert cache.sha256(raw) == ABC
    assert len(hashed) == 2
