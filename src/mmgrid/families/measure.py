"""How far a domain's stored checkpoint is from the domain's own: everything is read back from the disk and compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from mmgrid.families.pair import Pair
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, Chunk, chunks_of
from mmgrid.merging.arrays.floats import Floats, widen
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.family.file import DomainEntry
from mmgrid.merging.models.family.member import FamilyMember

_EXACT = ("own", "exact")


@dataclass
class _Squares:
    """Σ (θ − θ̂)² and Σ (θ − reference)², in float64."""

    lost: float = 0.0
    changed: float = 0.0

    def add(self, other: _Squares) -> None:
        self.lost += other.lost
        self.changed += other.changed

    @property
    def error(self) -> float:
        if not self.lost:
            return 0.0
        return math.sqrt(self.lost / self.changed) if self.changed else math.inf


def measured(
    entry: DomainEntry, pair: Pair, member: FamilyMember, workers: int, done: Callable[[str], None] | None = None
) -> DomainEntry:
    """The entry with the errors of its parts; see `PartEntry`.

    Args:
        pair: the domain's checkpoint, and what its parts are changes of.
        member: the checkpoint as it was stored.
        done: called with the name of each tensor that is compared.

    Raises:
        MergeError: a tensor that is stored exactly has come back otherwise, or a value is not finite.
    """
    runs: dict[tuple[str, int], _Squares] = {}
    noting = Lock()

    def compare(chunk: Chunk) -> None:
        with frame():
            found = _compare(chunk, pair, member)
        with noting:
            runs[chunk.tensor, chunk.start] = found
            if done is not None and chunk.stop == entry_size(entry, chunk.tensor):
                done(chunk.tensor)

    chunks = [chunk for name in entry.tensors for chunk in chunks_of(name, entry_size(entry, name), CHUNK_ELEMENTS)]
    for_each(chunks, compare, workers)
    for name in pair.rows:
        runs[name, -1] = _change_of_rows(name, pair)
    tensors: dict[str, _Squares] = defaultdict(_Squares)
    parts: dict[int, _Squares] = defaultdict(_Squares)
    for (name, _), squares in sorted(runs.items(), key=lambda item: item[0]):
        tensors[name].add(squares)
        parts[entry.tensors[name].part].add(squares)
    found = []
    for number, part in enumerate(entry.parts):
        own = {name: each for name, each in entry.tensors.items() if each.part == number}
        worst = max(own, key=lambda name: (tensors[name].error, name), default=None)
        lossy = worst is not None and tensors[worst].error > 0
        found.append(
            part.model_copy(
                update={
                    "tensors": len(own),
                    "parameters": sum(entry_size(entry, name) for name in own),
                    "error": _finite(parts[number].error),
                    "worst": (worst, _finite(tensors[str(worst)].error)) if lossy else None,
                }
            )
        )
    return entry.model_copy(update={"parts": tuple(found)})


def entry_size(entry: DomainEntry, name: str) -> int:
    """Elements of a tensor."""
    return math.prod(entry.tensors[name].shape)


def _compare(chunk: Chunk, pair: Pair, member: FamilyMember) -> _Squares:
    name, start, stop = chunk.tensor, chunk.start, chunk.stop
    entry = pair.entry.tensors[name]
    if entry.kind == "twin":  # loses what the other tensor loses
        return _Squares()
    stored, back = pair.target.read(name, start, stop), member.read(name, start, stop)
    same = stored.tobytes() == back.tobytes()
    if entry.kind in _EXACT and name not in pair.rows:
        if not same:
            raise MergeError(f"{member.path}: tensor {name}: was read back with other bytes; is the disk sound?")
        return _Squares()
    if same and entry.kind == "shared" and name not in pair.rows:
        return _Squares()
    own = widen(stored, entry.dtype)
    lost = 0.0 if same else _square(own - widen(back, entry.dtype))
    if not np.isfinite(lost):
        raise MergeError(
            f"tensor {name}: its values do not fit {entry.dtype} when they are put together again; give it the part own or "
            "exact"
        )
    if name in pair.rows:
        return _Squares(lost)
    return _Squares(lost, _square(own - _reference(name, pair, start, stop)))


def _change_of_rows(name: str, pair: Pair) -> _Squares:
    """The change of the rows that a token table's part has."""
    found = _Squares()
    for chunk in chunks_of(name, math.prod(pair.shape(name)), CHUNK_ELEMENTS):
        with frame():
            own = pair.values(name, chunk.start, chunk.stop)
            found.changed += _square(own - _reference(name, pair, chunk.start, chunk.stop))
    return found


def _reference(name: str, pair: Pair, start: int, stop: int) -> Floats:
    of = pair.base_values if pair.entry.tensors[name].kind == "mask" else pair.reference_values
    return of(name, start, stop)


def _square(difference: Floats) -> float:
    return float(np.square(difference, dtype=np.float64).sum())


def _finite(error: float) -> float:
    return error if math.isfinite(error) else 1.0
