"""What a method has to know about a tensor before its first run is computed: coefficients, or a function of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.arrays.parallel import for_each
from mmgrid.merging.engine.arithmetic import Computation, MethodVariants, Prepared
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.engine.inner_products import inner_products_of, needs_inner_products, no_inner_products
from mmgrid.merging.kernels.spread import NativeSpread
from mmgrid.merging.methods.passes import Passes
from mmgrid.merging.plan.plan import PlannedChunk
from mmgrid.merging.plan.program import AppliedMethod

Found = TypeVar("Found")


def needs_passes(applied: AppliedMethod) -> bool:
    """Whether a tensor is read before the merge itself, for more than thresholds."""
    return applied.method.takes_passes or needs_inner_products(applied)


def prepare_methods(
    computation: Computation,
    compiled: CompiledRuns,
    pieces: Sequence[PlannedChunk],
    variants: Sequence[Callable[[AppliedMethod], AppliedMethod]],
    workers: int,
) -> Mapping[str, MethodVariants]:
    """The method of each tensor in `pieces` for each variant, with what it has to know."""
    products = inner_products_of(computation, compiled, pieces, workers)
    by_tensor: dict[str, list[PlannedChunk]] = {}
    for piece in pieces:
        by_tensor.setdefault(piece[0].tensor, []).append(piece)

    def prepared(applied: AppliedMethod, name: str) -> Prepared:
        if applied.method.takes_passes:
            passes = _RunPasses(computation, compiled, by_tensor[name], workers)
            return applied.method.prepare(passes, applied.weights, applied.options)
        if applied.method.takes_gram and applied.method.gram_along(applied.options) != "rows":
            gram = products.get(name, no_inner_products(len(computation.names)))
            return applied.method.coefficients(gram, applied.weights, applied.options)
        return None

    methods = {}
    for name in by_tensor:
        own = [variant(computation.program.applied(name)) for variant in variants]
        methods[name] = [(applied, prepared(applied, name)) for applied in own]
    return methods


class _RunPasses(Passes):
    """Passes over the runs of a tensor, in `workers` threads."""

    def __init__(
        self, computation: Computation, compiled: CompiledRuns, pieces: Sequence[PlannedChunk], workers: int
    ) -> None:
        self._computation, self._compiled, self._pieces, self._workers = computation, compiled, pieces, workers
        self.spread = NativeSpread()
        self.size = sum(chunk.stop - chunk.start for chunk, _ in pieces)

    def each(self, work: Callable[[int, Sequence[Floats]], Found], *, every: int = 1) -> list[Found]:
        found: dict[int, Found] = {}

        def of_run(numbered: tuple[int, PlannedChunk]) -> None:
            number, (chunk, part) = numbered
            size = max((chunk.stop - chunk.start) // every, 1)
            piece = replace(chunk, stop=chunk.start + size)
            with frame():
                vectors = self._compiled.vectors(piece, part)
                if vectors is None:
                    vectors, _ = self._computation.vectors(piece, part, {})
                found[number] = work(chunk.start, vectors)

        for_each(list(enumerate(self._pieces)), of_run, self._workers)
        return [found[number] for number in range(len(self._pieces))]
