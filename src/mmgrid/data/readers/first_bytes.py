"""What a table's file is by its first bytes, where its name says something else, and what to do."""

from mmgrid.files.first_bytes import PACKED, kind_of

_ENDS = {"gzip": ".gz", "zstd": ".zst", "parquet": ".parquet", "Arrow": ".arrow"}  # what can be read under its own name


def foreign_kind(start: bytes, name: str, *, unpacked: bool = False, taken_for: str | None = None) -> str | None:
    """What a file is, and what to do, if its first bytes tell another kind than its name; None otherwise.

    Args:
        unpacked: these are the bytes of what was packed, whose kind the last extension of the name does not say.
        taken_for: the kind that a reader took it for; it is none of another.
    """
    kind = kind_of(start)
    end = _ENDS.get(kind or "")
    if kind is None or kind == taken_for or (end is not None and name.endswith(end) and not unpacked):
        return None
    if unpacked:
        return f"holds a {kind} file that was packed once more; unpack it first"
    if end in (".gz", ".zst") and not name.endswith((".parquet", ".arrow")):
        return f"is in {kind} format; name it {name.removesuffix('.gz').removesuffix('.zst')}{end}"
    if end in (".parquet", ".arrow"):
        return f"is in {kind} format; let its name end with {end}"
    shown = "zip (or Excel)" if kind == "zip" else kind
    return (
        f"is in {shown} format; {'unpack it, or write' if kind in PACKED else 'write'} it as CSV, JSON lines or parquet"
    )
