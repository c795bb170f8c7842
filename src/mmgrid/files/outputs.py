"""Checks of a file that a user names for output, before the work begins: an older output is replaced, and nothing else."""

from collections.abc import Iterable
from pathlib import Path

from mmgrid.files.addresses import address_in


def check_not_read(out: Path, inputs: Iterable[Path | None]) -> None:
    """Check that `out` is none of the files that the command reads.

    Raises:
        ValueError: it is an address of a server.
        FileExistsError: it is one of them, perhaps under another name.
    """
    if (address := address_in(out)) is not None:
        raise ValueError(f"{address}: is an address; name a file on a disk, and copy it there")
    for path in inputs:
        if path is not None and path.exists() and out.exists() and out.samefile(path):
            raise FileExistsError(f"{out}: is the file that is read; name another one to write")
