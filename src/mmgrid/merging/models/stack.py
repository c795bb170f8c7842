"""A model that is stacked from layers of others: they are renumbered in the order of the stack."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.merging.arrays.names import is_early, split_layer
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.digests import joint_digest
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo

Files = Mapping[str, Mapping[str, Any]]  # name of a file → its digest and size


@dataclass(frozen=True)
class Piece:
    """Layers [first, last) of a model.

    Attributes:
        of: the name before the layers' numbers, such as `model.layers`; None if the model has only one such name.
    """

    model: Source
    first: int
    last: int
    of: str | None = None


class StackedSource(Closing):
    """The layers of the pieces, one after another. Closing it closes no model.

    Embeddings are those of the first piece's model, other tensors outside of layers those of the last one's. In models
    of several parts, such as towers, each part has its own layers and pieces; a tensor outside of layers belongs to the
    part with the most similar name, and parts without pieces are those of `own`.

    Args:
        own: the model of config and tokenizer.
        pieces: in the order of the result.
        called: the name of the source, for errors.

    Attributes:
        pieces: as given.
        origins: name before the layers' numbers → model and number of each layer of the result.
        counts: the same name → number of layers of `own`.

    Raises:
        MergeError: a model has no such layers, or layers of several parts and the piece names none.
    """

    def __init__(self, own: Source, pieces: Sequence[Piece], called: str) -> None:
        self.own, self.pieces = own, tuple(pieces)
        self.models = list({id(model): model for model in (own, *(piece.model for piece in pieces))}.values())
        self.counts = _counts(own)
        counts = {id(model): _counts(model) for model in self.models}
        self.origins: dict[str, list[tuple[Source, int]]] = {}
        ends = dict.fromkeys(counts[id(own)], (own, own))
        for piece in pieces:
            place = _place(piece, counts[id(piece.model)], called)
            ends[place] = (ends[place][0] if place in self.origins else piece.model, piece.model)
            self.origins.setdefault(place, []).extend((piece.model, layer) for layer in range(piece.first, piece.last))
        self._places: dict[str, tuple[Source, str]] = {}
        layers_of = {id(model): _by_layer(model) for model in self.models}
        for place in {*ends, *self.origins}:
            stacked = self.origins.get(place)
            layers = [(own, layer) for layer in range(counts[id(own)].get(place, 0))] if stacked is None else stacked
            for number, (model, layer) in enumerate(layers):
                for rest in layers_of[id(model)].get((place, layer), ()):
                    self._places[f"{place}.{number}.{rest}"] = model, f"{place}.{layer}.{rest}"
        for model in self.models:
            for name in model:
                if split_layer(name) is None and ends[_nearest(name, ends)][not is_early(name)] is model:
                    self._places[name] = model, name

    @property
    def path(self) -> Path:
        return self.own.path

    @property
    def files(self) -> list[Path]:
        return sorted({file for model in self.models for file in model.files})

    @property
    def stamps(self) -> list[tuple[int, int, int]]:
        return [stamp for model in self.models for stamp in model.stamps]

    @property
    def companions(self) -> Path:
        return self.own.companions

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def info(self, name: str) -> TensorInfo:
        model, inner = self._places[name]
        return model.info(inner)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        model, inner = self._places[name]
        return model.read(inner, start, stop)

    def check_unchanged(self) -> None:
        for model in self.models:
            model.check_unchanged()

    def close(self) -> None:
        """The models are closed by who opened them."""


def joint_files(models: Sequence[Files]) -> dict[str, Mapping[str, Any]]:
    """The files of a stack: those of the first model, and those of the others as `1/model.safetensors`, …"""
    return {
        f"{number}/{name}" if number else name: entry
        for number, files in enumerate(models)
        for name, entry in files.items()
    }


def stack_digest(files: Files, layers: str) -> str:
    """One digest for a stack: of its files, and of a text that describes its layers."""
    return hashlib.sha256(f"{joint_digest(files)} {layers}".encode()).hexdigest()


def _counts(model: Source) -> dict[str, int]:
    """Name before layer numbers → number of layers."""
    counts: dict[str, int] = {}
    for name in model:
        if (found := split_layer(name)) is not None:
            counts[found[0]] = max(counts.get(found[0], 0), found[1] + 1)
    return counts


def _by_layer(model: Source) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for name in model:
        if (parts := split_layer(name)) is not None:
            found.setdefault(parts[:2], []).append(parts[2])
    return found


def _place(piece: Piece, counts: Mapping[str, int], called: str) -> str:
    where = f"stack of {called}: layers [{piece.first}, {piece.last}] of {piece.model.path.name}"
    if piece.of is None and len(counts) != 1:
        names = f"several kinds: {listing(counts)}; choose one with `of`" if counts else "no layers"
        raise MergeError(f"{where}: the model has {names}")
    place = next(iter(counts)) if piece.of is None else piece.of
    if place not in counts:
        raise MergeError(f"{where}: there are no layers called {place}; known: {listing(counts) or 'none'}")
    if not 0 <= piece.first <= piece.last <= counts[place]:
        raise MergeError(
            f"{where}: the model has layers 0 to {counts[place] - 1}; give the first, and the one after the last"
        )
    return place


def _nearest(name: str, places: Mapping[str, Any]) -> str:
    """The part whose name has the most leading parts in common with a tensor's; the first one of several."""

    def common(place: str) -> int:
        both = zip(place.split("."), name.split("."), strict=False)
        return next((number for number, (one, other) in enumerate(both) if one != other), place.count("."))

    return max(places, key=common)
