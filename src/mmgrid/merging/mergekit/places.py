"""Where tensors lie in a mergekit file's slices, and patterns that name some of them in few words."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Sequence

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.file import MergekitFile

_LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def layer_in(tensor: str) -> tuple[str, int] | None:
    """What stands before the number of a tensor's layer (as `model.layers.`), and the number."""
    match = _LAYER.search(tensor)
    return None if match is None else (tensor[: match.start(1)], int(match[1]))


class Places:
    """The slice of each tensor, and how deep its layer lies in that slice.

    What stands outside of the layers belongs to the first slice where it is an embedding, to the last otherwise, and
    has depth 0, as in mergekit.

    Raises:
        MergeError: slices do not put every layer where all of its models have it.
    """

    def __init__(self, file: MergekitFile, tensors: Sequence[str]) -> None:
        self.counts: dict[str, int] = {}
        for tensor in tensors:
            if (layer := layer_in(tensor)) is not None:
                self.counts[layer[0]] = max(self.counts.get(layer[0], 0), layer[1] + 1)
        self.n_slices = len(file.slices)
        self.ends: list[int] | None = None
        if file.sliced:
            self.ends = _ends(file, max(self.counts.values(), default=0))

    def of(self, tensor: str) -> tuple[int, float]:
        """Number of the slice, and depth from 0 to 1."""
        layer = layer_in(tensor)
        if layer is None:
            early = any(part in tensor for part in ("emb", "wte", "wpe"))
            return (0 if early else self.n_slices - 1), 0.0
        prefix, number = layer
        ends = self.ends or [self.counts[prefix]]
        place = next((n for n, end in enumerate(ends) if number < end), len(ends) - 1)
        start = ends[place - 1] if place else 0
        return place, 1.0 if ends[place] - start <= 1 else (number - start) / (ends[place] - start - 1)


def _ends(file: MergekitFile, n_layers: int) -> list[int]:
    """The layer after the last of each slice."""
    models = {each.model for each in file.slices[0].inputs}
    ends, start = [], 0
    for number, piece in enumerate(file.slices):
        where = f"{file.where}: slices[{number}]"
        ranges = {each.layers for each in piece.inputs if each.layers is not None}
        if len(ranges) > 1 or {each.model for each in piece.inputs} != models:
            raise MergeError(
                f"{where}: its models give other layers, or are other models than in slices[0]: layers cannot be moved "
                f"or stacked here; use mergekit for that"
            )
        first, last = ranges.pop()
        if first != start or last <= first or last > n_layers:
            raise MergeError(
                f"{where}.layer_range: [{first}, {last}] must begin at layer {start} and end by {n_layers}: layers "
                f"cannot be moved, left out or stacked here; use mergekit for that"
            )
        ends.append(last)
        start = last
    if start != n_layers:
        raise MergeError(
            f"{file.where}: slices: end at layer {start} of {n_layers}: only whole models are merged; use mergekit to "
            f"leave layers out"
        )
    return ends


def patterns_for(
    wanted: Iterable[str], taken: Iterable[str], tensors: Sequence[str], filters: Iterable[str]
) -> tuple[str, ...]:
    """Patterns that fit all of `wanted`, and beside them none but `taken`, for which earlier rules count.

    They are filters, layers, both, and single names where need be.
    """
    left, found = set(wanted), []
    allowed = left | set(taken)
    layers = sorted({prefix + str(number) for tensor in left if (at := layer_in(tensor)) for prefix, number in [at]})
    parts = [glob.escape(text) for text in dict.fromkeys(filters)]
    candidates = [f"*{part}*" for part in parts] + [f"{glob.escape(layer)}.*" for layer in layers]
    candidates += [f"{glob.escape(layer)}.*{part}*" for layer in layers for part in parts]
    for candidate in candidates:
        fitting = set(fnmatch.filter(tensors, candidate))
        if fitting & left and fitting <= allowed:
            found.append(candidate)
            left -= fitting
    return (*found, *(glob.escape(tensor) for tensor in sorted(left)))
