"""A prepared domain: interactions as user and item rows, sorted by user and time, and the catalogue.

On disk it is two parquet files, `interactions.parquet` and `items.parquet`, in the layout of the parquet reader, so
that a prepared domain can serve as raw data. Rows follow the sorted ids, so a corpus does not depend on the order of
its source files; only ties in time keep file order.

Shapes: U users, n interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.histories import Histories
from mmgrid.data.items import Items, strings
from mmgrid.data.log import Log
from mmgrid.data.numbering import all_distinct, stable_sort
from mmgrid.data.raw import INTERACTIONS, ITEMS, require_columns
from mmgrid.files.damaged_tables import DAMAGED

INTERACTIONS_FILE = "interactions.parquet"
ITEMS_FILE = "items.parquet"


@dataclass(frozen=True, eq=False)
class Corpus:
    """A domain's interactions, sorted by user row, then time, ties in file order.

    user_ids: str[U], sorted; every user has an interaction. users: int32[n] user rows.
    items: int32[n] item rows. timestamps: int64[n], ms UTC. catalogue: the domain's items.
    """

    name: str
    user_ids: npt.NDArray[np.str_]
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    timestamps: npt.NDArray[np.int64]
    catalogue: Items

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """int64[U + 1]: user row u has the interactions offsets[u]:offsets[u + 1]."""
        return np.searchsorted(self.users, np.arange(self.n_users + 1)).astype(np.int64)

    @classmethod
    def from_tables(cls, name: str, interactions: pl.DataFrame, items: pl.DataFrame) -> Corpus:
        """A corpus from the two tables of a `RawDomain`. Raises DataError if the item of an interaction is missing."""
        return cls.from_log(name, Log.of(interactions), items)

    @classmethod
    def from_log(cls, name: str, log: Log, items: pl.DataFrame, numbers: npt.NDArray[np.int32] | None = None) -> Corpus:
        """As `from_tables`, from numbered interactions. numbers: those of the items, in the order of the table, as
        `log.items.find` gives them; None: they are found."""
        if not all_distinct(items["item_id"]):
            raise DataError(f"{name}: the item table contains items more than once; prepare the domain again")
        numbers = log.items.find(items["item_id"]) if numbers is None else numbers
        items = items.with_columns(number=numbers).sort("item_id")
        catalogue, numbers = Items.from_table(items), items["number"].to_numpy()
        of_item = np.full(len(log.items.ids), -1, np.int32)
        known = numbers >= 0
        of_item[numbers[known]] = np.flatnonzero(known)
        item_rows = of_item[log.items.rows]
        if (unknown := item_rows < 0).any():
            raise DataError(
                f"{name}: {np.count_nonzero(unknown)} interactions have items that the item table lacks, such as "
                f"{log.items.ids[int(log.items.rows[unknown.argmax()])]}; prepare the domain, which drops them"
            )
        present = np.flatnonzero(log.users.counts())
        user_ids = log.users.ids.gather(present)
        by_id = user_ids.arg_sort()
        of_user = np.empty(len(log.users.ids), np.int32)
        of_user[present[by_id.to_numpy()]] = np.arange(len(present))
        users = of_user[log.users.rows]
        order, users, timestamps = _by_user_and_time(users, log.timestamps)
        return cls(name, strings(user_ids.gather(by_id)), users, item_rows.take(order), timestamps, catalogue)

    @classmethod
    def load(cls, folder: Path, until: int | None = None) -> Corpus:
        """Read the corpus that `save` wrote. Its name is stored in the file; otherwise it is that of the folder.

        Args:
            folder: holds `interactions.parquet` and `items.parquet`.
            until: interactions at or after this time (ms UTC) are filtered while reading and never enter memory, and
                users without an earlier interaction are left out. Equals `load(folder).before(until)`.

        Raises DataError if a file is missing or is not a table of this form.
        """
        folder = Path(folder)
        interactions = _scan(folder / INTERACTIONS_FILE, INTERACTIONS.names())
        if until is not None:
            interactions = interactions.filter(pl.col("timestamp") < until)
        tables = _collected(interactions, folder / INTERACTIONS_FILE), stored_items(folder)
        return cls.from_tables(stored_name(folder) or folder.resolve().name, *tables)

    def save(self, folder: Path) -> None:
        """Write `interactions.parquet` and `items.parquet` into `folder`, which is created if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        interactions = self.interactions_table()
        # The file stores the name, since the folders of a store are named by fingerprints.
        interactions.write_parquet(
            folder / INTERACTIONS_FILE, compression_level=_LEVEL, metadata={_NAME_KEY: self.name}
        )
        self.catalogue.table().write_parquet(
            folder / ITEMS_FILE, compression_level=_LEVEL, row_group_size=_TEXTS_AT_ONCE
        )

    def interactions_table(self) -> pl.DataFrame:
        """The table with columns user_id, item_id, timestamp: n rows."""
        ids = pl.Series(self.user_ids.tolist(), dtype=pl.String)
        item_ids = pl.Series(self.catalogue.ids.tolist(), dtype=pl.String)
        return pl.DataFrame(
            {
                "user_id": ids.gather(self.users),
                "item_id": item_ids.gather(self.items),
                "timestamp": self.timestamps,
            },
            schema=INTERACTIONS,
        )

    def before(self, end_ms: int) -> Corpus:
        """The interactions before `end_ms`, and the users with at least one. The catalogue is unchanged."""
        return self._where(self.timestamps < end_ms)

    def take_users(self, rows: npt.ArrayLike) -> Corpus:
        """The interactions of these user rows. The catalogue is unchanged."""
        chosen = np.zeros(self.n_users, np.bool_)
        chosen[np.asarray(rows)] = True
        return self._where(chosen[self.users])

    def histories(self, end_ms: int) -> Histories:
        """Each user's interactions before `end_ms`, oldest first, for users with at least one.

        `users` of the result are user rows of this corpus.
        """
        kept = self.timestamps < end_ms
        users, counts = np.unique(self.users[kept], return_counts=True)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return Histories(users.astype(np.int64), offsets, self.items[kept], self.timestamps[kept], int(end_ms))

    def _where(self, kept: npt.NDArray[np.bool_]) -> Corpus:
        users, rows = np.unique(self.users[kept], return_inverse=True)
        return Corpus(
            self.name,
            self.user_ids[users],
            rows.astype(np.int32),
            self.items[kept],
            self.timestamps[kept],
            self.catalogue,
        )


_NAME_KEY = "mmgrid.domain"
_TEXTS_AT_ONCE = 1 << 14  # in memory while they are written
_LEVEL = 1  # of zstd: half the time of the default, a twentieth larger


def _by_user_and_time(
    users: npt.NDArray[np.int32], times: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The rows by user, then time, ties in file order; and users and times in this order."""
    least = int(times.min()) if len(times) else 0
    room = (int(times.max()) - least).bit_length() if len(times) else 0
    if room + (int(users.max()).bit_length() if len(users) else 0) > 64:
        order = np.lexsort((times, users))
        return order, users[order], times[order]
    keys = users.astype(np.uint64)
    keys <<= np.uint64(room)
    keys |= (times - least).astype(np.uint64)
    order, keys = stable_sort(keys)
    times = (keys & np.uint64((1 << room) - 1)).astype(np.int64) + least
    keys >>= np.uint64(room)
    return order, keys.astype(np.int32), times


def _scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; a prepared domain is a folder with {INTERACTIONS_FILE} and {ITEMS_FILE}"
        )
    try:
        table = pl.scan_parquet(path, glob=False)
        require_columns(table.collect_schema().names(), columns, path)
    except DAMAGED as error:
        raise DataError(f"{path}: not a readable parquet file ({error}); prepare the domain again") from error
    return table.select(columns)


def _collected(table: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return table.collect()
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the domain again") from error


def stored_items(folder: Path, columns: Sequence[str] = tuple(ITEMS)) -> pl.DataFrame:
    """The table of items of a prepared domain. Raises DataError as `Corpus.load`."""
    return _collected(_scan(folder / ITEMS_FILE, columns), folder / ITEMS_FILE)


def stored_name(folder: Path) -> str | None:
    """The domain's name as `Corpus.save` stored it; None if another program wrote the file. Errors as of polars."""
    return pl.read_parquet_metadata(folder / INTERACTIONS_FILE).get(_NAME_KEY)
