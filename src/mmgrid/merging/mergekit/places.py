"""Assigns tensors to the slices of a mergekit file, and finds short patterns for sets of tensors."""

import fnmatch
import glob
import re
from collections.abc import Iterable, Sequence

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.file import MergekitFile

_LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def layer_in(tensor: str) -> tuple[str, int] | None:
    """The part of a tensor's name before its layer number (such as `model.layers.`), and the number."""
    match = _LAYER.search(tensor)
    return None if match is None else (tensor[: match.start(1)], int(match[1]))


class Places:
    """The slice of each tensor, and the depth of its layer within that slice.

    As in mergekit, tensors outside of the layers have depth 0; embeddings belong to the first slice, other tensors to
    the last.

    Raises:
        MergeError: the slices move, repeat or omit layers.
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
        """Index of the slice, and depth from 0 to 1."""
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
    """For each slice, the layer after its last one."""
    models = {each.model for each in file.slices[0].inputs}
    ends, start = [], 0
    for number, piece in enumerate(file.slices):
        where = f"{file.where}: slices[{number}]"
        ranges = {each.layers for each in piece.inputs if each.layers is not None}
        if len(ranges) > 1 or {each.model for each in piece.inputs} != models:
            raise MergeError(
                f"{where}: its layer_ranges differ, or its models are not those of slices[0]: moving or stacking "
                f"layers is not supported; use mergekit"
            )
        first, last = ranges.pop()
        if first != start or last <= first or last > n_layers:
            raise MergeError(
                f"{where}.layer_range: [{first}, {last}] must begin at layer {start} and end by {n_layers}: moving, "
                f"omitting or stacking layers is not supported; use mergekit"
            )
        ends.append(last)
        start = last
    if start != n_layers:
        raise MergeError(
            f"{file.where}: slices: end at layer {start} of {n_layers}: only whole models can be merged; use mergekit "
            f"to omit layers"
        )
    return ends


def patterns_for(
    wanted: Iterable[str], taken: Iterable[str], tensors: Sequence[str], filters: Iterable[str]
) -> tuple[str, ...]:
    """Patterns that match all of `wanted`, and no other tensors except `taken`, which earlier rules already match.

    Patterns are built from the filters, from layers, from both, and from single names as a last resort.
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
