"""Writes the synthetic world as raw Amazon 2023 files, so that all later steps are those of real data.

The same seed and parameters give the same bytes: gzip headers hold neither time nor name, and ids are hashes of the
domain and a number.
"""

import base64
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data.calendar import format_time
from mmgrid.data.synthetic.simulation import Simulation, simulate
from mmgrid.data.synthetic.world import World

# About one in a hundred items has no title, as in real data.
_UNTITLED_EVERY = 97


def write_world(world: World, name: str, folder: Path) -> dict[str, Any]:
    """Write the domain's `<name>.csv.gz`, `meta_<name>.jsonl.gz` and `truth_<name>.json` into `folder`.

    Returns the content of the last one, the ground truth: the domain's parameters, and for the ends of the phases (t0,
    t1, t2) and the middle of the test phase the mean taste (length 1 if all tastes agree, near 0 if they are scattered)
    and the mean angle, in radians, between a user's taste at that time and at t2.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    simulation = simulate(world, name)
    item_ids = [f"B0{_letters(f'{name} item {row}', 8)}" for row in range(len(simulation.titles))]
    _write_gzip(folder / f"{name}.csv.gz", _ratings(simulation, item_ids))
    _write_gzip(folder / f"meta_{name}.jsonl.gz", _items(simulation, item_ids))
    truth = _truth(world, simulation)
    (folder / f"truth_{name}.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return truth


def _ratings(simulation: Simulation, item_ids: list[str]) -> bytes:
    name = simulation.domain.name
    users = pl.Series([f"A{_letters(f'{name} user {row}', 27)}" for row in range(simulation.domain.users)])
    table = pl.DataFrame(
        {
            "user_id": users.gather(simulation.users),
            "parent_asin": pl.Series(item_ids).gather(simulation.items),
            "rating": simulation.ratings.astype(np.float64),
            "timestamp": simulation.times_ms,
        }
    )
    return table.write_csv().encode()


def _items(simulation: Simulation, item_ids: list[str]) -> bytes:
    counts = np.bincount(simulation.items, minlength=len(item_ids))
    sums = np.bincount(simulation.items, simulation.ratings, len(item_ids))
    lines = []
    for row, item_id in enumerate(item_ids):
        untitled = row % _UNTITLED_EVERY == _UNTITLED_EVERY - 1
        sentences = simulation.descriptions[row].split(". ", 1)
        paragraphs = [sentences[0] + "." * (len(sentences) > 1), *sentences[1:]]
        meta = {
            "main_category": simulation.domain.name,
            "title": None if untitled else simulation.titles[row],
            "average_rating": round(float(sums[row] / counts[row]), 1) if counts[row] else None,
            "rating_number": int(counts[row]),
            "description": [] if untitled else paragraphs,
            "store": simulation.brands[row],
            "parent_asin": item_id,
        }
        lines.append(json.dumps(meta))
    return ("\n".join(lines) + "\n").encode()


def _truth(world: World, simulation: Simulation) -> dict[str, Any]:
    calendar = world.calendar
    middle = (calendar.test.start + calendar.test.end) // 2
    times = {"t0": calendar.t0, "t1": calendar.t1, "t2": calendar.t2, "test": middle}
    tastes = {key: simulation.taste(time) for key, time in times.items()}
    turned = {key: np.arccos(np.clip((taste * tastes["t2"]).sum(axis=1), -1, 1)) for key, taste in tastes.items()}
    return {
        "domain": simulation.domain.name,
        "seed": world.seed,
        "calendar": calendar.as_dates(),
        "parameters": simulation.domain.parameters(),
        "tastes": {
            key: {
                "time": format_time(times[key]),
                "mean": [round(float(value), 6) for value in tastes[key].mean(axis=0)],
                "radians_from_t2": round(float(turned[key].mean()), 6),
            }
            for key in times
        },
    }


def _letters(text: str, length: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=20).digest()
    return base64.b32encode(digest).decode()[:length]


def _write_gzip(path: Path, data: bytes) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as stream:
        stream.write(data)
    path.write_bytes(buffer.getvalue())
