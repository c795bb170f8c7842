"""Tensors that every model of a merge holds twice, under names that no architecture is known to tie.

They are found by their bytes: outside of layers, two equal tensors that are no constants are one tensor that was saved
twice. It is merged once, so that both copies get the same mask and the same threshold, and stored twice.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS
from mmgrid.merging.arrays.names import split_layer
from mmgrid.merging.models.tensors import TensorInfo, Tensors

_SAMPLE = 64


def twins_in(
    models: Sequence[Tensors], apart: Collection[str] = (), group_of: Callable[[str], object] = lambda name: None
) -> dict[str, str]:
    """Tensor → the one whose bytes it has in all models.

    Args:
        apart: names that are left as they are.
        group_of: of a name; only names of one group are twins.
    """
    if not models:
        return {}
    names = sorted(set.intersection(*(set(model) for model in models)) - set(apart))
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        infos = [model.info(name) for model in models]
        if split_layer(name) is None and min(info.size for info in infos) > 1:
            alike.setdefault((*infos, group_of(name)), []).append(name)
    found: dict[str, str] = {}
    for group in alike.values():
        firsts: list[str] = []
        for name in group if len(group) > 1 else ():
            first = next((one for one in firsts if _are_twins(models, one, name)), None)
            if first is None:
                firsts.append(name)
            else:
                found[name] = first
    return found


def equal(model: Tensors, one: str, other: str) -> bool:
    """Whether two tensors of a model, of one type and shape, have the same bytes."""
    size = model.info(one).size
    for start in range(0, size, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, size)
        if not np.array_equal(_bytes(model, one, start, stop), _bytes(model, other, start, stop)):
            return False
    return True


def _are_twins(models: Sequence[Tensors], one: str, other: str) -> bool:
    for model in models:
        for start, stop in _ends(model.info(one)):
            if not np.array_equal(_bytes(model, one, start, stop), _bytes(model, other, start, stop)):
                return False
    return not all(_is_constant(model, one) for model in models) and all(equal(model, one, other) for model in models)


def _ends(info: TensorInfo) -> list[tuple[int, int]]:
    return [(0, min(_SAMPLE, info.size)), (max(info.size - _SAMPLE, 0), info.size)]


def _is_constant(model: Tensors, name: str) -> bool:
    """Whether all elements are equal, as those of norms and biases before any training."""
    info = model.info(name)
    first = _bytes(model, name, 0, 1)
    for start in range(0, info.size, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, info.size)
        if not np.array_equal(_bytes(model, name, start, stop), np.tile(first, stop - start)):
            return False
    return True


def _bytes(model: Tensors, name: str, start: int, stop: int) -> np.ndarray:
    return np.ascontiguousarray(model.read(name, start, stop)).view(np.uint8)
