"""Brings models to one form: tensors that are tied, and buffers that loaders compute anew, are stored or not.

The head of many language models is their embedding matrix ("tied"). Some files hold it once, some twice, and an adapter
may untie it. A tensor that is tied in all models of a merge is one tensor, so it is merged once; if it is untied in any
of them, the others are seen with a copy, and the result is untied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mmgrid.merging.models.dead_buffers import buffers_of_some
from mmgrid.merging.models.settings import TIED, embeddings_tied, settings_of
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.token_tensors import (
    embeddings_in,
    parts_of_shared,
    shares_embeddings,
    tied_pairs,
    twin_of_bias,
    usual_head,
)
from mmgrid.merging.models.twins import equal, twins_in
from mmgrid.merging.models.view import SourceView

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class OneForm:
    """Models that hold the same tensors as far as ties and buffers go.

    Attributes:
        dropped: tensor → why it is not in the result.
        notes: what a user should know.
        settings: entries of the result's config that follow.
        twins: tensor that is stored, but not merged → the one whose values it has.
    """

    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, bool] = field(default_factory=dict)
    twins: Mapping[str, str] = field(default_factory=dict)


def one_form(
    models: Mapping[Key, Source],
    called: Mapping[Key, str],
    *,
    apart: Collection[str] | None = (),
    group_of: Callable[[str], object] = lambda name: None,
) -> tuple[dict[Key, Source], OneForm]:
    """The models with every tied tensor either once in all of them or twice in all of them.

    Args:
        models: the sources and bases of a merge.
        called: their names for notes.
        apart: names that are merged by themselves though they have the bytes of another tensor; None for all names.
        group_of: of a name; tensors of different groups are merged by themselves, too.
    """
    form = _Forming(models, called)
    form.drop_buffers()
    for twin, first in tied_pairs({name for model in models.values() for name in model}).items():
        form.tie(twin, first)
    if form.settings.get(TIED) is False:
        form.keep_parts()
    views = form.views()
    twins = {} if apart is None else twins_in(list(views.values()), apart, group_of)
    for twin, first in twins.items():
        form.notes.append(f"{twin}: has the bytes of {first} in all models; merged once, and stored twice")
        for key, model in views.items():
            views[key] = SourceView(model, {twin})
    return views, OneForm(form.dropped, tuple(form.notes), form.settings, {**form.twins, **twins})


class _Forming(Generic[Key]):
    """What is decided about the tensors of several models."""

    def __init__(self, models: Mapping[Key, Source], called: Mapping[Key, str]) -> None:
        self.models, self.called = models, called
        self.dropped: dict[str, str] = {}
        self.notes: list[str] = []
        self.settings: dict[str, bool] = {}
        self.twins: dict[str, str] = {}
        self.kept_apart: set[str] = set()
        self._hidden: dict[Key, set[str]] = {key: set() for key in models}
        self._copies: dict[Key, dict[str, str]] = {key: {} for key in models}

    def views(self) -> dict[Key, Source]:
        return {
            key: SourceView(model, self._hidden[key], self._copies[key])
            if self._hidden[key] or self._copies[key]
            else model
            for key, model in self.models.items()
        }

    def drop_buffers(self) -> None:
        for buffer in buffers_of_some(self.models.values()):
            self.dropped[buffer] = "a buffer that only some models store; loaders compute it"
            self._hide(buffer)

    def tie(self, twin: str, first: str) -> None:
        """Decide whether two tensors are one in all models."""
        untied = {key: reason for key, model in self.models.items() if (reason := _untied(model, first, twin))}
        if _is_head(twin, first):
            self.settings[TIED] = not untied
        if not untied:
            if twin.endswith(".bias"):  # small, and loaders find it by either name
                self.twins[twin] = first
            elif any(twin in model for model in self.models.values()):
                self.dropped[twin] = f"tied to {first}, so it is stored once"
            for key, model in self.models.items():
                if first not in model and twin in model:
                    self._copies[key][first] = twin
            self._hide(twin)
            return
        self.kept_apart.add(twin)
        seen_twice = [
            key for key, model in self.models.items() if key not in untied and _may_be_tied(model, first, twin)
        ]
        for key in seen_twice:
            pairs = ((first, twin), (twin, first))
            self._copies[key] |= {name: other for name, other in pairs if name not in self.models[key]}
        contradicting = sorted(self.called[key] for key, reason in untied.items() if reason == "bytes")
        if contradicting:
            self.notes.append(
                f"{twin}: differs from {first} in {', '.join(contradicting)} although the config ties them; both are "
                "merged, and the result's are not tied"
            )
        if seen_twice:
            tied = ", ".join(sorted(self.called[key] for key in seen_twice))
            self.notes.append(f"{twin}: {tied}: tied to {first}; other models are not tied, nor is the result")

    def keep_parts(self) -> None:
        """Store what loaders tie only together with the head: the parts' copies of shared embeddings, a head's bias."""
        names = {name for model in self.models.values() for name in model}
        for model in self.models.values():
            if settings_of(model.companions).get("is_encoder_decoder"):
                names |= {part for name in model for part in parts_of_shared(name)}
        for part in names:
            if (first := shares_embeddings(part, names)) and part not in self.kept_apart:
                self.twins[part] = first
                self.dropped.pop(part, None)
        for name in names:
            if (twin := twin_of_bias(name)) and twin.replace(".bias", ".weight") in names and twin not in names:
                self.twins[twin] = name

    def _hide(self, name: str) -> None:
        for key, model in self.models.items():
            self._hidden[key] |= {name} & set(model)


def implied(model: Source, named: Collection[str] = ()) -> dict[str, str]:
    """Of one model: tensor that it ties and therefore does not store → the embeddings that it stores.

    Args:
        named: names of tensors that others know the model to have.
    """
    settings = settings_of(model.companions)
    heads = [head for name in embeddings_in(model) if (head := usual_head(name, settings))]
    pairs = {twin: first for twin, first in tied_pairs({*model, *heads, *named}).items() if twin not in model}
    return pairs if pairs and embeddings_tied(settings) else {}


def stored_twice(model: Source) -> dict[str, str]:
    """Of one model: head that its config ties, and that it stores nevertheless → the embeddings with the same bytes."""
    if not embeddings_tied(settings_of(model.companions)):
        return {}
    pairs = {twin: first for twin, first in tied_pairs(model).items() if _is_head(twin, first)}
    return {twin: first for twin, first in pairs.items() if not _untied(model, first, twin)}


def _is_head(twin: str, first: str) -> bool:
    """Whether the config says if two tensors are tied; parts of an encoder-decoder share embeddings in any case."""
    return not shares_embeddings(twin, {first}) and not twin.endswith(".bias")


def _may_be_tied(model: Source, first: str, twin: str) -> bool:
    """Whether a model holds one of two tensors, and nothing says that it should hold the other."""
    return (first in model) != (twin in model) and _said_tied(model, first, twin) is not False


def _said_tied(model: Source, first: str, twin: str) -> bool | None:
    """Whether a model's config ties two tensors."""
    return embeddings_tied(settings_of(model.companions)) if _is_head(twin, first) else None


def _untied(model: Source, first: str, twin: str) -> str:
    """Why two tensors of a model are two: its "config", or their "bytes"; empty if they are one, or it lacks both."""
    if first not in model or twin not in model:
        return ""
    if model.info(first) != model.info(twin):
        return "config"
    said = _said_tied(model, first, twin)
    if said is False:
        return "config"
    if equal(model, first, twin):
        return ""
    return "bytes" if said else "config"
