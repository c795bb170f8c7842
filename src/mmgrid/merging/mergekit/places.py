"""Assigns tensors to the slices of a mergekit file, and finds short patterns for sets of tensors."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmgrid.merging.arrays.names import is_early, split_layer
from mmgrid.merging.errors import MergeError

if TYPE_CHECKING:
    from mmgrid.merging.mergekit.file import Input, MergekitFile, Module, Slice

# mergekit's names for the parts of models with several, and where their tensors are.
_PARTS: Sequence[tuple[str, re.Pattern[str]]] = (
    (
        "multi_modal_projector",
        re.compile(r"(?:^|\.)multi_modal_projector\.|(?:^|\.)visual\.(?:merger|deepstack_merger)"),
    ),
    ("vision_tower", re.compile(r"(?:^|\.)(?:visual|vision_tower|vision_model)\.")),
    ("encoder", re.compile(r"^(?:model\.)?encoder\.")),
    ("decoder", re.compile(r"^(?:model\.)?decoder\.")),
    ("shared", re.compile(r"^(?:shared|lm_head|proj_out)\.")),
)
_TEXT = "text_decoder"  # all that is in no other part; `default` is the only part of a model


def layer_in(tensor: str) -> tuple[str, int] | None:
    """The part of a tensor's name before its layer number (such as `model.layers.`), and the number."""
    found = split_layer(tensor)
    return None if found is None else (f"{found[0]}." if found[0] else "", found[1])


@dataclass(frozen=True)
class Region:
    """A slice of the result.

    Attributes:
        module: the module that it belongs to.
        base: the base among its inputs, if any.
        others: its inputs; without the base, for methods that treat it apart.
        start: its first layer in the result.
        length: number of layers; None for all.
    """

    module: Module
    piece: Slice
    base: Input | None
    others: tuple[Input, ...]
    start: int
    length: int | None


class Places:
    """The region of each tensor, and the depth of its layer within it.

    As in mergekit, tensors outside of the layers have depth 0; embeddings belong to the first slice, other tensors to
    the last.

    Raises:
        MergeError: the layer ranges of a slice have different lengths, or a part of the model has no module.
    """

    def __init__(self, file: MergekitFile, base_apart: bool) -> None:
        self.where = file.at("modules")
        self.named = [module.name for module in file.modules if module.name is not None]
        self.regions: list[Region] = []
        for module in file.modules:
            start = 0
            for piece in module.slices:
                lengths = {each.layers[1] - each.layers[0] for each in piece.inputs if each.layers is not None}
                if len(lengths) > 1:
                    raise MergeError(f"{piece.where}: the layer_ranges of its sources have different lengths")
                length = lengths.pop() if lengths else None
                base = next((each for each in piece.inputs if each.model == piece.base), None) if base_apart else None
                others = tuple(each for each in piece.inputs if each is not base)
                self.regions.append(Region(module, piece, base, others, start, length))
                start += length or 0
        self._counts: dict[str, int] = {}

    def know(self, tensors: Iterable[str]) -> None:
        """Take the numbers of layers from the names of the result's tensors."""
        for tensor in tensors:
            if (layer := layer_in(tensor)) is not None:
                self._counts[layer[0]] = max(self._counts.get(layer[0], 0), layer[1] + 1)

    def of(self, tensor: str) -> tuple[int, float]:
        """Index of the region, and depth from 0 to 1."""
        own = [number for number, region in enumerate(self.regions) if region.module.name == self.module_of(tensor)]
        layer = layer_in(tensor)
        if layer is None:
            return own[0 if is_early(tensor) else -1], 0.0
        prefix, number = layer
        for index in own:
            region = self.regions[index]
            length = self._counts[prefix] if region.length is None else region.length
            if number < region.start + length:
                return index, 1.0 if length <= 1 else (number - region.start) / (length - 1)
        return own[-1], 1.0

    def module_of(self, tensor: str) -> str | None:
        """The module of a tensor; None if the file names no modules.

        Raises:
            MergeError: no module of the file has it.
        """
        if not self.named:
            return None
        part = next((part for part, pattern in _PARTS if pattern.search(tensor)), None)
        if part == "shared" and part not in self.named:  # the head of a language model
            part = None
        for name in self.named:
            if name in (part, "default") or (name == _TEXT and part is None):
                return name
        known = ", ".join(self.named)
        raise MergeError(
            f"{self.where}: modules: none of {known} has {tensor}; mergekit would leave it out, and the model could not be "
            f"loaded. Give {part or _TEXT}, too"
        )


def inner_name(tensor: str, region: Region, each: Input) -> str:
    """The name that a tensor of the result has in an input, whose layers may have other numbers."""
    found = split_layer(tensor)
    if found is None or each.layers is None:
        return tensor
    place, number, rest = found
    return ".".join(part for part in (place, str(number - region.start + each.layers[0]), rest) if part)


@dataclass(frozen=True)
class Slot:
    """One source of the recipe: an input of each region, or None where a region has fewer."""

    inputs: tuple[Input | None, ...]

    @property
    def models(self) -> list[Input]:
        """One input for each model, in their order."""
        return list({each.model: each for each in self.inputs if each is not None}.values())


def slots_of(regions: Sequence[Region], can_pad: bool, method: str) -> list[Slot]:
    """The sources of a recipe for regions whose models may differ.

    Raises:
        MergeError: regions have different numbers of models, and the method cannot leave one out.
    """
    first = [each.model for each in regions[0].others]
    if all({each.model for each in region.others} == set(first) for region in regions):
        by_model = [{each.model: each for each in region.others} for region in regions]
        return [Slot(tuple(own[model] for own in by_model)) for model in first]
    most = max(len(region.others) for region in regions)
    for region in regions:
        if len(region.others) < most and not can_pad:
            raise MergeError(
                f"{region.piece.where}: has {len(region.others)} models and another slice {most}; with {method} every "
                "slice must have as many, because one recipe merges all of them. Give each slice the same number of models"
            )
    return [
        Slot(tuple(region.others[number] if number < len(region.others) else None for region in regions))
        for number in range(most)
    ]


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


def names_of(slots: Sequence[Slot], called: Mapping[object, str]) -> list[str]:
    """A name for each slot: that of its model, or of its models."""
    names = ["+".join(called[each.model] for each in slot.models) for slot in slots]
    return [name if names.count(name) == 1 else f"{name}#{number}" for number, name in enumerate(names, 1)]
