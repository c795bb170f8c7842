"""What a file is by its first bytes, whatever its name says."""

import re

# Signs that are letters need what follows them in such a file and in no text: a table's header may begin with GGUF.
_NOT_TEXT = rb"[\x00-\x08\x0e-\x1f]"
_KINDS = (
    (rb"\x1f\x8b", "gzip"),
    (rb"\x28\xb5\x2f\xfd", "zstd"),
    (rb"PK\x03\x04", "zip"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2"),
    (rb"\xfd7zXZ\x00", "xz"),
    (rb"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (rb"Rar!\x1a\x07", "RAR"),
    (rb".{257}ustar(?:  )?\x00", "tar"),
    (rb"PAR1" + _NOT_TEXT, "parquet"),
    (rb"ARROW1\x00", "Arrow"),
    (rb"FEA1" + _NOT_TEXT, "Feather 1"),
    (rb"Obj\x01", "Avro"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1", "Excel"),
    (rb"SQLite format 3\x00", "SQLite"),
    (rb"\x89HDF\r\n", "HDF5"),
    (rb"\x93NUMPY", "NumPy"),
    (rb"GGUF" + _NOT_TEXT, "GGUF"),
    (rb"lmgg.{3}\x00", "GGML"),
    (rb"%PDF-\d\.\d", "PDF"),
    (rb"\x89PNG\r\n", "PNG"),
    (rb"\x80[\x02-\x05][^\x00]", "pickle"),
)

PACKED = frozenset({"gzip", "zstd", "zip", "bzip2", "xz", "7-Zip", "RAR", "tar"})
"""Kinds that hold other files."""


def kind_of(start: bytes) -> str | None:
    """The kind of a file that begins like this; None for texts, and for all that is not known."""
    return next((kind for signs, kind in _KINDS if re.match(signs, start, re.DOTALL)), None)
