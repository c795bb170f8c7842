"""One tensor under several names: the same architecture saved by other classes or versions of transformers.

A model without its head's class has no prefix (`h.0.attn…` for `transformer.h.0.attn…`), old files call a norm's weight
`gamma`, and towers have moved (`language_model.model.…`, `model.language_model.…`). The names of the first model count.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from mmgrid.merging.models.source import Source
from mmgrid.merging.models.view import SourceView

Key = TypeVar("Key", bound=Hashable)
_PREFIXES = (
    "model.",
    "transformer.",
    "bert.",
    "roberta.",
    "distilbert.",
    "gpt_neox.",
    "backbone.",
    "albert.",
    "electra.",
)
# Old and new places; each is tried in both directions.
_MOVED = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("embed_out.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("visual.", "model.visual."),
    ("model.", "model.language_model."),
    ("backbone.", "model."),
)
_EXPERTS = re.compile(r"\.(?:mlp|block_sparse_moe)(?=\.(?:experts|gate)\.)")  # the same layer
_NORM = re.compile(r"(LayerNorm)\.(?:gamma|beta|weight|bias)$")
_ENDS = {"gamma": "weight", "beta": "bias", "weight": "gamma", "bias": "beta"}


def with_names_of_first(
    models: Mapping[Key, Source], called: Mapping[Key, str]
) -> tuple[dict[Key, Source], tuple[str, ...]]:
    """The models with the names of the first one, where a tensor has another name in them; and notes.

    Args:
        called: their names for notes.
    """
    keys = list(models)
    if not keys:
        return {}, ()
    first = set(models[keys[0]])
    views, notes = dict(models), []
    for key in keys[1:]:
        renamed = _renamed(set(models[key]), first)
        if renamed:
            own, there = next(iter(renamed.items()))
            views[key] = SourceView(models[key], hidden=renamed, copies={new: old for old, new in renamed.items()})
            notes.append(
                f"{called[key]}: {len(renamed)} tensors have the names that they have in {called[keys[0]]}: {there} for {own}"
            )
    return views, tuple(notes)


def _renamed(own: set[str], wanted: set[str]) -> dict[str, str]:
    """Own name → the name it has in another model, for tensors that only their names keep apart."""
    lacking, taken = wanted - own, set[str]()
    found: dict[str, str] = {}
    if not lacking:
        return found
    for name in sorted(own - wanted):
        fits = {other for other in other_names(name) if other in lacking} - taken
        if len(fits) == 1:
            found[name] = fits.pop()
            taken.add(found[name])
    return found


def other_names(name: str) -> Iterable[str]:
    """The names that a tensor may have elsewhere."""
    ends = [name]
    if norm := _NORM.search(name):
        end = name.rpartition(".")[2]
        ends.append(f"{name[: norm.end(1)]}.{_ENDS[end]}")
    if layer := _EXPERTS.search(name):
        place = ".mlp" if layer[0] == ".block_sparse_moe" else ".block_sparse_moe"
        ends.append(f"{name[: layer.start()]}{place}{name[layer.end() :]}")
    for one in ends:
        yield one
        for prefix in _PREFIXES:
            yield prefix + one
            if one.startswith(prefix):
                yield one.removeprefix(prefix)
        for old, new in _MOVED:
            for before, after in ((old, new), (new, old)):
                if one.startswith(before):
                    yield after + one.removeprefix(before)
