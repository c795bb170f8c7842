"""The folder that a merge writes: what accompanies the weights, and the record of how they came about.

The folder appears by rename. It is filled under a hidden name beside it that nobody else would give a
folder, and what a killed merge left under that name is cleared by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.files import DigestCache, publish, remove_folder, work_folder, write_json
from mmgrid.merging.arrays.cache import cache_folder
from mmgrid.merging.arrays.names import tower_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.run import KeptCounts
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.sources import Source
from mmgrid.merging.plan.plan import BASE, Plan
from mmgrid.merging.plan.recipe import MergeRecipe

MMGRID_FILE = "mmgrid.json"
FORMAT = 2
KEPT = "whole numbers, the same in all sources"
_COMPANION_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_TAKEN = "{}: is there already and not an empty folder; give another output folder"
_OWN_TO_A_SOURCE = (MMGRID_FILE, "record.json", "trainer_state.json", "training.json")


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        out: the folder that was written.
        sources: name → folder.
        merged: names of the tensors that were computed.
        kept: tensors taken as they are → why.
        dropped: tensors that are not in the result → why.
        parameters: elements in the merged tensors.
        kept_share: source → tower → layer → share of its task vector that stages left; empty without stages.
        kept_by_tower: source → tower → the same share over all layers.
        bytes_read: of sources and base, each counted once.
        bytes_written: of tensors.
        seconds: wall time of reading, computing and writing.
        hashing_seconds: wall time of the sources' digests, before that.
        notes: what is not as somebody might expect.
        bound: the seconds that reading and writing as much takes on this machine; None if it was not measured.
    """

    out: Path
    sources: dict[str, Path]
    merged: tuple[str, ...]
    kept: dict[str, str]
    dropped: dict[str, str]
    parameters: int
    kept_share: dict[str, dict[str, dict[str, float]]]
    kept_by_tower: dict[str, dict[str, float]]
    bytes_read: int
    bytes_written: int
    seconds: float
    hashing_seconds: float
    notes: tuple[str, ...] = ()
    bound: float | None = None

    @property
    def fraction_of_bound(self) -> float | None:
        """How near the merge came to the speed of the disk: 1 is as fast as reading and writing alone."""
        return None if self.bound is None or not self.seconds else self.bound / self.seconds


@contextlib.contextmanager
def working(out: Path) -> Iterator[Path]:
    """The folder beside `out` to fill: published as `out` if the block ends well, removed if it fails.

    It may hold what a killed merge left; `Journal` says whether it can be gone on with.

    Raises:
        MergeError: `out` is there already, or another process is writing it now.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = work_folder(out.with_name(f".{out.name}.merging"))
    work.mkdir(exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        if not _claimed(work, descriptor):
            raise MergeError(f"{out}: another merge is writing it now; wait, or give another output folder")
        try:
            yield work
            publish(work, out, last_file=MMGRID_FILE, replace_leftover=False)
        except FileExistsError as error:
            remove_folder(work)
            raise MergeError(_TAKEN.format(out)) from error
        except Exception:
            remove_folder(work)
            raise
    finally:
        os.close(descriptor)


def check_free(out: Path) -> None:
    """See that an output folder can appear, as far as can be said before anything is read.

    Raises:
        MergeError: it is there already and not empty, or would lie below a file.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise MergeError(_TAKEN.format(out))
    above = next(folder for folder in out.parents if folder.exists())
    if not above.is_dir():
        raise MergeError(f"{out}: {above} is a file; give another output folder")


def _claimed(work: Path, descriptor: int) -> bool:
    """Whether the folder is ours alone; the kernel frees it with the process: a killed merge blocks nobody."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The one who had it may just have renamed it to its final name.
    return work.exists() and work.stat().st_ino == os.fstat(descriptor).st_ino


def clear(folder: Path) -> None:
    """Remove all that a folder holds."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_outside(out: Path, sources: Mapping[str, Path]) -> None:
    """Sources are never touched, so no output goes into one.

    Raises:
        MergeError: `out` is, or lies in, the folder of a source.
    """
    for name, path in sources.items():
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise MergeError(f"{out}: lies in source {name!r} ({path}), which is never touched; give another")


def digests_of(folders: Sequence[Source], workers: int) -> list[dict[str, dict[str, Any]]]:
    """Digest and size of each weight file, by name, for each folder.

    They are remembered in the user's cache folder, by path, size and time: sources are never written to.
    """
    cache = DigestCache(cache_folder() / "digests.json")
    files = sorted({file for folder in folders for file in folder.files})
    digests: dict[Path, str] = {}
    for_each(files, lambda file: digests.__setitem__(file, cache.sha256(file)), workers)
    return [
        {file.name: {"sha256": digests[file], "bytes": file.stat().st_size} for file in folder.files}
        for folder in folders
    ]


def short_name(name: str, path: Path) -> str:
    """What a source is called where people read: a digest says nothing, its folder does."""
    digest = len(name) == 64 and not set(name) - set("0123456789abcdef")
    return path.name or str(path) if digest else name


def joint_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for all weight files of a model; of a single file, its own."""
    digests = [entry["sha256"] for _, entry in sorted(files.items())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def copy_companions(source: Path, work: Path, dtype: str | None, vocabulary: int | None = None) -> None:
    """Copy config, tokenizer and generation files of a model folder.

    Args:
        source: the folder (or, with nothing to copy, a file).
        work: where they go.
        dtype: the type that all merged tensors have; the config must not promise another, or loading would
            round the weights to it. None when they have several.
        vocabulary: token rows of the result, where blocks were laid out.
    """
    if not source.is_dir():
        return
    for path in sorted(source.iterdir()):
        wanted = path.suffix in _COMPANION_SUFFIXES and not path.name.endswith(".index.json")
        if wanted and path.is_file() and path.name not in _OWN_TO_A_SOURCE:
            shutil.copyfile(path, work / path.name)
    config = work / "config.json"
    if config.exists():
        try:
            value = json.loads(config.read_bytes())
        except ValueError as error:
            raise MergeError(f"{source / config.name}: is not JSON: {error}") from error
        changed = value if dtype is None else _with_dtype(value, dtype)
        if vocabulary is not None and "vocab_size" in value:
            changed = changed | {"vocab_size": vocabulary}
        if changed != value:
            config.unlink()
            write_json(config, changed)


def write_record(
    work: Path,
    recipe: MergeRecipe,
    digests: Mapping[str, Any],
    plan: Plan,
    counts: KeptCounts,
    notes: Sequence[str] = (),
) -> None:
    """Write `mmgrid.json`: the recipe with all defaults filled in, digests of what went in, what came of it.

    The recipe's paths are relative to the folder that the output stands in, so that a tree of models can be moved as
    a whole.
    """
    value: dict[str, Any] = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json", exclude_defaults=False),
        "sources": {name: {"files": files} for name, files in sorted(digests.items()) if name != BASE},
        "base": {"files": digests[BASE]} if BASE in digests else None,
        "towers": sorted({tower_of(name) for name in plan.merged}),
        "report": {
            "merged": list(plan.merged),
            "kept": dict.fromkeys(plan.kept, KEPT),
            "dropped": plan.dropped,
            "kept_share": counts.shares(),
            "notes": list(notes),
        },
    }
    if plan.blocks:
        rows = [vars(laid.block) | {"from": sorted(laid.sources)} for laid in plan.blocks]
        value["blocks"] = {"tensors": list(plan.block_tensors), "rows": rows}
    write_json(work / MMGRID_FILE, value)


def relative_to(recipe: MergeRecipe, folder: Path) -> MergeRecipe:
    """The recipe with paths as seen from `folder`."""

    return recipe.with_paths(lambda path: Path(os.path.relpath(path, folder)))


def _with_dtype(value: Any, dtype: str) -> Any:
    """A config, sub-configs included, with the type of its weights set wherever it names one."""
    if not isinstance(value, dict):
        return value
    return {
        key: dtype if key in ("dtype", "torch_dtype") and isinstance(item, str) else _with_dtype(item, dtype)
        for key, item in value.items()
    }
