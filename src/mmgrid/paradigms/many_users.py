"""Recommendations and vectors for the users of a file, block by block, into a parquet file.

Blocks that are done lie in `<out>.parts` until the file is complete, so that a run that was killed goes on after its last
block. Memory is bounded by the blocks, the catalogue and the model.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from mmgrid.data import Histories, Items
from mmgrid.data.user_files import UserFile
from mmgrid.files import clear_disk_errors
from mmgrid.files.damaged_tables import DAMAGED
from mmgrid.paradigms.batch_parts import BatchError, is_written, part_of, stamp, working, write_part
from mmgrid.paradigms.recommender import Ready, ranking
from mmgrid.paradigms.shared.embedding import Embedding

EMBEDDING_BLOCK = 4096  # users
GENERATIVE_BLOCK = 256

BEST_ITEMS = ("user_id", "items", "scores")
USER_VECTORS = ("user_id", "vector")
ITEM_VECTORS = ("item_id", "vector")

Answer = Callable[[Histories], dict[str, pl.Series]]


@dataclass(frozen=True)
class Done:
    """What a batch has written.

    users: rows of the file. unknown_items: interactions with items outside of the catalogue, which were left out.
    without_history: users of whom nothing is left; their lists are empty, their vectors missing.
    resumed: users that an earlier run had done.
    """

    users: int
    unknown_items: int
    without_history: int
    resumed: int


def recommend_users(
    ready: Ready,
    users: UserFile,
    out: Path,
    k: int,
    *,
    identity: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Write `user_id`, `items` (list of the k best ids) and `scores` (list of float32), one row for each user.

    Args:
        identity: what determines the answers beside the users' file and k, such as the checkpoint: a value for JSON. An
            unfinished batch is only resumed if it is the same.
        progress: is called with the users done and those in all.

    Raises:
        BatchError: another process writes this file, or no item of any history is in the catalogue.
        DataError: the users' file is wrong.
        DiskFull, NotWritableError: it cannot be written.
    """
    items, paradigm = ready.known.items, ready.paradigm
    if isinstance(paradigm, Embedding):
        with ranking(paradigm, ready.model):
            recommend = paradigm.recommender(ready.model, items, k)
    else:
        recommend = lambda histories: paradigm.recommend(ready.model, histories, items, k)  # noqa: E731
    ids = pl.Series(items.ids.tolist(), dtype=pl.String)

    def answer(histories: Histories) -> dict[str, pl.Series]:
        best, scores = recommend(histories)
        found = (best >= 0).sum(axis=1)
        flat = best[best >= 0]
        return {
            "items": _lists(ids.gather(flat), found),
            "scores": _lists(pl.Series(scores[best >= 0], dtype=pl.Float32), found),
        }

    empty = {"items": pl.List(pl.String), "scores": pl.List(pl.Float32)}
    identity = {"recommend": k, "by": identity}
    return _batch(ready, users, out, answer, empty, identity, progress)


def embed_users(
    ready: Ready,
    users: UserFile,
    out: Path,
    *,
    identity: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Write `user_id` and `vector` (float32, fixed width), one row for each user. Arguments and errors as
    `recommend_users`; BatchError also if the paradigm has no vectors.
    """
    with ranking(ready.paradigm, ready.model):
        vectors = embedding(ready).vectors(ready.model, ready.known.items)
    width = vectors.items.shape[1]

    def answer(histories: Histories) -> dict[str, pl.Series]:
        return {"vector": _array(vectors.users(histories))}

    dtype = {"vector": pl.Array(pl.Float32, width)}
    return _batch(ready, users, out, answer, dtype, {"embed": "users", "by": identity}, progress)


def check_replaceable(out: Path, columns: tuple[str, ...]) -> None:
    """Check that nothing is at `out`, or a table with exactly these columns, such as `BEST_ITEMS`.

    Raises BatchError if something else is there, which would be lost.
    """
    if not out.exists():
        return
    try:
        found = tuple(pl.read_parquet_schema(out))
    except (*DAMAGED, OSError):
        found = ()
    if found != columns:
        raise BatchError(
            f"{out}: exists already, and is no table with the columns {', '.join(columns)}; name another file"
        )


def embed_items(ready: Ready, items: Items) -> pl.DataFrame:
    """`item_id` and `vector` of items, which need not be in the catalogue. A user's score of an item is the dot product
    of their vectors.

    Raises:
        BatchError: the paradigm has no vectors.
        ValueError: the model knows items by their ids, and not these.
    """
    with ranking(ready.paradigm, ready.model):
        found = embedding(ready).vectors_of(ready.model, ready.known.items, items)
    return pl.DataFrame({"item_id": pl.Series(items.ids.tolist(), dtype=pl.String), "vector": _array(found)})


def embedding(ready: Ready) -> Embedding[Any]:
    """The paradigm, if it scores by vectors. Raises BatchError if it does not."""
    if not isinstance(ready.paradigm, Embedding):
        raise BatchError(
            f"{ready.paradigm.name}: generates items and has no vectors for them; semb, sasrec and pooled have"
        )
    return ready.paradigm


def _batch(
    ready: Ready,
    users: UserFile,
    out: Path,
    answer: Answer,
    empty: dict[str, Any],
    identity: Any,
    progress: Callable[[int, int], None] | None,
) -> Done:
    size = EMBEDDING_BLOCK if isinstance(ready.paradigm, Embedding) else GENERATIVE_BLOCK
    total, parts = users.count(), out.with_name(f"{out.name}.parts")
    rows = pl.DataFrame({"item": ready.known.items.ids.tolist()}, schema={"item": pl.String}).with_row_index("row")
    done = unknown = without = resumed = 0
    unmet: str | None = None
    identity = identity | {"users": stamp(users.path), "block": size}
    computing = ranking(ready.paradigm, ready.model)
    with clear_disk_errors(out), working(parts, out, identity), computing:
        files: list[Path] = []
        for number, block in enumerate(users.histories(size)):
            file = part_of(parts, number)
            known, block_unknown = _rows_of(block, rows)
            lengths = known["rows"].list.len().to_numpy()
            if is_written(file, len(block)):
                resumed += len(block)
            else:
                kept = np.flatnonzero(lengths > 0)
                found = answer(_histories(known["rows"], kept)) if len(kept) else {}
                write_part(file, _spread(block["user_id"], kept, found, empty))
            files.append(file)
            done, unknown, without = done + len(block), unknown + block_unknown, without + int((lengths == 0).sum())
            unmet = unmet or next((item for history in block["history"] for item in history), None)
            if progress is not None:
                progress(done, total)
        if unknown and without == done:
            shutil.rmtree(parts)
            raise BatchError(
                f"{users.path}: none of its {unknown:,} items is in the catalogue: one is {unmet!r} there, and "
                f"{rows['item'][0]!r} here; name the domain of these users, or write ids as they are written there"
            )
        whole = parts / "whole"
        if files:
            pl.scan_parquet(files, glob=False).sink_parquet(whole)
        else:
            pl.DataFrame(schema={"user_id": pl.String} | empty).write_parquet(whole)
        whole.replace(out)
        shutil.rmtree(parts)
    return Done(done, unknown, without, resumed)


def _rows_of(block: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """For each user the item rows of the history, and how many of all items are unknown."""
    flat = block.with_row_index("user").filter(pl.col("history").list.len() > 0).explode("history")
    found = flat.join(rows, left_on="history", right_on="item", how="left", maintain_order="left")
    unknown = found["row"].null_count()
    lists = found.drop_nulls("row").group_by("user", maintain_order=True).agg(pl.col("row").alias("rows"))
    users = pl.DataFrame({"user": pl.int_range(len(block), dtype=pl.UInt32, eager=True)})
    joined = users.join(lists, on="user", how="left", maintain_order="left")
    return joined.with_columns(pl.col("rows").fill_null([])), unknown


def _histories(rows: pl.Series, kept: np.ndarray) -> Histories:
    chosen = rows.gather(kept)
    offsets = np.concatenate([[0], np.cumsum(chosen.list.len().to_numpy(), dtype=np.int64)])
    items = chosen.explode().to_numpy().astype(np.int32)
    return Histories(np.arange(len(kept)), offsets, items, np.arange(len(items), dtype=np.int64), len(items) + 1)


def _spread(user_ids: pl.Series, kept: np.ndarray, found: dict[str, pl.Series], empty: dict[str, Any]) -> pl.DataFrame:
    """One row for each user of a block: with what was found for the kept ones, and nothing for the others."""
    rows = pl.DataFrame({"place": pl.Series(kept, dtype=pl.UInt32)} | found, schema_overrides=empty)
    for name, dtype in empty.items():
        if name not in found:
            rows = rows.with_columns(pl.lit(None, dtype).alias(name))
    table = pl.DataFrame({"user_id": user_ids}).with_row_index("place")
    table = table.join(rows, on="place", how="left", maintain_order="left").drop("place")
    lists = [name for name, dtype in empty.items() if dtype == pl.List]
    return table.with_columns(pl.col(name).fill_null([]) for name in lists)


def _lists(values: pl.Series, lengths: np.ndarray) -> pl.Series:
    """The values as lists of these lengths."""
    owner = pl.Series(np.repeat(np.arange(len(lengths)), lengths))
    grouped = pl.DataFrame({"owner": owner, "value": values}).group_by("owner", maintain_order=True).agg("value")
    every = pl.DataFrame({"owner": pl.Series(np.arange(len(lengths)), dtype=grouped["owner"].dtype)})
    return every.join(grouped, on="owner", how="left", maintain_order="left")["value"].fill_null([])


def _array(vectors: torch.Tensor) -> pl.Series:
    values = vectors.detach().float().cpu().numpy()
    return pl.Series(np.ascontiguousarray(values), dtype=pl.Array(pl.Float32, values.shape[1]))
