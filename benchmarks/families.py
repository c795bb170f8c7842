"""Families at the size of Qwen3-0.6B: bytes, error, and seconds to write and to expand each kind of part.

The lower bound of expanding (*floor*) is one read of all files that it reads and one write of the checkpoint, synced to
disk, measured right before and after; that of masking (writing masks) is one read of the checkpoint, the shared model and
the base. Page cache warm, no hashing, as in `merge_speed.py`. Changes of the models are random, so `low_rank` shows bytes
and speed and no useful error, and `exact` the least that is saved.

    python benchmarks/families.py [--size 0.6B] [--folder DIR] [--only delta-4,mask] [--repeats 3] [--workers 2]
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_floor import seconds_of_bytes
from merge_models import make_models
from mmgrid.families import build, expand
from mmgrid.families.pair import Pair, Stored
from mmgrid.families.parts import MaskPart, PartChoice
from mmgrid.families.plan import plan_domain
from mmgrid.families.writers.mask import write_mask
from mmgrid.merging.kernels.choice import standing
from mmgrid.merging.models.family.member import open_member
from mmgrid.merging.models.quantised import open_model

KINDS: dict[str, Any] = {
    "own": "own",
    "mask": "mask",
    "mask-tall": {"kind": "mask", "rule": "tall"},
    "low_rank-16": {"kind": "low_rank", "rank": 16},
    "delta-2": {"kind": "delta", "bits": 2},
    "delta-3": {"kind": "delta", "bits": 3},
    "delta-4": {"kind": "delta", "bits": 4},
    "delta-4 of 128": {"kind": "delta", "bits": 4, "group": 128},
    "delta-8": {"kind": "delta", "bits": 8},
    "exact": "exact",
}


@dataclass(frozen=True)
class Row:
    """What one kind takes. floors: of expanding, best of all measured."""

    name: str
    bytes: int
    plain: int
    error: float
    writing: float
    expanding: float
    floor: float
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.6B")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmgrid-merge-models")
    parser.add_argument("--only", default="", help="kinds, separated by commas; default: all")
    parser.add_argument("--repeats", type=int, default=3, help="the best counts")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    models = make_models(options.folder, options.size, ["base", "a", "b"])
    wanted = options.only.split(",") if options.only else list(KINDS)
    print(f"loops: {standing()}\n")
    print("| part | bytes of the checkpoint | error | writing | expanding | floor | × floor |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    notes: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="families-") as place:
        for name in wanted:
            row = measured(name, models, Path(place), options)
            print(
                f"| {row.name} | {row.bytes / row.plain:.1%} | {row.error:.3f} | {row.writing:.1f} s | {row.expanding:.2f} s "
                f"| {row.floor:.2f} s | {row.expanding / row.floor:.2f} |",
                flush=True,
            )
            notes += [f"{name}: {row.note}"] if row.note else []
    print("", *notes, sep="\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of this process: {peak:,.0f} MiB")


def measured(name: str, models: Mapping[str, Path], place: Path, options: argparse.Namespace) -> Row:
    """One kind: a family of one domain is written, and expanded several times."""
    recipe: dict[str, Any] = {
        "base": str(models["base"]),
        "sources": [{"name": "a", "path": str(models["a"])}],
        "family": {"part": KINDS[name], "copy_base": False},
    }
    if "mask" in name:
        recipe |= {"method": "emr"}
        recipe["sources"].append({"name": "b", "path": str(models["b"])})
    family, out = place / "family", place / "out"
    report = build(recipe, family, workers=options.workers, digests=False)
    domain = report.domains["a"]
    with open_member(family, "a") as member:
        files = member.files
    floors, seconds = [], []
    for _ in range(options.repeats):
        floors.append(seconds_of_bytes(files, place, domain.plain_bytes))
        seconds.append(timed(lambda: expand(family, out, domain="a", workers=options.workers, digests=False)))
        shutil.rmtree(out)
    note = masking(models, family / "shared", place, options) if "mask" in name else ""
    shutil.rmtree(family)
    error = max(part.error for part in domain.parts)
    return Row(name, domain.bytes, domain.plain_bytes, error, report.seconds, min(seconds), min(floors), note)


def masking(models: Mapping[str, Path], shared: Path, place: Path, options: argparse.Namespace) -> str:
    """Seconds to compute and write the masks of a checkpoint, against reading what it needs and writing them."""
    part = MaskPart()
    with open_model(models["a"]) as own, open_model(shared) as model, open_model(models["base"]) as base:
        entry, _ = plan_domain(PartChoice(part=part), Stored(own), model, base, folder="parts/a", after=None)
        pair = Pair(Stored(own), model, base, entry)
        names = {name: part for name, each in entry.tensors.items() if each.kind == "mask"}
        files = [*own.files, *model.files, *base.files]
        floors, seconds = [], []
        for _ in range(options.repeats):
            floors.append(seconds_of_bytes(files, place, sum(own.info(name).size for name in names) // 8))
            seconds.append(timed(lambda: write_mask(pair, names, place, options.workers or 2)))
            (place / "mask.safetensors").unlink()
    return f"masking: {min(seconds):.2f} s, floor {min(floors):.2f} s, {min(seconds) / min(floors):.2f} × floor"


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
