"""The layers that a source of a recipe takes from the models of a mergekit file's slices."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mmgrid.merging.arrays.names import split_layer
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.mergekit.file import Input, MergekitFile
from mmgrid.merging.mergekit.model_name import ModelName
from mmgrid.merging.mergekit.places import Places, Region, Slot
from mmgrid.merging.models.sources import open_source

Taken = tuple[ModelName, tuple[int, int], str | None]  # a model, its layers, and what they are called


class Stacks:
    """The stacks of slots."""

    def __init__(
        self, file: MergekitFile, places: Places, folders: Mapping[ModelName, Path], models: Sequence[ModelName]
    ) -> None:
        self.file, self.places, self.models = file, places, models
        self._folders = folders
        self._counts = cache(self._layers_in)

    def own(self, slot: Slot, chosen: ModelName) -> ModelName:
        """The model of a slot whose config it has: the chosen one if it is among its models."""
        models = [each.model for each in slot.models]
        return chosen if chosen in models or not models else models[0]

    def of(self, slot: Slot, own: ModelName) -> list[Taken]:
        """The layers of a slot in the order of the result; empty if they are all layers of `own` in their order.

        Raises:
            MergeError: modules take a source from different models, or a model has several kinds of layers.
        """
        inputs = [
            (each if each is not None else region.others[0], region)
            for each, region in zip(slot.inputs, self.places.regions, strict=True)
        ]
        if len(self.file.modules) > 1 and {each.model for each, _ in inputs} != {own}:
            raise MergeError(
                f"{self.file.at('modules')}: modules: each must merge the same models, because one recipe merges all of them"
            )
        if all(each.layers is None for each, _ in inputs) and {each.model for each, _ in inputs} == {own}:
            return []
        if self._in_order(inputs, own):
            return []
        taken: list[Taken] = []
        for each, region in inputs:
            kinds = self._kinds(each.model, region)
            if each.layers is None:
                taken += [(each.model, (0, count), kind) for kind, count in kinds.items()]
                continue
            if len(kinds) != 1:
                raise MergeError(
                    f"{each.where}.layer_range: {each.model} has "
                    + (f"several kinds of layers ({listing(kinds)})" if kinds else "no layers")
                    + "; layers can be moved or left out only in models with one kind of them"
                )
            ((kind, count),) = kinds.items()
            if each.layers[1] > count:
                raise MergeError(f"{each.where}.layer_range: {list(each.layers)}: {each.model} has {count} layers")
            of = None if len(self._counts(each.model)) == 1 else kind
            if taken and taken[-1][0] == each.model and taken[-1][2] == of and taken[-1][1][1] == each.layers[0]:
                taken[-1] = (each.model, (taken[-1][1][0], each.layers[1]), of)
            else:
                taken.append((each.model, each.layers, of))
        return taken

    def _in_order(self, inputs: Sequence[tuple[Input, Region]], own: ModelName) -> bool:
        """Whether inputs are all layers of one model, each at its own place."""
        if {each.model for each, _ in inputs} != {own}:
            return False
        for module in {region.module.name for _, region in inputs}:
            ranges = [(each.layers, region) for each, region in inputs if region.module.name == module]
            counts = set(self._kinds(own, ranges[0][1]).values())
            if any(layers is not None and layers[0] != region.start for layers, region in ranges):
                return False
            last = ranges[-1][0]
            if last is not None and last[1] != max(counts, default=0):
                return False
        return True

    def _kinds(self, model: ModelName, region: Region) -> dict[str, int]:
        """The kinds of layers of a model that belong to a region's module → their number."""
        return {
            kind: count
            for kind, count in self._counts(model).items()
            if region.module.name is None or self.places.module_of(f"{kind}.0.weight") == region.module.name
        }

    def _layers_in(self, model: ModelName) -> dict[str, int]:
        counts: dict[str, int] = {}
        with open_source(self._folders[model]) as opened:
            for tensor in opened:
                if (found := split_layer(tensor)) is not None:
                    counts[found[0]] = max(counts.get(found[0], 0), found[1] + 1)
        return counts
