"""Brings models to one form: tensors that are tied, and buffers that loaders compute anew, are stored or not.

The head of many language models is their embedding matrix ("tied"). Some files hold it once, some twice, and an adapter
may untie it. A tensor that is tied in all models of a merge is one tensor, so it is merged once; if it is untied in any
of them, the others are seen with a copy, and the result is untied.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from mmgrid.merging.arrays.chunks import CHUNK_ELEMENTS
from mmgrid.merging.models.settings import TIED, embeddings_tied, settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.models.view import SourceView

_HEAD = re.compile(r"^(?P<place>(?:.*\.)?)(?:lm_head|embed_out|output|cls\.predictions\.decoder)\.weight$")
_EMBEDDING = re.compile(
    r"^(?P<place>(?:.*\.)?)(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|shared)\.weight$"
)
# Other tensors with a row for each token.
_PER_TOKEN = re.compile(
    r"(?:^|\.)(?:(?:lm_head|embed_out|output|cls\.predictions|predictions\.decoder)\.bias|embed_tokens_per_layer\.weight)$"
)
_SHARED = re.compile(r"^(?P<place>(?:.*\.)?)shared\.weight$")
_OF_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Buffers that old files hold and every loader computes from the config. GPT-2's mask has four axes, its biases one.
_BUFFER = re.compile(
    r"(?:^|\.)(?:rotary_emb\.(?:inv_freq|cos_cached|sin_cached)|attn\.masked_bias|attention\.masked_bias|position_ids)$"
)
_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class OneForm:
    """Models that hold the same tensors as far as ties and buffers go.

    Attributes:
        dropped: tensor → why it is not in the result.
        notes: what a user should know.
        settings: entries of the result's config that follow.
    """

    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, bool] = field(default_factory=dict)


def one_form(models: Mapping[Key, Source], called: Mapping[Key, str]) -> tuple[dict[Key, Source], OneForm]:
    """The models with every tied tensor either once in all of them or twice in all of them.

    Args:
        models: the sources and bases of a merge.
        called: their names for notes.
    """
    dropped: dict[str, str] = {}
    notes: list[str] = []
    settings: dict[str, bool] = {}
    hidden: dict[Key, set[str]] = {key: set() for key in models}
    copies: dict[Key, dict[str, str]] = {key: {} for key in models}
    for buffer in _buffers_of_some(list(models.values())):
        dropped[buffer] = "a buffer that only some models store; loaders compute it"
        for key, model in models.items():
            hidden[key] |= {buffer} & set(model)
    for twin, first in tied_pairs({name for model in models.values() for name in model}).items():
        untied = {key: reason for key, model in models.items() if (reason := _untied(model, first, twin))}
        stored = [key for key, model in models.items() if twin in model]
        if not twin.endswith(_OF_SHARED):
            settings[TIED] = not untied
        if not untied:
            if stored:
                dropped[twin] = f"tied to {first}, so it is stored once"
            for key, model in models.items():
                if first not in model and twin in model:
                    copies[key][first] = twin
                hidden[key] |= {twin} & set(model)
            continue
        seen_twice = [key for key, model in models.items() if key not in untied and _may_be_tied(model, first, twin)]
        for key in seen_twice:
            copies[key] |= {name: other for name, other in ((first, twin), (twin, first)) if name not in models[key]}
        contradicting = sorted(called[key] for key, reason in untied.items() if reason == "bytes")
        if contradicting:
            notes.append(
                f"{twin}: differs from {first} in {', '.join(contradicting)} although the config ties them; both are "
                "merged, and the result's are not tied"
            )
        if seen_twice:
            tied = ", ".join(sorted(called[key] for key in seen_twice))
            notes.append(f"{twin}: {tied}: tied to {first}; other models are not tied, nor is the result")
    views = {
        key: SourceView(model, hidden[key], copies[key]) if hidden[key] or copies[key] else model
        for key, model in models.items()
    }
    return views, OneForm(dropped, tuple(notes), settings)


def tied_pairs(names: Iterable[str]) -> dict[str, str]:
    """A tensor that may be tied → the embeddings that it is tied to, by their names alone."""
    names = sorted(names)
    embeddings = {name: match["place"] for name in names if (match := _EMBEDDING.match(name))}
    shared = {name: match["place"] for name in names if (match := _SHARED.match(name))}
    pairs = {}
    for name in names:
        part = next((part for part in _OF_SHARED if name.endswith(part)), None)
        if part is not None:
            above = name.removesuffix(part) + "shared.weight"
            if above in shared:
                pairs[name] = above
        elif head := _HEAD.match(name):
            # `model.embed_tokens` and `lm_head` share no place; `a.model.embed_tokens` and `a.lm_head` share `a.`.
            near = {one: place for one, place in embeddings.items() if place.startswith(head["place"])}
            roots = [one for one in near if one in shared] or sorted(near, key=lambda one: (len(near[one]), one))
            if roots:
                pairs[name] = roots[0]
    return pairs


def implied(model: Source) -> dict[str, str]:
    """Of one model: tensor that it ties and therefore does not store → the embeddings that it stores."""
    heads = [_usual_head(name) for name in model if _EMBEDDING.match(name)]
    pairs = {twin: first for twin, first in tied_pairs({*model, *heads}).items() if twin not in model}
    return pairs if pairs and embeddings_tied(settings_of(model.companions)) else {}


def embeddings_in(names: Iterable[str]) -> list[str]:
    """Those of the names that are embedding matrices of tokens."""
    return [name for name in names if _EMBEDDING.match(name)]


def holds_vocabulary(name: str) -> bool:
    """Whether the rows of a tensor stand for tokens, by its name alone."""
    return bool(_EMBEDDING.match(name) or _HEAD.match(name) or _PER_TOKEN.search(name))


def _usual_head(embeddings: str) -> str:
    """`a.lm_head.weight` for `a.model.embed_tokens.weight`, else `lm_head.weight`."""
    place = embeddings.rpartition(".")[0].rpartition(".")[0]
    outer, _, last = place.rpartition(".")
    return f"{outer}.lm_head.weight" if outer and last == "model" else "lm_head.weight"


def _may_be_tied(model: Source, first: str, twin: str) -> bool:
    """Whether a model holds one of two tensors, and nothing says that it should hold the other."""
    return (first in model) != (twin in model) and _said_tied(model, twin) is not False


def _said_tied(model: Source, twin: str) -> bool | None:
    """Whether a model's config ties two tensors; the parts of an encoder-decoder share their embeddings in any case."""
    return None if twin.endswith(_OF_SHARED) else embeddings_tied(settings_of(model.companions))


def _untied(model: Source, first: str, twin: str) -> str:
    """Why two tensors of a model are two: its "config", or their "bytes"; empty if they are one, or it lacks both."""
    if first not in model or twin not in model:
        return ""
    if model.info(first) != model.info(twin):
        return "config"
    said = _said_tied(model, twin)
    if said is False:
        return "config"
    if _equal(model, first, twin):
        return ""
    return "bytes" if said else "config"


def _equal(model: Tensors, one: str, other: str) -> bool:
    size = model.info(one).size
    for start in range(0, size, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, size)
        if not np.array_equal(_bytes(model, one, start, stop), _bytes(model, other, start, stop)):
            return False
    return True


def _bytes(model: Tensors, name: str, start: int, stop: int) -> np.ndarray:
    return np.ascontiguousarray(model.read(name, start, stop)).view(np.uint8)


def _buffers_of_some(models: Sequence[Source]) -> list[str]:
    """Buffers that loaders compute, which some models store and others do not."""
    names = {name for model in models for name in model}
    buffers = [
        name
        for name in names
        if _BUFFER.search(name)
        or (_MASK.search(name) and all(len(model.info(name).shape) == 4 for model in models if name in model))
    ]
    return sorted(name for name in buffers if not all(name in model for model in models))
