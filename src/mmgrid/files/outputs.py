"""Checks of a file that a user names for output, before the work begins: an older output is replaced, and nothing else."""

from collections.abc import Iterable
from pathlib import Path


def check_not_read(out: Path, inputs: Iterable[Path | None]) -> None:
    """Check that `out` is none of the files that the command reads.

    Raises:
        FileExistsError: it is one of them, perhaps under another name.
    """
    for path in inputs:
        if path is not None and path.exists() and out.exists() and out.samefile(path):
            raise FileExistsError(f"{out}: is the file that is read; name another one to write")
