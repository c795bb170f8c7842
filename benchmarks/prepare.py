"""Reading and preparing one domain from generated files: ours, the plain way with pandas, and bare decompression.

The files have the form of Amazon Reviews 2023: gzipped ratings, and gzipped items as JSON lines of a chosen length. Each way
runs in a process of its own, one after the other; both must keep the same rows. `--no-pandas` leaves the plain way out,
which needs the memory of all texts. `--domains 6` lets ours read the files six times in one process, and says what it holds
after each.

    python benchmarks/prepare.py --ratings 2000000 --items 500000 --item-bytes 120
    python benchmarks/prepare.py --ratings 2000000 --items 500000 --domains 6 --no-pandas
    python benchmarks/prepare.py --ratings 10000000 --items 4400000 --item-bytes 2000 --no-pandas --folder /big/disk
"""

import argparse
import gzip
import json
import multiprocessing as mp
import tempfile
import time
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from isal import igzip

from mmgrid.machine.memory import peak_bytes

START, END = 1_498_867_200_000, 1_680_307_200_000  # 2017-07-01 and 2023-04-01
WAYS = ("zlib", "isal", "ours", "pandas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--item-bytes", type=int, default=120)
    parser.add_argument("--folder", type=Path, help="where the files are made, and kept; default: a temporary one")
    parser.add_argument("--domains", type=int, default=1, help="how often ours reads the files, in one process")
    parser.add_argument("--no-pandas", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{options.ratings}_{options.items}_{options.item_bytes}"
        made = folder / f"{name}.csv.gz", folder / f"meta_{name}.jsonl.gz"
        generate(*made, options.ratings, options.items, options.item_bytes)
        sizes = ", ".join(f"{path.stat().st_size / 2**20:,.0f} MiB" for path in made)
        print(f"{options.ratings:,} ratings, {options.items:,} items of {options.item_bytes} bytes ({sizes} gzipped)\n")
        print(f"{'way':<8}{'seconds':>9}{'of work':>9}{'peak MiB':>10}  rows")
        rows = set()
        for way in WAYS:
            if (way == "pandas" and options.no_pandas) or (way == "isal" and find_spec("isal") is None):
                continue
            times = options.domains if way == "ours" else 1
            seconds, work, peak, kept, held = measured(way, *made, folder, times)
            print(f"{way:<8}{seconds:>9.1f}{work:>9.1f}{peak:>10,.0f}  {kept if kept else ''}", flush=True)
            if times > 1:
                print(f"{'':<8}MiB held after each domain: {', '.join(f'{mib:,.0f}' for mib in held)}", flush=True)
            rows |= {kept} if kept else set()
        assert len(rows) <= 1, f"the ways differ: {rows}"


def generate(ratings: Path, items: Path, n_ratings: int, n_items: int, item_bytes: int) -> None:
    """Write both files, if they are not there."""
    if ratings.exists() and items.exists():
        return
    draw = np.random.default_rng(0)
    n_users = max(1, n_ratings // 9)
    table = pl.DataFrame(
        {
            "user_id": "A" + pl.Series(draw.integers(0, n_users, n_ratings)).cast(pl.String).str.zfill(12),
            "parent_asin": "B"
            + pl.Series((n_items * draw.random(n_ratings) ** 3).astype(int)).cast(pl.String).str.zfill(9),
            "rating": pl.Series(draw.integers(1, 6, n_ratings)).cast(pl.Float64),
            "timestamp": draw.integers(START - 10**10, END + 10**9, n_ratings),
        }
    )
    with gzip.open(ratings, "wb", compresslevel=6) as stream:
        for start in range(0, len(table), 1 << 19):
            stream.write(table[start : start + (1 << 19)].write_csv(include_header=not start).encode())
    words = np.array([f"{part}{end}" for part in ("gar", "kit", "sol", "ven", "mor", "tal") for end in range(300)])
    text = " ".join(words[draw.integers(0, len(words), 1 << 20)].tolist())  # far longer than what gzip looks back upon
    length = max(0, item_bytes - 80)
    with igzip.open(items, "wb", compresslevel=3) as stream:  # gzip would need an hour for millions of long lines
        for start in range(0, n_items, 1 << 14):
            many = min(1 << 14, n_items - start)
            places = draw.integers(0, len(text) - length - 40, (many, 2)).tolist()
            lines = [
                json.dumps(
                    {
                        "title": text[title : title + 25],
                        "description": [text[rest : rest + length]] if length else [],
                        "parent_asin": f"B{row:09}",
                        "price": None,
                    }
                )
                for row, (title, rest) in enumerate(places, start)
            ]
            stream.write("".join(f"{line}\n" for line in lines).encode())


def measured(
    way: str, ratings: Path, items: Path, folder: Path, times: int
) -> tuple[float, float, float, int, list[float]]:
    """Seconds on the clock and of processor time, peak memory (MiB), interactions, and memory after each time (MiB) of a
    way, in a process of its own."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, way, ratings, items, folder, times))
    process.start()
    found = ours.recv()
    process.join()
    return found


def _run(pipe: Any, way: str, ratings: Path, items: Path, folder: Path, times: int) -> None:
    work = {"zlib": bare, "isal": bare_isal, "ours": prepared, "pandas": plain}[way]
    for module in {
        "isal": ("isal.isal_zlib",),
        "ours": ("mmgrid.data", "mmgrid.data.readers.files"),
        "pandas": ("pandas", "pyarrow"),
    }.get(way, ()):
        import_module(module)
    begun, worked = time.perf_counter(), time.process_time()
    kept, held = 0, []
    with tempfile.TemporaryDirectory(dir=folder) as out:
        for _ in range(times):
            kept = work(ratings, items, Path(out))
            held.append(psutil.Process().memory_info().rss / 2**20)
    pipe.send((time.perf_counter() - begun, time.process_time() - worked, peak_bytes() / 2**20, kept, held))


def bare(ratings: Path, items: Path, out: Path) -> int:
    """Decompression alone, by the zlib of Python."""
    return _unpacked(ratings, items, zlib.decompressobj)


def bare_isal(ratings: Path, items: Path, out: Path) -> int:
    """Decompression alone, by isal, with which ours reads where it is installed."""
    from isal import isal_zlib

    return _unpacked(ratings, items, isal_zlib.decompressobj)


def _unpacked(ratings: Path, items: Path, decompressor: Callable[[int], Any]) -> int:
    for path in (ratings, items):
        unpack = decompressor(31)
        with path.open("rb") as stream:
            while data := stream.read(1 << 20):
                unpack.decompress(data)
    return 0


def prepared(ratings: Path, items: Path, out: Path) -> int:
    """As `mmgrid data prepare` does."""
    from mmgrid.data import filter_interactions, read_files
    from mmgrid.data.readers import PreparationOptions

    options = PreparationOptions(min_interactions=5)
    corpus = filter_interactions(read_files(ratings, items, "made", options), start=START, end=END).corpus
    corpus.save(out)
    return len(corpus)


def plain(ratings: Path, items: Path, out: Path) -> int:
    """The same steps, as one writes them with pandas."""
    import pandas as pd

    log = pd.read_csv(ratings).sort_values("timestamp", kind="stable")
    log = log.drop_duplicates(["user_id", "parent_asin"])
    meta = pd.read_json(items, lines=True)[["parent_asin", "title", "description"]]
    meta = meta.dropna(subset=["title"]).drop_duplicates("parent_asin")
    meta["description"] = meta["description"].map("\n".join)
    log = log[log["parent_asin"].isin(meta["parent_asin"])]
    of_user = log.groupby("user_id")["timestamp"].transform("size")
    of_item = log.groupby("parent_asin")["timestamp"].transform("size")
    log = log[(log["timestamp"] >= START) & (log["timestamp"] < END) & (of_user >= 5) & (of_item >= 5)]
    log = log[log.groupby("user_id")["timestamp"].transform("size") >= 5]
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    meta = meta[meta["parent_asin"].isin(log["parent_asin"])].sort_values("parent_asin")
    pl.from_pandas(log[["user_id", "parent_asin", "timestamp"]]).write_parquet(out / "interactions.parquet")
    pl.from_pandas(meta).write_parquet(out / "items.parquet")
    return len(log)


if __name__ == "__main__":
    main()
