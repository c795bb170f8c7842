"""The output folder of a merge: it appears by rename, complete or not at all.

It is filled under a hidden name next to the final one. Files that a killed merge left under the hidden name are reused
or removed by the next merge.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmgrid.files import publish, remove_folder, work_folder
from mmgrid.machine.claim import claimed
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.output.journal import JOURNAL_FILE

_TAKEN = "{}: exists already and is not an empty folder; give another output folder"


@contextlib.contextmanager
def working(out: Path, last_file: str = MMGRID_FILE) -> Iterator[Path]:
    """The hidden folder to fill: published as `out` at the end of the block, removed if the block raises an error.

    It may contain files of a merge that was killed or interrupted; `Journal` tells whether that merge can be resumed.

    last_file: the file without which the folder is not complete.

    Raises:
        MergeError: `out` is there already, or another process is writing it now.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = work_folder(out.with_name(f".{out.name}.merging"))
    work.mkdir(exist_ok=True)
    with claimed(work) as ours:
        if not ours:
            raise MergeError(f"{out}: another merge is writing it now; wait, or give another output folder")
        try:
            yield work
            publish(work, out, last_file=last_file, replace_leftover=False)
        except FileExistsError as error:
            remove_folder(work)
            raise MergeError(_TAKEN.format(out)) from error
        except BaseException as error:
            if isinstance(error, Exception) or not (work / JOURNAL_FILE).exists():
                remove_folder(work)
            raise


def check_free(out: Path) -> None:
    """Check that an output folder can be created, as far as this is known before anything is read.

    Raises:
        MergeError: it exists and is not empty, or one of its parents is a file.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise MergeError(_TAKEN.format(out))
    above = next(folder for folder in out.parents if folder.exists())
    if not above.is_dir():
        raise MergeError(f"{out}: {above} is a file; give another output folder")


def clear(folder: Path) -> None:
    """Remove everything in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_outside(out: Path, sources: Iterable[Path]) -> None:
    """Check that the output folder does not lie in a source, because sources are never changed.

    Raises:
        MergeError: `out` is the folder of a source, or lies in it.
    """
    for path in sources:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise MergeError(
                f"{out}: lies in the source {path}, and sources are never changed; give another output folder"
            )
