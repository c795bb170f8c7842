"""Which row of which model each row of a merge with one vocabulary comes from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.arranged_rows import MADE, MEAN, Arranged
from mmgrid.merging.plan.vocabulary import ZERO, TokenRow, VocabularyChoice

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class RowOrder(Generic[Key]):
    """What each row of the result stands for, and where a model has it from.

    Attributes:
        ids: token → row, all below `size`; rows from there to `padded` stand for nothing.
        gaps: rows below `size` without a token, which belong to `donor`, the model of the tokenizer.
        base: whose rows models have for tokens that they lack, if there is one.
        known: model → token → its row there.
        asked: token → its origins by the recipe; None if it gives none. `forced` ones have them in every model.
        called: name of each model.
    """

    ids: Mapping[str, int]
    size: int
    padded: int
    gaps: Sequence[int]
    donor: Key
    base: Key | None
    known: Mapping[Key, Mapping[str, int]]
    asked: Mapping[str, Sequence[tuple[Key, int]] | None]
    forced: frozenset[str]
    called: Mapping[Key, str]

    @classmethod
    def over(
        cls,
        ids: Mapping[str, int],
        choice: VocabularyChoice,
        *,
        donor: Key,
        base: Key | None,
        known: Mapping[Key, Mapping[str, int]],
        asked: Mapping[str, Sequence[tuple[Key, int]] | None],
        called: Mapping[Key, str],
    ) -> RowOrder[Key]:
        """The order of a vocabulary, with the rows up to its largest id, and as many more as the recipe pads it by."""
        size = max(ids.values(), default=-1) + 1
        multiple = choice.pad_to_multiple_of or 1
        return cls(
            ids=ids,
            size=size,
            padded=-(-size // multiple) * multiple,
            gaps=sorted(set(range(size)) - set(ids.values())),
            donor=donor,
            base=base,
            known=known,
            asked=asked,
            forced=frozenset(token for token, rule in choice.tokens.items() if rule.force),
            called=called,
        )

    def of(self, key: Key) -> tuple[Arranged, dict[str, str]]:
        """The rows of a model, and those that it lacks: token → where its row comes from."""
        own = np.full(self.padded, MADE, np.int64)
        own[self.size :] = MEAN
        made: dict[int, tuple[tuple[object, int], ...]] = {}
        told: dict[str, str] = {}
        for token, row in self.ids.items():
            there = self.known[key].get(token)
            if there is not None and token not in self.forced:
                own[row] = there
                continue
            origins = self.asked.get(token)
            if origins is None:
                origins = _origins(token, self.known, self.base)
            made[row] = tuple(origins)
            told[token] = _said(origins, self.called)
        for row in self.gaps:
            if key == self.donor:
                own[row] = row
            else:
                made[row] = ((self.donor, row),)
                told[f"row {row}"] = _said(made[row], self.called)
        return Arranged(own, made), told


def origin_asked_for(
    token: str,
    rule: TokenRow,
    keys: Mapping[str, Key],
    known: Mapping[Key, Mapping[str, int]],
    rows: Mapping[Key, int],
) -> list[tuple[Key, int]] | None:
    """The origin that the recipe gives; None if it gives none."""
    where = f"vocabulary: tokens: {token!r}"
    if rule.source is None:
        if rule.token is not None or rule.row is not None or rule.force:
            raise MergeError(f"{where}: token, row and force need a source")
        return None
    if rule.source == ZERO:
        return []
    if rule.source not in keys:
        raise MergeError(f"{where}: there is no source {rule.source!r}; known: {', '.join((*keys, ZERO))}")
    key = keys[rule.source]
    row = rule.row if rule.row is not None else known[key].get(rule.token or token)
    if row is None:
        raise MergeError(f"{where}: {rule.source} has no token {rule.token or token!r}")
    if row >= rows[key]:
        raise MergeError(f"{where}: {rule.source} has {rows[key]} rows, so it has no row {row}")
    return [(key, row)]


def _origins(token: str, known: Mapping[Key, Mapping[str, int]], base: Key | None) -> list[tuple[Key, int]]:
    """The only model that has the token, else the base if it does, else all that do; nothing if none does."""
    having = [(key, ids[token]) for key, ids in known.items() if token in ids]
    if len(having) > 1 and base is not None and token in known[base]:
        return [(base, known[base][token])]
    return having


def _said(origins: Sequence[tuple[Any, int]], called: Mapping[Any, str]) -> str:
    names = [called[key] for key, _ in origins]
    if not names:
        return "zeros"
    return f"that of {names[0]}" if len(names) == 1 else f"the mean of {', '.join(names)}"
