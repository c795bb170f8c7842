"""MovieLens: ratings and movies as its publishers pack them, from 100K to the latest (https://grouplens.org/datasets/movielens).

The name of a domain is that of the folder: `ml-1m` (`ratings.dat`, `movies.dat`), `ml-100k` (`u.data`, `u.item`), `ml-32m`
(`ratings.csv`, `movies.csv`). What columns the files without a line of names have stands in `movielens_files`.
"""

from pathlib import Path

from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.layouts import Layout
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.tables import COMPRESSED

takes = frozenset({"columns", "encoding", "min_rating", "skip_bad_lines"})

_LOGS = ("ratings.dat", "ratings.csv", "u.data")
_MOVIES = ("movies.dat", "movies.csv", "u.item")
_OF_CSV = {"user": "userId", "item": "movieId"}
_PLAIN = TableOptions()
LAYOUT = Layout(
    tuple(f"{{domain}}/{name}{packed}" for name in _LOGS for packed in COMPRESSED),
    tuple(f"{{domain}}/{name}{packed}" for name in _MOVIES for packed in COMPRESSED),
    takes,
)


def sources(root: Path, domain: str, options: TableOptions = _PLAIN) -> list[Path]:
    """The files of ratings and of movies. Raises DataError if there are no ratings."""
    return LAYOUT.sources(root, domain, options)


def read(root: Path, domain: str, options: TableOptions = _PLAIN) -> RawDomain:
    """The ratings, and the movies with at least one. Raises DataError if a file is unreadable or lacks columns."""
    return LAYOUT.read(root, domain, _named(root, domain, options))


def has_texts(root: Path, domain: str, options: TableOptions = _PLAIN) -> bool:
    """Whether there are movies, with their titles."""
    return LAYOUT.has_texts(root, domain, _named(root, domain, options))


def _named(root: Path, domain: str, options: TableOptions) -> TableOptions:
    """The options, with the names of columns that the files with commas have."""
    log = LAYOUT.files(Path(root), domain)[0][0]
    if ".csv" not in log.name:
        return options
    columns = {**_OF_CSV, **options.columns.model_dump(exclude_none=True)}
    return options.model_copy(update={"columns": type(options.columns).model_validate(columns)})
