"""Readers of tables in folders: where the files of a domain are, by the format that a grid names.

Prepared domains have the layout of `parquet`, so they can serve as raw data of a grid.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmgrid.data.errors import DataError
from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.datasets_folder import check_shards, splits
from mmgrid.data.readers.files import has_texts, read_domain
from mmgrid.data.readers.options import TableOptions
from mmgrid.data.readers.tables import COMPRESSED, listing

_LOGS = ("{domain}/interactions", "{domain}")
_ITEMS = ("{domain}/items", "{domain}.items", "{domain}_items", "items")
_ROLES = ("interactions", "items")
_PLAIN = TableOptions()
_ALL = frozenset(TableOptions.model_fields)


@dataclass(frozen=True)
class Layout:
    """The places of a domain's files below the root of the data; the first that exists is taken.

    A place is a file, or a folder that is a dataset (see `datasets_folder`), all splits of which are read.
    """

    interactions: tuple[str, ...]
    items: tuple[str, ...]
    takes: frozenset[str] = _ALL - {"encoding"}

    def sources(self, root: Path, domain: str, options: TableOptions = _PLAIN) -> list[Path]:
        """The files of a domain: first those of interactions. Raises DataError if there are none."""
        interactions, items = self.files(Path(root), domain, options)
        return list(dict.fromkeys([*interactions, *items]))

    def read(self, root: Path, domain: str, options: TableOptions = _PLAIN) -> RawDomain:
        """The domain's tables. Raises DataError if one is missing, unreadable or lacks columns."""
        return read_domain(*self.files(Path(root), domain, options), domain, options)

    def has_texts(self, root: Path, domain: str, options: TableOptions = _PLAIN) -> bool:
        """Whether the items have titles; otherwise their ids take the place of titles."""
        return has_texts(*self.files(Path(root), domain, options), options)

    def files(self, root: Path, domain: str, options: TableOptions = _PLAIN) -> tuple[list[Path], list[Path]]:
        """The files of interactions and those of items, which may be none. Raises DataError as `sources`."""
        declared = options.interactions
        interactions = _first(root, domain, (declared,) if declared else self.interactions, "interactions")
        if not interactions:
            self._complain(root, domain, declared)
        places = (options.items,) if options.items else self.items
        items = _first(root, domain, places, "items", taken=interactions)
        if options.items and not items:
            raise DataError(f"{root / _filled(options.items, domain)}: no such file of items; {listing(root)}")
        return interactions, items

    def _complain(self, root: Path, domain: str, declared: str | None) -> None:
        if declared:
            raise DataError(f"{root / _filled(declared, domain)}: no such file of interactions; {listing(root)}")
        places = [_filled(place, domain) for place in self.interactions]
        if (root / domain).is_dir():
            inside = [place for place in places if place.startswith(f"{domain}/")] or places
            raise DataError(f"{root / inside[0]}: no such file; {listing(root / domain)}")
        others = [place for place in places if not place.endswith(COMPRESSED[1:])]
        raise DataError(
            f"{root / domain}: no such folder for domain {domain!r} (nor {', '.join(others)}); {listing(root)}; other "
            'places are named by `interactions` and `items`, such as interactions = "logs/{domain}.csv"'
        )


def _first(root: Path, domain: str, places: tuple[str, ...], role: str, taken: Sequence[Path] = ()) -> list[Path]:
    """The files of the first place that exists; a place may hold signs for several files, as in `{domain}-*.csv`.

    Of a dataset with a split named like the role, only that split; otherwise all of them, except those `taken`.

    Raises IncompleteError for numbered files of which some are missing, unless the place names some of the numbers.
    """
    for place in places:
        files: list[Path] = []
        for path in _matching(root, _filled(place, domain)):
            found = {"": [path]} if path.is_file() else splits(path) if path.is_dir() else {}
            chosen = {role: found[role]} if role in found else {key: found[key] for key in found if key not in _ROLES}
            files += [file for group in chosen.values() for file in group if file not in taken]
        if "*" in place and "-of-" not in place:
            check_shards(files)
        if files:
            return files
    return []


def _filled(place: str, domain: str) -> str:
    return place.replace("{domain}", domain)


def _matching(root: Path, place: str) -> list[Path]:
    if "*" not in place:
        return [root / place]
    pattern = "*".join(glob.escape(part) for part in place.split("*"))
    return sorted(Path(path) for path in glob.glob(f"{glob.escape(str(root))}/{pattern}"))  # noqa: PTH207 - escapes


def _packed(places: tuple[str, ...], suffix: str) -> tuple[str, ...]:
    return tuple(f"{place}{suffix}{packed}" for place in places for packed in COMPRESSED)


def _text(suffix: str) -> Layout:
    return Layout(_packed(_LOGS, suffix), _packed(_ITEMS, suffix), _ALL)


CSV = _text(".csv")
TSV = _text(".tsv")


def _of(suffixes: tuple[str, ...]) -> Layout:
    logs = tuple(f"{place}{suffix}" for place in _LOGS for suffix in suffixes)
    return Layout(logs, tuple(f"{place}{suffix}" for place in _ITEMS for suffix in suffixes))


PARQUET = _of((".parquet",))
ARROW = _of((".arrow", ".feather"))
JSONL = _of(tuple(f"{suffix}{packed}" for suffix in (".jsonl", ".json", ".ndjson") for packed in COMPRESSED))
RECBOLE = Layout(
    _packed(("{domain}/{domain}", "{domain}"), ".inter"), _packed(("{domain}/{domain}", "{domain}"), ".item"), _ALL
)
DATASETS = Layout(
    ("{domain}/interactions", "{domain}"), ("{domain}/items", "{domain}", "{domain}.items", "{domain}_items", "items")
)
