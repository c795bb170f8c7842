"""What a table's file is by its first bytes, where its name says something else, and what to do."""

from mmgrid.files.first_bytes import PACKED, kind_of

# What can be read under its own name, the usual ending first.
_ENDS = {
    "gzip": (".gz",),
    "zstd": (".zst",),
    "parquet": (".parquet", ".pq"),
    "Arrow": (".arrow", ".feather", ".ipc"),
}
_PACKED_WITHIN = (*_ENDS["parquet"], *_ENDS["Arrow"])


def foreign_kind(start: bytes, name: str, *, unpacked: bool = False, taken_for: str | None = None) -> str | None:
    """What a file is, and what to do, if its first bytes tell another kind than its name; None otherwise.

    Args:
        unpacked: these are the bytes of what was packed, whose kind the last extension of the name does not say.
        taken_for: the kind that a reader took it for; it is none of another.
    """
    kind = kind_of(start)
    plain, name = name, name.lower()
    ends = _ENDS.get(kind or "", ())
    if kind is None or kind == taken_for or (ends and name.endswith(ends) and not unpacked):
        return None
    if unpacked:
        return f"holds a {kind} file that was packed once more; unpack it first"
    if kind in ("gzip", "zstd") and not name.endswith(_PACKED_WITHIN):
        return f"is in {kind} format; name it {plain.removesuffix('.gz').removesuffix('.zst')}{ends[0]}"
    if kind in ("parquet", "Arrow"):
        return f"is in {kind} format; let its name end with {ends[0]}"
    if kind == "Feather 1":
        return (
            "is in the first format of Feather; write it again as Feather 2 (pyarrow: feather.write_feather) or parquet"
        )
    shown = "zip (or Excel)" if kind == "zip" else kind
    return (
        f"is in {shown} format; {'unpack it, or write' if kind in PACKED else 'write'} it as CSV, JSON lines or parquet"
    )
