"""The safetensors file format: reads headers and checks them, and plans the header of a new file. No torch.

A file is 8 bytes (length of the header, little-endian), the header (JSON: name → dtype, shape, first and
last byte), and the tensors' bytes without a gap. The header is checked against the file before a tensor is read, so
a truncated or damaged file causes an error instead of wrong numbers.

Source: https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.file_kinds import impostor

# safetensors' name of the type → torch's name, bytes per element. Other types (complex, sub-byte) are not merged.
DTYPES: dict[str, tuple[str, int]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
NAMES = {torch_name: name for name, (torch_name, _) in DTYPES.items()}
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # as in the safetensors library
_MOST_ELEMENTS = (1 << 63) - 1


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in a file: type, shape, and its bytes [start, end) from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, by name.

    Raises:
        MergeError: the file is truncated, or does not fit its header.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        first = stream.read(_LENGTH_BYTES)
        length = int.from_bytes(first, "little")
        if len(first) < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise _broken(path, f"it has {size} bytes, too few for its header: truncated, or another format")
        if length > _MAX_HEADER_BYTES:
            raise _broken(path, f"its header claims {length} bytes; the format allows {_MAX_HEADER_BYTES}")
        text = stream.read(length)
    data_start = _LENGTH_BYTES + length
    entries = {name: _entry(path, name, value, data_start) for name, value in _parse(path, text).items()}
    _check_layout(path, entries, data_start, size)
    return entries


def plan_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, TensorEntry]]:
    """The header of a new file, and the place of each tensor in it.

    Tensors are sorted by the width of their type, widest first, and then by name: each is aligned, and the file depends
    only on the tensors.

    Args:
        tensors: name → torch's name of the type, shape.
    """
    ordered = sorted(tensors, key=lambda name: (-DTYPES[NAMES[tensors[name][0]]][1], name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    spans, offset = {}, 0
    for name in ordered:
        dtype, shape = NAMES[tensors[name][0]], tensors[name][1]
        end = offset + math.prod(shape) * DTYPES[dtype][1]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        spans[name], offset = (offset, end), end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    base = _LENGTH_BYTES + len(text)
    entries = {
        name: TensorEntry(tensors[name][0], tensors[name][1], base + start, base + end)
        for name, (start, end) in spans.items()
    }
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text, entries


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise _broken(path, f"its header names {key!r} twice")
            seen[key] = value
        return seen

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not allowed")

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique, parse_int=_whole, parse_constant=constant)
        if isinstance(header, dict):
            "".join(header).encode()  # refuses half of a surrogate pair
    except MergeError:
        raise
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise _broken(path, "its __metadata__ is not a JSON object of texts")
    return header


def _whole(digits: str) -> int:
    """A length or offset; -1, which is refused later, for other texts, such as -0 and very long numbers."""
    return int(digits) if digits.isdecimal() and len(digits) < 20 else -1


def _entry(path: Path, name: str, value: Any, data_start: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except MALFORMED as error:
        raise _broken(path, f"tensor {name!r}: needs dtype, shape and two data_offsets") from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        hint = (
            ". It is a type of quantised weights; name the model that they were made from" if _is_small(dtype) else ""
        )
        raise MergeError(f"{path}: tensor {name!r}: type {dtype!r} is not supported; known: {', '.join(DTYPES)}{hint}")
    numbers = [*shape, start, end] if isinstance(shape, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise _broken(path, f"tensor {name!r}: shape and offsets must be whole numbers from 0")
    torch_name, width = DTYPES[dtype]
    if end - start != _elements(shape) * width:
        raise _broken(path, f"tensor {name!r}: {dtype} {shape} does not fill bytes {start} to {end}")
    return TensorEntry(torch_name, tuple(shape), data_start + start, data_start + end)


def _is_small(dtype: Any) -> bool:
    """Whether a type is one of fewer than 8 bits, or of scales that are powers of two."""
    return isinstance(dtype, str) and dtype.startswith(("F4", "F6", "F8_E8M0", "I4", "U4"))


def _elements(shape: list[int]) -> int:
    """The number of elements; -1 if it exceeds any file (a product of many large numbers takes long)."""
    elements = 1
    for length in shape:
        elements *= length
        if elements > _MOST_ELEMENTS:
            return -1
    return elements


def _check_layout(path: Path, entries: Mapping[str, TensorEntry], data_start: int, size: int) -> None:
    """Check that the tensors cover the rest of the file, each byte once."""
    expected = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != expected:
            what = "overlaps another one" if entry.start < expected else "leaves a gap before it"
            raise _broken(path, f"tensor {name!r}: {what} (at byte {entry.start}, expected {expected})")
        expected = entry.end
    if size < expected:
        cut = [name for name, entry in entries.items() if entry.end > size]
        raise _broken(path, f"it has {size} of {expected} bytes: it is truncated in {listing(cut)}")
    if size > expected:
        raise _broken(path, f"it has {size} bytes, its header accounts for {expected}")


def _broken(path: Path, problem: str) -> MergeError:
    other = impostor(path)
    if other is not None:
        return MergeError(f"{path}: {other}")
    return MergeError(f"{path}: cannot be read as safetensors: {problem}. Fetch or write the file again.")
