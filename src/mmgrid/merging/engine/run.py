"""Merging itself: read in any floating-point type, compute in float32, round once.

Two ways in, one arithmetic: `merge_state_dicts` (in `state_dicts`) takes tensors in memory, `merge` streams folders
run by run, so that its memory is some runs per thread, whatever the model. Sums run in the order of the sources'
names, so the order in which somebody lists them changes no bit; nor do the threads or the size of the runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS, COMPILED_ELEMENTS, chunks_of
from mmgrid.merging.arrays.exact_sums import DOT_BLOCK
from mmgrid.merging.arrays.names import OUTSIDE, layer_of, tower_of
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns, is_known
from mmgrid.merging.engine.inner_products import gather_grams
from mmgrid.merging.engine.thresholds import gather_cuts
from mmgrid.merging.kernels.choice import CHOICE
from mmgrid.merging.plan.plan import Piece, Plan
from mmgrid.merging.plan.program import Job, Program, Scale

Done = Callable[[str, int, int], None]  # tensor, elements done, elements of the tensor; one thread at a time


class Sink(Protocol):
    """Where runs of the result go; several threads may write at once."""

    def write(self, name: str, start: int, stored: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Variant:
    """One result of several from one reading: other weights or another scale, and where it goes."""

    sink: Sink
    weights: Sequence[float] | None = None
    scale: Scale | None = None

    def of(self, program: Program) -> Program:
        """The program under this variant's values."""
        changes = {}
        if self.weights is not None:
            changes["weights"] = self.weights
        if self.scale is not None:
            changes["scale"] = self.scale
        return replace(program, **changes) if changes else program


@dataclass
class KeptCounts:
    """How many elements of each source's task vectors stages left: source, tensor → left, and elements in all."""

    counts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, source: str, tensor: str, kept: int, size: int) -> None:
        before = self.counts.get((source, tensor), (0, 0))
        self.counts[source, tensor] = before[0] + kept, before[1] + size

    def of_tensor(self, tensor: str, sources: Iterable[str]) -> dict[str, tuple[int, int]]:
        """source → left, and elements in all; empty without stages."""
        return {source: self.counts[source, tensor] for source in sources if (source, tensor) in self.counts}

    def by_tower(self) -> dict[str, dict[str, float]]:
        """source → tower → share of elements that is left."""
        shares: dict[str, dict[str, float]] = {}
        for (source, tower), share in self._shares(lambda tensor: (tower_of(tensor),)).items():
            shares.setdefault(source, {})[tower] = share
        return shares

    def shares(self) -> dict[str, dict[str, dict[str, float]]]:
        """source → tower → layer → share of elements that is left."""
        found = self._shares(lambda tensor: (tower_of(tensor), _layer_name(tensor)))
        shares: dict[str, dict[str, dict[str, float]]] = {}
        for key in sorted(found, key=lambda key: (key[0], key[1], key[2] == OUTSIDE, key[2].zfill(6))):
            shares.setdefault(key[0], {}).setdefault(key[1], {})[key[2]] = found[key]
        return shares

    def _shares(self, place: Callable[[str], tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        """Source and place of the tensor → share of elements that is left."""
        sums: dict[tuple[str, ...], tuple[int, int]] = {}
        for (source, tensor), (kept, size) in sorted(self.counts.items()):
            before = sums.get((source, *place(tensor)), (0, 0))
            sums[source, *place(tensor)] = before[0] + kept, before[1] + size
        return {key: kept / size if size else 0.0 for key, (kept, size) in sums.items()}


def _layer_name(tensor: str) -> str:
    layer = layer_of(tensor)
    return OUTSIDE if layer is None else str(layer)


def run(
    job: Job,
    plan: Plan,
    variants: Sequence[Variant],
    *,
    workers: int,
    skip: Iterable[str] = (),
    done: Done | None = None,
    elements: int | None = None,
    counts: KeptCounts | None = None,
) -> KeptCounts:
    """Compute all tensors but those in `skip`, and write each variant's to its sink.

    `elements` is about how many elements a run has; rounded up to blocks of inner products, so that no bit depends
    on it. Default: as many as is fastest. `counts` are those of the tensors in `skip`, and are added to.
    """
    gaining = sum(info.size for name, info in plan.merged.items() if is_known(job.program(name)))
    will_be_compiled = gaining > 0 and CHOICE.begin(len(job.sources) * gaining)
    if elements is None:
        elements = COMPILED_ELEMENTS if will_be_compiled else CHUNK_ELEMENTS
    elements = max(-(-elements // DOT_BLOCK), 1) * DOT_BLOCK
    computation, counts = Computation(job, plan), KeptCounts() if counts is None else counts
    merged, compiled = _pieces(job, plan, elements), CompiledRuns(computation)
    cuts = gather_cuts(computation, compiled, merged, workers)
    skipped = set(skip)
    todo = [piece for piece in merged if piece[0].tensor not in skipped]
    grams = gather_grams(computation, todo, workers)
    copies = [piece for piece in _copies(plan, elements) if piece[0].tensor not in skipped]
    reporting, elements_done, infos = threading.Lock(), {}, plan.infos

    def report(name: str, size: int, kept: Mapping[str, int]) -> None:
        with reporting:
            for source, number in kept.items():
                counts.add(source, name, number, size)
            elements_done[name] = elements_done.get(name, 0) + size
            if done is not None:
                done(name, elements_done[name], infos[name].size)

    def coefficients(program: Program, tensor: str) -> Sequence[float] | None:
        if not program.method.takes_gram:
            return None
        gram = grams.get(tensor, np.zeros((len(job.sources), len(job.sources))))
        return program.method.coefficients(gram, program.weights, program.options)

    def work(piece: Piece) -> None:
        with frame():
            compute(piece)

    def compute(piece: Piece) -> None:
        chunk, part = piece
        size = chunk.stop - chunk.start
        if not part.merged:
            copied = computation.copied(chunk, part)
            for variant in variants:
                variant.sink.write(chunk.tensor, chunk.start, copied)
            report(chunk.tensor, size, {})
            return
        program, own_cuts = job.program(chunk.tensor), cuts[chunk.tensor, chunk.start]
        chosen = [(own, coefficients(own, chunk.tensor)) for own in (variant.of(program) for variant in variants)]
        done = compiled.results(chunk, part, own_cuts, chosen)
        results, left = done if done is not None else computation.results(chunk, part, own_cuts, chosen)
        for variant, result in zip(variants, results, strict=True):
            variant.sink.write(chunk.tensor, chunk.start, result)
        report(chunk.tensor, size, dict(zip(computation.names, left, strict=True)) if program.steps else {})

    for name in plan.kept:
        if name not in skipped:
            whole = computation.kept(name)
            for variant in variants:
                variant.sink.write(name, 0, whole)
            report(name, plan.kept[name].size, {})
    for_each([*copies, *todo], work, workers)
    for name, info in infos.items():  # what has no elements is in no run, and done all the same
        if not info.size and name not in skipped and done is not None:
            done(name, 0, 0)
    return counts


def _pieces(job: Job, plan: Plan, elements: int) -> list[Piece]:
    """What is computed, in canonical order, cut into runs as its method allows."""
    pieces = []
    for name, part in plan.merged_parts():
        program = job.program(name)
        by_rows = any(stages[0].unit == "row" for stages in program.steps)
        run = max(part.stop - part.start, 1) if program.method.whole_tensors else elements
        shape = plan.merged[name].shape
        pieces += [
            (replace(chunk, start=chunk.start + part.start, stop=chunk.stop + part.start), part)
            for chunk in chunks_of(name, shape, part.stop - part.start, run, whole_rows=by_rows)
        ]
    return pieces


def _copies(plan: Plan, elements: int) -> list[Piece]:
    return [
        (replace(chunk, start=chunk.start + part.start, stop=chunk.stop + part.start), part)
        for name, parts in plan.parts.items()
        for part in parts
        if not part.merged
        for chunk in chunks_of(name, (), part.stop - part.start, elements, whole_rows=False)
    ]
