"""Wrong headers and indexes: reading gives the same tensors as the safetensors library, or one MergeError."""

import json
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mmgrid.merging import MergeError, TensorFolder
from mmgrid.merging.models.header import DTYPES, read_header

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
GOOD = save(
    {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.float16),
        "c": np.array(7, np.int64),
        "e": np.zeros((0, 5), np.float32),
    },
    metadata={"format": "pt"},
)


def framed(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length % 2**64) + header + data


def theirs(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """The tensors that the safetensors library reads; None if it refuses the file."""
    try:
        read = safetensors.deserialize(content)
    except BaseException as error:  # Rust may also panic
        if isinstance(error, KeyboardInterrupt):
            raise
        return None
    return {name: (facts["dtype"], tuple(facts["shape"]), bytes(facts["data"])) for name, facts in read}


def check(path: Path, content: bytes) -> bool:
    """Whether the file was read; checks that the safetensors library reads the same."""
    path.write_bytes(content)
    try:
        entries = read_header(path)
        with TensorFolder(path) as folder:
            ours = {name: folder.read(name, 0, folder.info(name).size).tobytes() for name in folder}
    except MergeError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert refused.startswith(str(path)), "the error names the file"
        return False
    expected = theirs(content)
    assert expected is not None, "safetensors refuses it"
    assert ours == {name: data for name, (_, _, data) in expected.items()}
    names = {torch_name: name for name, (torch_name, _) in DTYPES.items()}
    assert {name: (names[entry.dtype], entry.shape) for name, entry in entries.items()} == {
        name: (dtype, shape) for name, (dtype, shape, _) in expected.items()
    }
    return True


def test_files_written_by_safetensors_are_read(tmp_path: Path) -> None:
    assert check(tmp_path / "model.safetensors", GOOD)
    assert check(tmp_path / "model.safetensors", framed(b"{}"))
    assert check(tmp_path / "model.safetensors", framed(b'{"__metadata__": null}   '))


@FUZZ
@given(data=st.data())
def test_damaged_bytes(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(GOOD)
    end = 8 + int.from_bytes(GOOD[:8], "little")
    for _ in range(data.draw(st.integers(1, 5))):
        where = data.draw(st.integers(0, min(end, len(content) - 1)) if content else st.just(0))
        what = data.draw(st.sampled_from(["change", "digit", "cut", "insert", "copy"]))
        if what == "change" and content:
            content[where] = data.draw(st.integers(0, 255))
        elif what == "digit":
            digits = [index for index in range(8, min(end, len(content))) if chr(content[index]).isdigit()]
            if digits:
                content[data.draw(st.sampled_from(digits))] = ord(data.draw(st.sampled_from("0123456789-.e")))
        elif what == "cut":
            del content[where : where + data.draw(st.integers(1, 20))]
        elif what == "insert":
            content[where:where] = data.draw(st.binary(min_size=1, max_size=9) | st.sampled_from([b"-", b"0", b"NaN"]))
        else:
            content[where:where] = content[where : where + data.draw(st.integers(1, 60))]
    if data.draw(st.booleans()):  # a length that fits again, so that the header itself is looked at
        content[:8] = struct.pack("<Q", max(end - 8 + len(content) - len(GOOD), 0))
    check(tmp_path / "model.safetensors", bytes(content))


NUMBERS = st.integers(0, 40) | st.sampled_from(
    [-1, 2**31, 2**32, 2**62, 2**63, 2**64, 2**64 + 8, 10**40, True, 1.0, None]
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPES, "F4", "C64", "f32", "", 3, None]),
        "shape": st.lists(NUMBERS, max_size=4) | st.sampled_from([None, 4, "4", {}, [[2]]]),
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | st.lists(NUMBERS, max_size=3) | st.just({"0": 1}),
        "extra": st.sampled_from([1, None, "x", [[[]]], float("nan")]),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "", "__metadata__", "\ud800", "é", "a\0b"]) | st.text(max_size=3),
    ENTRIES | st.sampled_from([None, 1, "x", [], {"k": "v"}, {"k": 1}, ["F32", [1], [0, 4]]]),
    max_size=4,
)


@FUZZ
@given(header=HEADERS, n=st.integers(0, 64), extra=st.sampled_from([0, 0, 0, -1, 1, 2**62]))
@example(header={"a": {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}}, n=0, extra=0)
@example(header={"a": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, n=0, extra=0)
@example(header={"a": {"dtype": "F32", "shape": [0, 10**40], "data_offsets": [0, 0]}}, n=0, extra=0)
@example(header={"a": {"dtype": "U8", "shape": [4], "data_offsets": [2**64, 4]}}, n=4, extra=0)
def test_arbitrary_headers(tmp_path: Path, header: dict[str, Any], n: int, extra: int) -> None:
    text = json.dumps(header).encode()
    check(tmp_path / "model.safetensors", framed(text, bytes(n), len(text) + extra))


@FUZZ
@given(seed=st.integers(0, 2**32), liar=st.sampled_from(["no", "no", "shift", "swap", "same", "gap", "short", "long"]))
def test_headers_with_one_error(tmp_path: Path, seed: int, liar: str) -> None:
    """Complete files with one error: tensors that overlap, are swapped or repeated, or leave gaps."""
    draw = random.Random(seed)
    header, data = {}, b""
    for number in range(draw.randrange(1, 6)):
        dtype = draw.choice(list(DTYPES))
        shape = [draw.choice([0, 1, 2, 3, 5]) for _ in range(draw.randrange(4))]
        size = int(np.prod(shape)) * DTYPES[dtype][1]
        header[f"t{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += draw.randbytes(size)
    victim, other = (header[draw.choice(list(header))] for _ in range(2))
    if liar == "shift":
        step = draw.choice([-8, -1, 1, 8])
        victim["data_offsets"] = [offset + step for offset in victim["data_offsets"]]
    elif liar == "swap":
        victim["data_offsets"], other["data_offsets"] = other["data_offsets"], victim["data_offsets"]
    elif liar == "same":
        victim["data_offsets"] = other["data_offsets"]
    elif liar == "gap":
        data += bytes(4)
        victim["data_offsets"] = [len(data) - 4, len(data)]
    elif liar == "short":
        data = data[: len(data) // 2]
    elif liar == "long":
        data += b"\0"
    items = list(header.items())
    draw.shuffle(items)
    text = json.dumps(dict(items)).encode()
    was_read = check(tmp_path / "model.safetensors", framed(text + b" " * draw.randrange(9), data))
    assert was_read or liar != "no"


def test_duplicate_names(tmp_path: Path) -> None:
    entry = '{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    for text in (
        f'{{"a": {entry}, "a": {entry}}}',
        f'{{"a": {entry}, "\\u0061": {entry}}}',
        '{"a": {"dtype": "U8", "dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}',
    ):
        assert not check(tmp_path / "model.safetensors", framed(text.encode(), b"1"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-8-sig", "latin-1"])
def test_headers_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"é": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, ensure_ascii=False)
    assert not check(tmp_path / "model.safetensors", framed(text.encode(encoding), b"1"))


def _entry(shape: str, offsets: str = "[0, 4]") -> bytes:
    return f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}'.encode()


@pytest.mark.parametrize(
    "content",
    [
        framed(b"{}", length=99_999_999),
        framed(b"{}", length=2**63),
        framed(b"{}", length=2**64 - 1),
        framed(_entry("[" + "9" * 4000 + "]"), bytes(4)),
        framed(_entry("[" + ", ".join(["9" * 4000] * 200) + "]"), bytes(4)),
        framed(_entry("[" + ", ".join(["9" * 18] * 20_000) + "]"), bytes(4)),
        framed(_entry("[" + ", ".join(["2"] * 50_000) + "]"), bytes(4)),
        framed(_entry("[0, 1]", "[" + "9" * 5000 + ", 1]"), bytes(4)),
        framed(b"[" * 1_000_000),
        framed(b'{"a":' * 200_000),
        framed(b'{"' + b"x" * 1_000_000),
        framed(b'{"a": "' + b"\\u0061" * 100_000 + b'"}'),
    ],
    ids=range(12),
)
def test_hostile_headers_take_little_time_and_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    clock = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(MergeError):
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - clock < 5
    assert peak < 30 * len(content) + (1 << 20), "memory is proportional to the file"


# ---- indexes


SHARDS = {"one.safetensors": ["a", "b"], "two.safetensors": ["c"]}
NAMES = st.sampled_from(["a", "b", "c", "d", "", "\ud800", "a\0"])
PLACES = st.sampled_from(
    [
        *["one.safetensors", "two.safetensors"] * 3,
        "three.safetensors",
        "../one.safetensors",
        "folder",
        "folder/../one.safetensors",
        "./one.safetensors",
        "/etc/passwd",
        "",
        ".",
        "x" * 300,
        "nul\0",
        "\ud800",
        "broken.safetensors",
        None,
        3,
        ["one.safetensors"],
        {},
    ]
)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    for number, (shard, names) in enumerate(SHARDS.items()):
        (tmp_path / shard).write_bytes(save({name: np.full(3, number, np.float32) for name in names}))
    (tmp_path / "broken.safetensors").write_bytes(b"\x05")
    (tmp_path / "folder").mkdir()
    return tmp_path


def check_index(folder: Path, index: bytes, named: set[str]) -> bool:
    """Whether the folder was read; checks that all tensors in the index were found."""
    (folder / "model.safetensors.index.json").write_bytes(index)
    try:
        with TensorFolder(folder) as opened:
            values = {name: opened.read(name, 0, 3).tolist() for name in opened}
    except MergeError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert refused.startswith(str(folder)), "the error names the folder"
        return False
    assert named <= set(values) <= {"a", "b", "c"}
    assert all(values[name] == [float(name == "c")] * 3 for name in values)
    return True


@FUZZ
@given(places=st.dictionaries(NAMES, PLACES, max_size=4))
@example(places={"a": "x" * 300})
@example(places={"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
def test_wrong_indexes(sharded: Path, places: dict[str, Any]) -> None:
    was_read = check_index(sharded, json.dumps({"weight_map": places}).encode(), set(places))
    honest = {name: shard for shard, names in SHARDS.items() for name in names}
    assert was_read or places != honest


@FUZZ
@given(data=st.data())
def test_damaged_indexes(sharded: Path, data: st.DataObject) -> None:
    honest = {name: shard for shard, names in SHARDS.items() for name in names}
    content = bytearray(json.dumps({"metadata": {"total_size": 36}, "weight_map": honest}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    check_index(sharded, bytes(content), set())


@pytest.mark.parametrize("index", [b"", b"[" * 100_000, b'{"weight_map":' * 50_000, b"\xff\xfe", b"NaN", b"[]", b"3"])
def test_files_that_are_not_indexes(sharded: Path, index: bytes) -> None:
    assert not check_index(sharded, index, set())
