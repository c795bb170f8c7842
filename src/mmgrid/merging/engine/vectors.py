"""The vectors that a merge adds up, in memory: parameters or task vectors after all stages, and the base.

For callers that choose the weights of the sum themselves; what they read here is what a merge adds up, bit for bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mmgrid.merging.arrays.floats import Floats
from mmgrid.merging.engine.arithmetic import Computation
from mmgrid.merging.engine.compiled_runs import CompiledRuns
from mmgrid.merging.engine.run import merged_chunks
from mmgrid.merging.engine.thresholds import find_thresholds
from mmgrid.merging.plan.plan import Plan, TensorPart
from mmgrid.merging.plan.program import Program


@dataclass(frozen=True, eq=False)
class Summands:
    """The summands of a part of a tensor.

    Attributes:
        tensor: its name.
        part: the part of the result, and where it lies in the sources.
        sources: name → θ or, for methods of task vectors, τ after the stages: float32 [elements of the part].
        base: θ₀ of the part; None for methods without a base.
    """

    tensor: str
    part: TensorPart
    sources: Mapping[str, Floats]
    base: Floats | None


def summands(program: Program, plan: Plan, *, workers: int) -> Iterator[Summands]:
    """The summands of all merged parts, each as a whole.

    Raises:
        MergeError: a source holds NaN or an infinity.
    """
    computation = Computation(program, plan)
    pieces = merged_chunks(program, plan, max((info.size for info in plan.merged.values()), default=1))
    thresholds = find_thresholds(computation, CompiledRuns(computation), pieces, workers)
    for chunk, part in pieces:
        vectors, base = computation.vectors(chunk, part, thresholds[chunk.tensor, chunk.start])
        yield Summands(chunk.tensor, part, dict(zip(computation.names, vectors, strict=True)), base)
