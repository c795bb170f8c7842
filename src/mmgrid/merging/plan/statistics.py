"""Statistics of sources: what was measured of each model from data, once, in a file beside the recipe.

A file of statistics holds tensors called `KIND:TENSOR`: `fisher:…` has the shape of the model's tensor, `gram:…` is the
matrix [d, d] of the products of a linear layer's d inputs. Tensors without statistics are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.tensors import Tensors

if TYPE_CHECKING:
    from mmgrid.merging.plan.program import AppliedMethod


def statistics_name(kind: str, tensor: str) -> str:
    """The name of a tensor's statistics in the file."""
    return f"{kind}:{tensor}"


def check_statistics(
    sources: Mapping[str, Tensors], methods: Sequence[AppliedMethod], statistics: Mapping[str, Tensors]
) -> None:
    """Check that every source has the statistics that the methods take, and that no others are given.

    Raises:
        MergeError: some are missing, superfluous, of another shape, or no floating-point numbers.
    """
    unknown = statistics.keys() - sources.keys()
    if unknown:
        raise MergeError(f"statistics: there is no source {listing(unknown)}; known: {listing(sources)}")
    takers = {applied.method.statistics: applied.method for applied in methods if applied.method.statistics}
    if statistics and not takers:
        names = sorted({applied.method.name for applied in methods})
        raise MergeError(f"{listing(names)}: takes no statistics; leave them out")
    for kind, method in takers.items():
        for source, tensors in sorted(sources.items()):
            own = [name for name in statistics.get(source, ()) if name.startswith(f"{kind}:")]
            if not own:
                raise MergeError(
                    f"{method.name}: source {source!r} has no statistics of the kind {kind!r}; `mmgrid learn "
                    f"{method.name}` measures them, and its recipe names the file (statistics of each source)"
                )
            for name in own:
                _check(name, name.partition(":")[2], source, tensors, statistics, whole=method.whole_tensors)


def _check(
    name: str, tensor: str, source: str, tensors: Tensors, statistics: Mapping[str, Tensors], *, whole: bool
) -> None:
    lacking = [other for other, held in sorted(statistics.items()) if name not in held]
    if lacking:
        raise MergeError(
            f"statistics: {listing(lacking)} lacks {name}, which {source} has; measure all in the same way"
        )
    if tensor not in tensors:
        raise MergeError(f"statistics of {source}: {name} belongs to no tensor of the model; measure them again")
    found, shape = statistics[source].info(name), tensors.info(tensor).shape
    expected = (shape[-1], shape[-1]) if whole and len(shape) == 2 else shape
    if found.shape != expected or not is_float(found.dtype):
        raise MergeError(
            f"statistics of {source}: {name} is {found.dtype} {list(found.shape)}, and {tensor} {list(shape)} needs "
            f"numbers {list(expected)}; they belong to another model"
        )
