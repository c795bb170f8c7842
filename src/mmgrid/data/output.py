"""A prepared domain in a folder of the user: it replaces an earlier one as a whole, and nothing else."""

from collections.abc import Iterable
from pathlib import Path

from mmgrid.data.corpus import INTERACTIONS_FILE, ITEMS_FILE, Corpus, stored_name
from mmgrid.data.errors import DataError
from mmgrid.files import clear_disk_errors, replacing_folder
from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.files.folder import is_partial


def check_output(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Check that `out` is absent, empty, or holds a prepared domain and nothing else.

    Raises DataError if it is not, or if one of the files to read is in it.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder")
    for path in inputs:
        if out.resolve() in path.resolve().parents:
            raise DataError(f"{out}: holds {path}, which is to be read; name another folder for the prepared data")
    held = sorted(path.name for path in out.iterdir() if not is_partial(path))
    foreign = [name for name in held if name not in (INTERACTIONS_FILE, ITEMS_FILE)]
    problem = f"holds {foreign[0]}" if foreign else _other_tables(out) if held else None
    if problem:
        raise DataError(
            f"{out}: {problem}; the prepared data take the place of the whole folder, so name a new one, or one "
            "that `mmgrid data prepare` wrote"
        )


def publish(corpus: Corpus, out: Path) -> None:
    """Write the corpus to `out` in one step: after an error, or a kill, `out` is what it was before.

    Raises:
        DataError: as `check_output`.
        DiskFull, NotWritableError: it cannot be written.
    """
    check_output(out)
    with clear_disk_errors(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(out) as work:
            corpus.save(work)


def _other_tables(folder: Path) -> str | None:
    """Why the two tables in a folder are no prepared domain; None if they are."""
    try:
        if stored_name(folder) is not None:
            return None
    except (*DAMAGED, OSError) as error:
        return f"its {INTERACTIONS_FILE} cannot be read ({error})"
    return f"its {INTERACTIONS_FILE} was not written by `mmgrid data prepare`"
