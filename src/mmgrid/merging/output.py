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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.files import publish, remove_folder, sha256_file, work_folder, write_json
from mmgrid.merging.errors import MergeError
from mmgrid.merging.plan import Plan
from mmgrid.merging.recipe import MergeRecipe
from mmgrid.merging.tensors import TensorFolder

MMGRID_FILE = "mmgrid.json"
FORMAT = 1
KEPT = "whole numbers, the same in all sources"
_COMPANION_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_OWN_TO_A_SOURCE = (MMGRID_FILE, "record.json", "trainer_state.json")


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        out: the folder that was written.
        merged: names of the tensors that were computed.
        kept: tensors taken as they are → why.
        dropped: tensors that are not in the result → why.
        parameters: elements in the merged tensors.
        bytes_read, bytes_written: of tensors.
        seconds: wall time, hashing of the sources included.
    """

    out: Path
    merged: tuple[str, ...]
    kept: dict[str, str]
    dropped: dict[str, str]
    parameters: int
    bytes_read: int
    bytes_written: int
    seconds: float


@contextlib.contextmanager
def working(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` to fill: published as `out` if the block ends well, removed if it fails.

    Raises:
        MergeError: `out` is there already, or another process is writing it now.
    """
    taken = f"{out}: is there already and not an empty folder; give another output folder"
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise MergeError(taken)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = work_folder(out.with_name(f".{out.name}.merging"))
    work.mkdir(exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        if not _claimed(work, descriptor):
            raise MergeError(f"{out}: another merge is writing it now; wait, or give another output folder")
        try:
            _clear(work)
            yield work
            publish(work, out, last_file=MMGRID_FILE, replace_leftover=False)
        except FileExistsError as error:
            remove_folder(work)
            raise MergeError(taken) from error
        except Exception:
            remove_folder(work)
            raise
    finally:
        os.close(descriptor)


def _claimed(work: Path, descriptor: int) -> bool:
    """Whether the folder is ours alone; the kernel frees it with the process: a killed merge blocks nobody."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The one who had it may just have renamed it to its final name.
    return work.exists() and work.stat().st_ino == os.fstat(descriptor).st_ino


def _clear(folder: Path) -> None:
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


def digests_of(folder: TensorFolder) -> dict[str, dict[str, Any]]:
    """Digest and size of each weight file, by name."""
    return {file.name: {"sha256": sha256_file(file), "bytes": file.stat().st_size} for file in folder.files}


def joint_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One digest for all weight files of a model; of a single file, its own."""
    digests = [entry["sha256"] for _, entry in sorted(files.items())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def copy_companions(source: Path, work: Path, dtype: str | None) -> None:
    """Copy config, tokenizer and generation files of a model folder.

    Args:
        source: the folder (or, with nothing to copy, a file).
        work: where they go.
        dtype: the type that all merged tensors have; the config must not promise another, or loading would
            round the weights to it. None when they have several.
    """
    if not source.is_dir():
        return
    for path in sorted(source.iterdir()):
        wanted = path.suffix in _COMPANION_SUFFIXES and not path.name.endswith(".index.json")
        if wanted and path.is_file() and path.name not in _OWN_TO_A_SOURCE:
            shutil.copyfile(path, work / path.name)
    config = work / "config.json"
    if dtype is not None and config.exists():
        try:
            value = json.loads(config.read_bytes())
        except ValueError as error:
            raise MergeError(f"{source / config.name}: is not JSON: {error}") from error
        changed = _with_dtype(value, dtype)
        if changed != value:
            config.unlink()
            write_json(config, changed)


def write_record(work: Path, recipe: MergeRecipe, digests: Mapping[str, Any], base: Any, plan: Plan) -> None:
    """Write `mmgrid.json`: the recipe with all defaults filled in, digests of what went in, what came of it."""
    paths = {source.name: str(source.path) for source in recipe.sources}
    report = {"merged": list(plan.merged), "kept": dict.fromkeys(plan.kept, KEPT), "dropped": plan.dropped}
    value = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: {"path": paths[name], "files": files} for name, files in sorted(digests.items())},
        "base": None if base is None else {"path": str(recipe.base), "files": base},
        "report": report,
    }
    write_json(work / MMGRID_FILE, value)


def _with_dtype(value: Any, dtype: str) -> Any:
    """A config, sub-configs included, with the type of its weights set wherever it names one."""
    if not isinstance(value, dict):
        return value
    return {
        key: dtype if key in ("dtype", "torch_dtype") and isinstance(item, str) else _with_dtype(item, dtype)
        for key, item in value.items()
    }
