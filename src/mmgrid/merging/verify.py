"""Verifies a merged folder: repeats the merge and compares every byte, without writing anything."""

import contextlib
import filecmp
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.merging.arrays.floats import widen
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.progress import ByteCounter, MergeProgress
from mmgrid.merging.engine.run import Variant, run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.declaration import MMGRID_FILE
from mmgrid.merging.models.digests import differs, kinds_in, short_name
from mmgrid.merging.models.modules import in_one
from mmgrid.merging.models.sources import Source, found
from mmgrid.merging.models.tensors import TensorFolder
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.merging.output.own_files import damaged_files
from mmgrid.merging.plan.plan import BASE
from mmgrid.merging.plan.prepare import PreparedMerge, prepare_merge
from mmgrid.merging.plan.recipe import MergeRecipe


@dataclass(frozen=True)
class FirstDifference:
    """The first element, in the order of names and rows, that differs from the result of the recipe."""

    tensor: str
    index: tuple[int, ...]
    found: float
    expected: float


@dataclass(frozen=True)
class Verification:
    """The result of comparing a merged folder with its recipe.

    Attributes:
        folder: the folder that was verified.
        missing: sources and bases that are not at their recorded paths; if there are any, nothing was compared.
        changed: source (or `(base)`) → its files whose digests differ from the recorded ones. A source that is named by its
            content is called like its folder.
        unlike: tensor → how its type or shape differs, or that it is missing or unexpected.
        first: the first element that differs.
        differing: tensor → number of elements that differ.
        files: file of a token block → how it differs from that of the source.
        damaged: file of the folder → how it differs from what the merge wrote; also where sources are missing.
        compared: number of bytes of tensors that were compared.
        digests: whether the record has digests, so that changed sources are detected.
        seconds: wall time, including the digests.
    """

    folder: Path
    missing: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlike: Mapping[str, str] = field(default_factory=dict)
    first: FirstDifference | None = None
    differing: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    compared: int = 0
    digests: bool = True
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether every byte was reproduced."""
        return not (self.missing or self.unlike or self.differing or self.files or self.damaged)


def verify(folder: str | Path, *, workers: int | None = None, progress: MergeProgress | None = None) -> Verification:
    """Repeat the recipe of a merged folder and compare every byte of its tensors and of its token blocks' files.

    Args:
        folder: a folder that `merge` wrote.
        workers: number of threads. Default: one per core.
        progress: called after each tensor with bytes compared, bytes in all, and the tensor's name.

    Raises:
        MergeError: the folder is not the result of a merge, or its recipe no longer fits its sources.
    """
    clock = time.monotonic()
    folder, workers = Path(folder).absolute(), workers or default_workers()
    record = _record(folder)
    recipe = MergeRecipe.load(folder / MMGRID_FILE)
    own, missing = record.get("files"), _missing(recipe)
    damaged = damaged_files(folder, own) if isinstance(own, Mapping) else {}
    if missing:
        return Verification(folder, missing=missing, damaged=damaged, seconds=time.monotonic() - clock)
    recorded = {name: entry["files"] for name, entry in (record.get("sources") or {}).items()}
    if record.get("base"):
        recorded[BASE] = record["base"]["files"]
    entries = [entry for files in recorded.values() for entry in files.values()]
    kinds = kinds_in(entries)
    with contextlib.ExitStack() as stack:
        prepared = stack.enter_context(prepare_merge(recipe, workers=workers, digests=kinds))
        there = stack.enter_context(_result(folder, prepared))
        unlike = _unlike(prepared, there)
        sink = _ComparingSink(there, prepared.plan.twins)
        counter = ByteCounter(prepared.plan.infos, progress)

        def done(name: str, elements: int, size: int) -> None:
            if elements >= size:
                counter.add(name)

        prepared.start_hashing()
        run(prepared.program, prepared.plan, [Variant(sink)], workers=workers, skip=unlike, done=done)
        files = _files(prepared, folder)
        there.check_unchanged()
        prepared.check_unchanged()
        return Verification(
            folder=folder,
            changed=_for_people(_changed(recorded, prepared, kinds, workers), recipe),
            unlike=unlike,
            first=sink.first(),
            differing=dict(sorted(sink.differing.items())),
            files=files,
            damaged=damaged,
            compared=sink.compared,
            digests=bool(recorded),
            seconds=time.monotonic() - clock,
        )


class _ComparingSink:
    """A sink that compares runs with those of a folder."""

    def __init__(self, there: Source, twins: Mapping[str, str]) -> None:
        self.there = there
        self._names: dict[str, list[str]] = {}
        for twin, first in twins.items():
            self._names.setdefault(first, []).append(twin)
        self.differing: dict[str, int] = {}
        self.compared = 0
        self._firsts: dict[str, tuple[int, float, float]] = {}
        self._noting = threading.Lock()

    def write(self, name: str, start: int, stored: np.ndarray) -> None:
        for place in (name, *self._names.get(name, ())):
            if place in self.there:
                self._compare(place, start, stored)

    def _compare(self, name: str, start: int, stored: np.ndarray) -> None:
        found = self.there.read(name, start, start + stored.size)
        flat = np.ascontiguousarray(stored).reshape(-1)
        bits = np.dtype(f"u{flat.itemsize}")
        unequal = np.flatnonzero(flat.view(bits) != found.view(bits))
        with self._noting:
            self.compared += flat.nbytes
            if not len(unequal):
                return
            self.differing[name] = self.differing.get(name, 0) + len(unequal)
            place = int(unequal[0])
            if name not in self._firsts or start + place < self._firsts[name][0]:
                dtype = self.there.info(name).dtype
                values = (_number(array[place : place + 1], dtype) for array in (found, flat))
                self._firsts[name] = (start + place, *values)  # pyright: ignore[reportArgumentType]

    def first(self) -> FirstDifference | None:
        if not self._firsts:
            return None
        name = min(self._firsts)
        place, found, expected = self._firsts[name]
        index = tuple(int(number) for number in np.unravel_index(place, self.there.info(name).shape or (1,)))
        return FirstDifference(name, index if self.there.info(name).shape else (), found, expected)


def _number(stored: np.ndarray, dtype: str) -> float:
    whole = dtype.startswith(("int", "uint", "bool"))
    return float(stored[0]) if whole else float(widen(stored, dtype)[0])


def _result(folder: Path, prepared: PreparedMerge) -> Source:
    """The tensors of a result, with those of its merged modules as far as they are there."""
    own = TensorFolder(folder)
    return in_one(own, folder, [name for name in prepared.modules if (folder / name / WEIGHTS_FILE).is_file()])


def _record(folder: Path) -> dict[str, Any]:
    file = folder / MMGRID_FILE
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise MergeError(f"{folder}: has no {MMGRID_FILE}, so its recipe is unknown") from None
    except ValueError as error:
        raise MergeError(f"{file}: is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("recipe"), dict) or "format" not in value:
        raise MergeError(f"{file}: contains no recipe of a merge")
    return value


def _files(prepared: PreparedMerge, folder: Path) -> dict[str, str]:
    """Files of token blocks that are missing in a folder or differ from those of the sources → how."""
    problems = {}
    for name, file in prepared.block_files.items():
        if not (folder / name).is_file():
            problems[name] = "is missing"
        elif not filecmp.cmp(folder / name, file.path, shallow=False):
            problems[name] = f"differs from {file.path}"
    return problems


def _missing(recipe: MergeRecipe) -> tuple[str, ...]:
    places: list[tuple[str, Path | None]] = []
    for source in recipe.sources:
        places += [(f"source {source.name!r}", source.path), (f"the model under {source.name!r}", source.onto)]
        places += [(f"the stack of {source.name!r}", part.path) for part in source.stack]
        places += [(f"the statistics of {source.name!r}", source.statistics)]
    places += [("the base", recipe.base), *(("the stack of the base", part.path) for part in recipe.base_stack)]
    places += [(f"the base of rule {number}", rule.base) for number, rule in enumerate(recipe.rules)]
    missing = []
    for name, path in dict.fromkeys(places):
        try:
            if path is not None and not found(path).exists():
                missing.append(f"{name}: {path}")
        except MergeError as error:  # the Hub does not give it
            missing.append(f"{name}: {error}")
    return tuple(missing)


def _changed(
    recorded: Mapping[str, Mapping[str, Any]], prepared: PreparedMerge, kinds: Sequence[str], workers: int
) -> dict[str, tuple[str, ...]]:
    """Source → its files whose digests differ from the recorded ones."""

    def unlike(digests: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        found = {
            name: tuple(
                file
                for file in sorted({*files, *digests.get(name, {})})
                if differs(files.get(file, {}), digests.get(name, {}).get(file, {}))
            )
            for name, files in recorded.items()
        }
        return {name: files for name, files in found.items() if files}

    changed = unlike(prepared.digests)
    # A model may have moved into the Hub's cache or out of it, and is then known by another kind of digest.
    return unlike(prepared.all_digests(workers, kinds)) if changed else changed


def _for_people(changed: Mapping[str, tuple[str, ...]], recipe: MergeRecipe) -> dict[str, tuple[str, ...]]:
    paths = {str(source.name): source.path for source in recipe.sources}
    names = {name: short_name(name, paths[name]) if name in paths else name for name in changed}
    called = list(names.values())
    return {
        names[name] if called.count(names[name]) == 1 else str(paths.get(name, name)): files
        for name, files in changed.items()
    }


def _unlike(prepared: PreparedMerge, there: Source) -> dict[str, str]:
    """Tensors whose elements cannot be compared → why."""
    infos, unlike = prepared.plan.stored, {}
    for name in sorted({*infos, *there}):
        if name not in there:
            unlike[name] = "is missing"
        elif name not in infos:
            unlike[name] = "is not in the result of the recipe"
        elif there.info(name) != infos[name]:
            found, wanted = there.info(name), infos[name]
            unlike[name] = (
                f"is {found.dtype} {list(found.shape)}, and the recipe gives {wanted.dtype} {list(wanted.shape)}"
            )
    return unlike
