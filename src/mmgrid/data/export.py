"""Prepared domains, written in the formats of other tools.

What was written is read again and compared before it is published, so that reading the export gives the same corpus.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl

from mmgrid.data.corpus import Corpus
from mmgrid.data.errors import DataError
from mmgrid.data.readers import READERS
from mmgrid.files import clear_disk_errors, replacing_folder, safe_segment

ExportFormat = Literal["recbole", "parquet", "csv"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)


def export(corpora: Iterable[Corpus], out: Path, to: ExportFormat) -> list[Path]:
    """Write each domain below `out`, which must be new or empty, in one step. Returns the files.

    parquet, csv: `<domain>/interactions` and `<domain>/items`. recbole: `<domain>/<domain>.inter` and `.item`.

    Raises:
        ValueError: the name of a domain, which its file declares, cannot name a folder.
        DataError: `out` holds something, or a domain cannot be written in this format without loss.
        DiskFull, NotWritableError: it cannot be written.
    """
    check_export_folder(out)
    files: list[Path] = []
    with clear_disk_errors(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(out) as work:
            for corpus in corpora:
                safe_segment(corpus.name)  # raises for a name that could lead elsewhere
                (work / corpus.name).mkdir()
                written = _write(corpus, work / corpus.name, to)
                _compare(corpus, work, to)
                files += [out / path.relative_to(work) for path in written]
    return files


def check_export_folder(out: Path) -> None:
    """Raise DataError unless `out` is absent or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already; name a new or an empty folder")


def _write(corpus: Corpus, folder: Path, to: ExportFormat) -> list[Path]:
    if to == "parquet":
        corpus.save(folder)
        return sorted(folder.iterdir())
    interactions, items = corpus.interactions_table(), corpus.catalogue.table()
    if to == "csv":
        interactions.write_csv(folder / "interactions.csv")
        items.write_csv(folder / "items.csv")
        return [folder / "interactions.csv", folder / "items.csv"]
    # RecBole's times are numbers of seconds. Without a fraction, they are written as whole ones.
    whole, rest = pl.col("timestamp") // 1000, pl.col("timestamp") % 1000
    fraction = pl.when(rest == 0).then(pl.lit("")).otherwise("." + rest.cast(pl.String).str.zfill(3))
    interactions = interactions.with_columns(timestamp=whole.cast(pl.String) + fraction)
    files = [folder / f"{corpus.name}.inter", folder / f"{corpus.name}.item"]
    interactions.rename(
        {"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"}
    ).write_csv(files[0], separator="\t")
    items.rename(
        {"item_id": "item_id:token", "title": "title:token_seq", "description": "description:token_seq"}
    ).write_csv(files[1], separator="\t")
    return files


def _compare(corpus: Corpus, root: Path, to: ExportFormat) -> None:
    """Raise DataError unless reading what was written gives the same corpus."""
    remedy = "; use --to parquet, which keeps everything"
    try:
        raw = READERS[to].read(root, corpus.name)
    except DataError as error:
        raise DataError(f"{corpus.name}: {to} cannot keep it ({error}){remedy}") from error
    again = Corpus.from_tables(corpus.name, raw.interactions, raw.items)
    ours, theirs = corpus.catalogue, again.catalogue
    taken = np.unique(corpus.items)  # items without an interaction are written, but a reader leaves them out
    for place, row in enumerate(taken.tolist()):
        texts = ours.ids[row], ours.titles[row], ours.descriptions[row]
        if place >= len(theirs) or texts != (theirs.ids[place], theirs.titles[place], theirs.descriptions[place]):
            raise DataError(f"{corpus.name}: {to} cannot keep item {str(ours.ids[row])!r} and its texts{remedy}")
    same = (
        len(corpus) == len(again)
        and np.array_equal(corpus.user_ids, again.user_ids)
        and np.array_equal(corpus.users, again.users)
        and np.array_equal(corpus.items, taken[again.items])
        and np.array_equal(corpus.timestamps, again.timestamps)
    )
    if not same:
        raise DataError(f"{corpus.name}: {to} cannot keep its ids or times as they are{remedy}")
