"""Writes the models of a merge as a mergekit file names them: whole models, or slices of layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.files import HubName
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.modules import ModularSource
from mmgrid.merging.models.quantised import DequantisedModel
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.sources import is_adapter
from mmgrid.merging.models.stack import StackedSource
from mmgrid.merging.models.view import SourceView
from mmgrid.merging.plan.recipe import Stack

Named = str | dict[str, Any]  # a model in mergekit's short or long form


class NoCounterpartError(Exception):
    """mergekit cannot express a merge; the message gives the reason."""


@dataclass(frozen=True)
class LayerOf:
    """One layer of a source: its model, and its number there."""

    model: str
    named: Any
    number: int


def named_model(path: Path, onto: Path | None, source: Any) -> Named:
    """A model as mergekit names it.

    Args:
        path, onto: as they should appear in the file.
        source: the open model.

    Raises:
        NoCounterpartError: mergekit could not open it.
    """
    if not (source.companions / "config.json").is_file():
        raise NoCounterpartError(f"{path} has no config.json")
    if _is_multiplied(source):
        raise NoCounterpartError(f"{path} is quantised, and mergekit would merge its codes")
    adapter = None
    if is_adapter(source.path):
        if onto is None:
            raise NoCounterpartError(f"{path} is an adapter whose model the recipe does not name")
        if _is_on_adapter(source):
            raise NoCounterpartError(f"{path} is an adapter of an adapter")
        path, adapter = onto, path
    text = str(path) + ("" if adapter is None else f"+{adapter}")
    place = _place(path)
    if adapter is None and "revision" in place:
        return text
    if "@" in text or text.count("+") != (adapter is not None):
        return {"model": place} if adapter is None else {"model": place, "lora": _place(adapter)}
    return text


def layers_of(path: Path, onto: Path | None, stack: Stack, source: Any) -> list[LayerOf]:
    """The layers of a source in the order of the result, for slices.

    Raises:
        NoCounterpartError: the model has several kinds of layers, or mergekit could not open a model.
    """
    if isinstance(source, StackedSource):
        own: Source = source.own
        parts = [
            (part.path or path, part.onto if part.path is not None else onto, piece.model, piece.first, piece.last)
            for part, piece in zip(stack, source.pieces, strict=True)
        ]
        if any(first == last for *_, first, last in parts):
            raise NoCounterpartError("a part of a stack has no layers")
        counts = source.counts
    else:
        own, counts = source, StackedSource(source, (), "").counts
        parts = [(path, onto, own, 0, next(iter(counts.values()), 0))]
    if len(counts) != 1:
        raise NoCounterpartError("layers are stacked in a model with several kinds of them")
    return [
        LayerOf(str(named := named_model(where, under, model)), named, number)
        for where, under, model, first, last in parts
        for number in range(first, last)
    ]


def runs_of(rows: Sequence[tuple[LayerOf, ...]]) -> Iterator[tuple[tuple[LayerOf, ...], int]]:
    """Runs of layers that follow each other in all sources: the first layers, and how many.

    Args:
        rows: for each layer of the result, the layer of each source.
    """
    start = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or not all(
            later.model == first.model and later.number == first.number + place - start
            for first, later in zip(rows[start], rows[place], strict=True)
        ):
            yield rows[start], place - start
            start = place


def slices_of(
    layers: Mapping[str, Sequence[LayerOf]], parameters: Mapping[str, Mapping[str, Any]], base: str | None
) -> list[dict[str, Any]]:
    """The `slices` of a mergekit file.

    Args:
        layers: source, or the base → its layers.
        parameters: source → its parameters, the same in all slices.
        base: the one of the sources that is the base.

    Raises:
        NoCounterpartError: sources have different numbers of layers, or one model stands twice in a slice.
    """
    names = list(layers)
    if len({len(own) for own in layers.values()}) != 1:
        raise NoCounterpartError("sources have different numbers of layers")
    rows = list(zip(*layers.values(), strict=True))
    slices = []
    for first, count in runs_of(rows):
        if len({layer.model for layer in first}) < len(first):
            raise NoCounterpartError("one model stands twice in a slice")
        sources = [
            {"model": layer.named, "layer_range": [layer.number, layer.number + count]}
            | ({"parameters": dict(own)} if (own := parameters.get(name)) else {})
            for name, layer in zip(names, first, strict=True)
        ]
        of_base = {} if base is None else {"base_model": first[names.index(base)].named}
        slices.append({"sources": sources, **of_base})
    return slices


def _is_multiplied(source: Any) -> bool:
    source = _seen_through(source)
    return isinstance(source, DequantisedModel) or (isinstance(source, LoraFolder) and _is_multiplied(source.under))


def _is_on_adapter(source: Any) -> bool:
    source = _seen_through(source)
    return isinstance(source, LoraFolder) and isinstance(_seen_through(source.under), LoraFolder)


def _seen_through(source: Any) -> Any:
    """What other views show."""
    while isinstance(source, SourceView | ModularSource) and not isinstance(source, DequantisedModel):
        source = source.inner if isinstance(source, SourceView) else source.model
    return source


def _place(path: Any) -> dict[str, str]:
    name = HubName.parse(str(path))
    if name is None or name.revision is None or not name.is_pinned:
        return {"path": str(path)}
    return {"path": name.repo, "revision": name.revision}
