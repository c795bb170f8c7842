"""What a file is by its first bytes, whatever its name says: a packed file, or a table of another program."""

import re

_KINDS = (
    (rb"\x1f\x8b\x08", "gzip", ".gz"),
    (rb"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (rb"PAR1[\x00-\x1f]", "parquet", ".parquet"),
    (rb"ARROW1\x00", "Arrow", ".arrow"),
    (rb"PK\x03\x04", "zip (or Excel)", None),
    (rb"BZh[1-9]1AY&SY", "bzip2", None),
    (rb"\xfd7zXZ\x00", "xz", None),
    (rb"7z\xbc\xaf\x27\x1c", "7-Zip", None),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1", "Excel", None),
    (rb"SQLite format 3\x00", "SQLite", None),
    (rb"\x89HDF\r\n", "HDF5", None),
    (rb"\x93NUMPY", "numpy", None),
    (rb"\x80[\x02-\x05](?:\x95|\}|\]|c)", "pickle", None),
)


def foreign_kind(start: bytes, name: str, *, unpacked: bool = False, taken_for: str | None = None) -> str | None:
    """What a file is, and what to do, if its first bytes tell another kind than its name; None otherwise.

    Args:
        unpacked: these are the bytes of what was packed, whose kind the last extension of the name does not say.
        taken_for: the kind that a reader took it for; it is none of another.
    """
    for signs, kind, suffix in _KINDS:
        if not re.match(signs, start):
            continue
        if kind == taken_for or (suffix is not None and name.endswith(suffix) and not unpacked):
            return None
        if unpacked:
            return f"holds a {kind} file that was packed once more; unpack it first"
        if suffix in (".gz", ".zst") and not name.endswith((".parquet", ".arrow")):
            return f"is a {kind} file; name it {name.removesuffix('.gz').removesuffix('.zst')}{suffix}"
        if suffix in (".parquet", ".arrow"):
            return f"is a {kind} file; let its name end with {suffix}"
        return f"is a {kind} file; unpack it, or write it as CSV, JSON lines or parquet"
    return None
