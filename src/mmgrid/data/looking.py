"""Looks at files that nobody described, and guesses their format, domains and columns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from mmgrid.data.errors import DataError, named
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers import READERS, Columns, TableOptions, json_lines, tables
from mmgrid.data.readers.datasets_folder import IncompleteError
from mmgrid.data.readers.guessing import guess_column
from mmgrid.data.readers.layouts import Layout
from mmgrid.data.readers.names import domain_name
from mmgrid.data.readers.parts import is_folder_of_parts
from mmgrid.data.readers.piece import Piece
from mmgrid.data.readers.times import Times
from mmgrid.files.paths import file_stem

_SIGNS = {
    "csv": (".csv",),
    "tsv": (".tsv",),
    "parquet": (".parquet",),
    "jsonl": (".json", ".ndjson"),
    "arrow": (".arrow", ".feather"),
    "recbole": (".inter",),
}
_TABLES = tuple(_SIGNS)
_ROLES = ("user", "item", "time")
_MOST_DOMAINS = 50  # more values than this are no domains
_USUAL = {"user": "user_id", "item": "item_id", "time": "timestamp", "title": "title", "description": "description"}


@dataclass(frozen=True)
class Found:
    """What [data] of a grid file would say about files.

    named: role → the column that was found, for all roles, also where the name is the usual one.
    left_out: names of tables that cannot name a domain.
    """

    format: str
    root: Path
    domains: tuple[str, ...]
    options: TableOptions
    named: Mapping[str, str]
    has_texts: bool
    left_out: tuple[str, ...] = ()

    def read(self, domain: str) -> RawDomain:
        """The raw tables of a domain."""
        return READERS[self.format].read(self.root, domain, self.options)


_NOTHING = TableOptions()


def look(path: Path, given: Mapping[str, str] | None = None, said: TableOptions = _NOTHING) -> Found:
    """Guess what a file, or a folder of files, holds.

    Args:
        given: role (a field of `Columns`) → column, where the caller knows better.
        said: the unit of time and the encoding, if the caller knows them.

    Raises DataError if the files are of no known format, or a column that is needed cannot be told.
    """
    path = path.resolve()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    given = given or {}
    unknown = [role for role in given if role not in Columns.model_fields]
    if unknown:
        raise DataError(f"column {unknown[0]}: unknown; known are {', '.join(Columns.model_fields)}")
    name, root, domains, pattern = _of_file(path) if path.is_file() else _of_folder(path, given, said.encoding)
    for key in ("time_unit", "encoding"):
        if getattr(said, key) is not None and key not in READERS[name].takes:
            raise DataError(f"{path}: {key}: format {name!r} does not take it; leave it out")
    if name in ("amazon2023", "movielens"):
        return Found(name, root, domains, said, {}, has_texts=True)
    found = _described(name, root, domains, pattern, given, said)
    return found if path.is_file() else replace(found, left_out=_unusable(path))


def _unusable(folder: Path) -> tuple[str, ...]:
    """The tables in a folder whose names cannot be those of domains."""
    ends = tuple(suffix for suffix in tables.SUFFIXES if not suffix.startswith((".txt", ".dat", ".json")))
    names = [path.name for path in sorted(folder.iterdir()) if path.name.endswith(ends)]
    return tuple(name for name in names if file_stem(name) != name and not name.startswith("."))


def _of_file(path: Path) -> tuple[str, Path, tuple[str, ...], str | None]:
    """Format, root, domains, and the pattern of the interactions where the format would not find them."""
    kind = tables.file_format(path)
    if _is_movielens(path.parent) and path in _sources("movielens", path.parent.parent, path.parent.name)[:1]:
        return "movielens", path.parent.parent, (path.parent.name,), None
    if kind == "arrow" and _is_dataset(path.parent):
        return _of_dataset(path.parent)
    stem = path.name.partition(f".{_suffix(path)}")[0]
    of_text = {"tsv": "tsv", "inter": "recbole", "item": "recbole"}.get(_suffix(path).lower(), "csv")
    name = of_text if kind == "delimited" else kind
    for root, domain in ((path.parent.parent, path.parent.name), (path.parent, stem)):
        if path in _sources(name, root, domain)[:1]:
            return name, root, (domain,), None
    return name, path.parent, (file_stem(stem),), path.name


def _suffix(path: Path) -> str:
    parts = path.name.split(".")
    return parts[-2] if parts[-1].lower() in ("gz", "zst") else parts[-1]


def _of_folder(
    path: Path, given: Mapping[str, str], encoding: str | None
) -> tuple[str, Path, tuple[str, ...], str | None]:
    """As `_of_file`, for a folder: one domain, or a folder of domains."""
    metas = [*sorted(path.glob("meta_*.jsonl*")), *sorted(path.glob("raw/meta_categories/meta_*"))]
    reviews = [meta.name.removeprefix("meta_").partition(".jsonl")[0] for meta in metas]
    reviews += [meta.name.removeprefix("raw_meta_") for meta in sorted(path.glob("raw_meta_*"))]
    categories = tuple(dict.fromkeys(name for name in reviews if _sources("amazon2023", path, name)))
    if categories:
        return "amazon2023", path, categories, None
    if _is_movielens(path):
        return "movielens", path.parent, (path.name,), None
    films = tuple(entry.name for entry in sorted(path.iterdir()) if _is_movielens(entry))
    if films:
        return "movielens", path, films, None
    if _is_dataset(path):
        return _of_dataset(path)
    for name in _TABLES:  # the folder of one domain
        if any(file.parent == path for file in _sources(name, path.parent, path.name)[:1]):
            return name, path.parent, (path.name,), None
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    found = {
        name: [domain for domain in _named(entries, name) if _is_log(name, path, domain, given, encoding)]
        for name in _TABLES
    }
    best = max(_TABLES, key=lambda name: len(found[name]))
    if found[best]:
        return best, path, tuple(found[best]), None
    saved = tuple(folder.name for folder in sorted(path.iterdir()) if _is_dataset(folder))
    if saved:
        logs = [name for name in saved if not name.endswith(("items", "_items", ".items"))]
        return "datasets", path, tuple(logs), None
    raise DataError(
        f"{path}: holds no table with columns for user and item; {tables.listing(path)}. If there is one, name its "
        "columns: --column user=NAME --column item=NAME"
    )


def _named(entries: list[Path], name: str) -> list[str]:
    """The domains that entries of a folder may belong to: its tables of a format, and its folders."""
    of_format = [entry for entry in entries if entry.is_dir() or any(sign in entry.name for sign in _SIGNS[name])]
    return sorted({entry.name.split(".")[0] for entry in of_format})


def _is_log(name: str, root: Path, domain: str, given: Mapping[str, str], encoding: str | None) -> bool:
    """Whether a domain of this name exists, and its first file has columns for user and item."""
    try:
        if file_stem(domain) != domain:  # as `_unusable` judges
            return False
        files = READERS[name].sources(root, domain)
        columns = tables.column_names(files[0], tuple(given.values()), encoding)
    except ValueError:
        return False
    return all(guess_column(columns, role) or given.get(role) in columns for role in ("user", "item"))


def _sources(name: str, root: Path, domain: str) -> list[Path]:
    try:
        return READERS[name].sources(root, domain)
    except IncompleteError:
        raise
    except DataError:
        return []


def _is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset without doubt, and not just one of tables."""
    signs = ("dataset_dict.json", "state.json", "data/*.parquet", "*-00000-of-*.parquet")
    own = folder.is_dir() and any(any(folder.glob(sign)) for sign in signs)
    return own or is_folder_of_parts(folder) or (folder.is_dir() and (folder / "interactions/state.json").is_file())


def _is_movielens(folder: Path) -> bool:
    """Whether a folder holds ratings and movies of MovieLens, and has a name that a domain can have."""
    pairs = (
        (".dat", "ratings.dat", "movies.dat"),
        (".item", "u.data", "u.item"),
        (".csv", "ratings.csv", "movies.csv"),
    )
    if not folder.is_dir() or file_stem(folder.name) != folder.name:
        return False
    for end, *names in pairs:
        if all((folder / name).is_file() for name in names):
            return end != ".csv" or tables.column_names(folder / names[0])[:2] == ["userId", "movieId"]
    return False


def _of_dataset(folder: Path) -> tuple[str, Path, tuple[str, ...], str | None]:
    if (folder.parent / "dataset_dict.json").is_file():
        folder = folder.parent
    return (
        "datasets",
        folder.parent,
        (file_stem(folder.name),),
        None if file_stem(folder.name) == folder.name else folder.name,
    )


def _described(
    name: str, root: Path, domains: tuple[str, ...], pattern: str | None, given: Mapping[str, str], said: TableOptions
) -> Found:
    """The columns of tables, and the domains, if a column names them."""
    reader = READERS[name]
    assert isinstance(reader, Layout)
    logs, items = reader.files(root, domains[0], TableOptions(interactions=pattern))
    own = tuple(given[role] for role in _ROLES if role in given)
    present = tables.column_names(logs[0], own, said.encoding)
    roles = {role: given.get(role) or guess_column(present, role) for role in (*_ROLES, "domain")}
    roles["time"] = roles["time"] or _time_by_value(
        logs[0], [name for name in present if name not in roles.values()], said
    )
    for role in _ROLES:
        if roles[role] is None:
            raise DataError(
                f"{logs[0]}: cannot tell which column is the {role}; it has {named(present)}: name it by "
                f"--column {role}=NAME"
            )
    goods = None if items else _table_of_items(root, logs, str(roles["item"]), said.encoding)
    of_texts = own if not (items or goods) else tuple(given[role] for role in ("id", "title") if role in given)
    texts = tables.column_names((items or [goods or logs[0]])[0], of_texts, said.encoding)
    roles |= {role: given.get(role) or guess_column(texts, role) for role in ("title", "description")}
    if texts != present and roles["item"] not in texts:
        roles["id"] = given.get("id") or guess_column(texts, "id")
    if len(domains) == 1 and roles["domain"] is not None:
        values = _values(logs, roles["domain"], said.encoding)
        if 1 < len(values) <= _MOST_DOMAINS or "domain" in given:
            place = domains[0] if name == "datasets" else logs[0].relative_to(root).as_posix()
            domains, pattern = tuple(values), pattern or place
        else:
            roles["domain"] = None
    elif "domain" not in given:
        roles["domain"] = None
    known = {role: column for role, column in roles.items() if column is not None}
    unusual: dict[str, object] = {role: column for role, column in known.items() if column != _USUAL.get(role)}
    options = TableOptions(
        columns=Columns.model_validate(unusual),
        interactions=pattern,
        items=goods.name if goods else None,
        time_unit=said.time_unit,
        encoding=said.encoding,
    )
    return Found(name, root, domains, options, known, reader.has_texts(root, domains[0], options))


def _pieces(path: Path, columns: list[str], encoding: str | None) -> Iterator[Piece]:
    if tables.file_format(path) == "jsonl":
        return json_lines.read_fields(path, columns, optional=columns)
    return tables.read(path, columns, encoding)


def _time_by_value(path: Path, columns: list[str], said: TableOptions) -> str | None:
    """The first column whose first values are times; ids and counts would lie near 1970."""
    for piece in _pieces(path, columns, said.encoding) if columns else ():
        for column in columns:
            times = Times(column, said.time_unit)
            try:
                times.add(replace(piece, frame=piece.frame.head(100)))
                times.milliseconds()
            except DataError:
                continue
            return column
        break
    return None


def _table_of_items(root: Path, logs: list[Path], item: str, encoding: str | None) -> Path | None:
    """A table beside those of interactions that has items and titles, and no users."""
    for path in sorted(root.iterdir()):
        try:
            columns = tables.column_names(path, (), encoding) if path.is_file() and path not in logs else []
        except DataError:
            continue
        is_item = item in columns or guess_column(columns, "id")
        if is_item and guess_column(columns, "title") and not guess_column(columns, "user"):
            return path
    return None


def _values(logs: list[Path], column: str, encoding: str | None) -> list[str]:
    """The values of a column as names of domains, most frequent first; if there are too many, only some."""
    counts: dict[str, int] = {}
    for path in logs:
        for piece in _pieces(path, [column], encoding):
            for value, count in piece.frame[column].cast(pl.String).drop_nulls().value_counts().iter_rows():
                name = domain_name(value)
                if name is not None:
                    counts[name] = counts.get(name, 0) + count
            if len(counts) > _MOST_DOMAINS:
                return list(counts)
    return sorted(counts, key=lambda name: (-counts[name], name))
