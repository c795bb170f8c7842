"""Brings models with different vocabularies to one, so that every row stands for one token in all of them.

The meaning is that of mergekit's `tokenizer_source` (https://github.com/arcee-ai/mergekit, docs/tokenizer.md): a token
that a model lacks has, in that model, the row of the base; else the mean of the rows of the models that have it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.models.arranged_rows import MADE, MEAN, Arranged, ArrangedRows
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.token_tensors import embeddings_in, holds_vocabulary
from mmgrid.merging.models.tokens import TOKENIZER_FILE, Vocabulary

BASE_VOCABULARY, UNION, ZERO = "base", "union", "zero"
Key = TypeVar("Key", bound=Hashable)


class TokenRow(BaseModel):
    """Where the row of a token comes from.

    Attributes:
        source: name of a source, "base", or "zero".
        token: the token of that source whose row is taken. Default: the token itself.
        row: the row of that source, instead of a token.
        force: also in models that have the token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    token: str | None = None
    row: Annotated[int, Field(ge=0)] | None = None
    force: bool = False


class VocabularyChoice(BaseModel):
    """The vocabulary of the result.

    Attributes:
        source: "base"; "union", the base's and behind it the tokens that only others have; or the name of a source.
        base: the model whose rows the others have for tokens that they lack. Default: the recipe's base.
        tokens: token → where its row comes from; unknown tokens are added.
        pad_to_multiple_of: rows are added up to a multiple of this; they have the mean of the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = UNION
    base: str | None = None
    tokens: dict[str, TokenRow] = {}
    pad_to_multiple_of: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class OneVocabulary:
    """What the rows of a merge stand for.

    Attributes:
        rows: number of rows of the result.
        ids: token → row of the result.
        tokenizer: the text of its `tokenizer.json`.
        donor: the folder whose other tokenizer files it has.
        made_up: model → token → where its row comes from, for tokens that the model lacks.
        left_out: model → tokens whose rows are not in the result.
        unnamed: model → rows that no token stands for, and that are not in the result.
        words: words of other tokenizers that have become added tokens.
        not_arranged: model → other tensors with as many rows as the embeddings.
        assumed: notes on models whose tokenizer is not known.
        in_mergekits_order: whether mergekit would give every row the same number.
    """

    rows: int
    ids: Mapping[str, int]
    tokenizer: str
    donor: Path
    made_up: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unnamed: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[str] = ()
    not_arranged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    in_mergekits_order: bool = True

    def as_json(self) -> dict[str, Any]:
        """For the record: every row that is made up or left out."""
        made = {model: dict(tokens) for model, tokens in self.made_up.items()}
        left = {model: list(tokens) for model, tokens in self.left_out.items()}
        return {"rows": self.rows, "made_up": made, "left_out": left, "unnamed_rows": dict(self.unnamed)}

    def notes(self) -> list[str]:
        texts = list(self.assumed)
        for model, tokens in self.made_up.items():
            by_origin: dict[str, list[str]] = {}
            for token, origin in tokens.items():
                by_origin.setdefault(origin, []).append(token)
            for origin, own in by_origin.items():
                texts.append(f"vocabulary: {model} lacks {_count(own)}; the row is {origin}: {listing(own)}")
        for model, tokens in self.left_out.items():
            texts.append(f"vocabulary: {_count(tokens)} of {model} left out: {listing(tokens)}")
        for model, rows in self.unnamed.items():
            texts.append(f"vocabulary: {rows} rows of {model} left out, which no token of its tokenizer stands for")
        if self.words:
            texts.append(
                f"vocabulary: {_count(self.words)} of other tokenizers are added ones of the result, which are cut out of a "
                f"text before all others, so texts may be divided otherwise: {listing(self.words)}"
            )
        for model, tensors in self.not_arranged.items():
            texts.append(
                f"vocabulary: {model}: {listing(tensors)}: as long as the embeddings, but by no known name, and merged as "
                "it is"
            )
        return texts


def one_vocabulary(
    choice: VocabularyChoice, models: Mapping[Key, Source], called: Mapping[Key, str], base: Key | None
) -> tuple[dict[Key, Source], OneVocabulary]:
    """The models with their token rows in the order of one vocabulary.

    Args:
        models: the sources, in their order, then the bases.
        called: name of each model.
        base: the recipe's base, if it has one; otherwise the first model takes its place.

    Raises:
        MergeError: a model has no tokenizer or no embeddings, or the choice names something unknown.
    """
    keys = {name: key for key, name in called.items() if key in models} | ({"base": base} if base is not None else {})
    if choice.base is not None:
        base = keys["base"] = _known(choice.base, keys, "base")
    rows = {key: _rows(model, called[key]) for key, model in models.items()}
    first = next(iter(models)) if base is None else base
    found, assumed = _vocabularies(models, rows, called, first)
    donor = first if choice.source == UNION else _known(choice.source, keys, "source")
    result = found[donor].within(rows[donor])
    words: list[str] = []
    if choice.source == UNION:
        result, words = _union(result, [found[key].within(rows[key]) for key in (first, *models)])
    in_order = found[donor].ids.items() <= result.ids.items() and len(result.ids) <= len(found[donor].ids) + 1
    result = result.with_tokens(dict.fromkeys(choice.tokens))
    size = max(result.ids.values(), default=-1) + 1
    gaps = sorted(set(range(size)) - set(result.ids.values()))
    padded = -(-size // choice.pad_to_multiple_of) * choice.pad_to_multiple_of if choice.pad_to_multiple_of else size
    known = {key: {token: row for token, row in own.ids.items() if row < rows[key]} for key, own in found.items()}
    asked = {token: _asked(token, rule, keys, known, rows) for token, rule in choice.tokens.items()}
    forced = frozenset(token for token, rule in choice.tokens.items() if rule.force)
    order = _RowOrder(
        ids=result.ids,
        size=size,
        padded=padded,
        gaps=gaps,
        donor=donor,
        base=base,
        known=known,
        asked=asked,
        forced=forced,
        called=called,
    )
    arranged: dict[Key, Source] = {}
    made_up: dict[str, dict[str, str]] = {}
    not_arranged: dict[str, list[str]] = {}
    for key, model in models.items():
        placed, told = order.of(key)
        if told:
            made_up[called[key]] = told
        tensors = [name for name in model if holds_vocabulary(name) and _has_rows(model, name, rows[key])]
        others = [name for name in model if name not in tensors and rows[key] in model.info(name).shape]
        if others and (rows[key] != padded or told):
            not_arranged[called[key]] = others
        arranged[key] = ArrangedRows(model, tensors, placed, partial(_model_of, models))
    left_out = {
        called[key]: left for key in models if (left := [token for token in known[key] if token not in result.ids])
    }
    unnamed = {called[key]: spare for key in models if (spare := rows[key] - len(set(known[key].values())))}
    about = OneVocabulary(
        rows=padded,
        ids=result.ids,
        tokenizer=json.dumps(result.content, ensure_ascii=False, indent=2),
        donor=models[donor].companions,
        made_up=made_up,
        left_out=left_out,
        unnamed=unnamed,
        words=words,
        not_arranged=not_arranged,
        assumed=assumed,
        in_mergekits_order=in_order and not gaps,
    )
    return arranged, about


@dataclass(frozen=True)
class _RowOrder(Generic[Key]):
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
                origins = _default(token, self.known, self.base)
            made[row] = tuple(origins)
            told[token] = _told(origins, self.called)
        for row in self.gaps:
            if key == self.donor:
                own[row] = row
            else:
                made[row] = ((self.donor, row),)
                told[f"row {row}"] = _told(made[row], self.called)
        return Arranged(own, made), told


def _model_of(models: Mapping[Any, Source], key: object) -> Source:
    return models[key]


def _vocabularies(
    models: Mapping[Key, Source], rows: Mapping[Key, int], called: Mapping[Key, str], first: Key
) -> tuple[dict[Key, Vocabulary], tuple[str, ...]]:
    """The vocabulary of each model, and notes: one without a tokenizer, and as many rows as the first, has the first's."""
    own = _vocabulary(models[first], called[first])
    found, notes = {first: own}, []
    for key, model in models.items():
        if rows[key] == rows[first] and not (model.companions / TOKENIZER_FILE).is_file():
            found[key] = own
            notes.append(
                f"vocabulary: {called[key]} has no {TOKENIZER_FILE}, and is taken to have that of {called[first]}"
            )
        elif key != first:
            found[key] = _vocabulary(model, called[key])
    return {key: found[key] for key in models}, tuple(notes)


def _vocabulary(model: Source, name: str) -> Vocabulary:
    found = Vocabulary.read(model.companions)
    if found is None:
        raise MergeError(
            f"vocabulary: {name} has no {TOKENIZER_FILE} in {model.companions}; save its tokenizer in the form of the "
            "tokenizers library (transformers: `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`)"
        )
    return found


def _rows(model: Source, name: str) -> int:
    sizes = {model.info(tensor).shape[0] for tensor in embeddings_in(model)}
    if len(sizes) != 1:
        what = "embeddings of several lengths" if sizes else "no token embeddings by a known name"
        raise MergeError(f"vocabulary: {name} has {what}; its rows cannot be arranged")
    return sizes.pop()


def _has_rows(model: Source, name: str, rows: int) -> bool:
    shape = model.info(name).shape
    return shape[:1] == (rows,) or shape == (1, rows)


def _known(name: str, keys: Mapping[str, Key], where: str) -> Key:
    if name not in keys:
        known = [*keys, *([UNION] if where == "source" else [])]
        reason = "there is no base" if name == BASE_VOCABULARY else f"there is no source {name!r}"
        raise MergeError(f"vocabulary: {where}: {reason}{nearest(name, known)}; known: {', '.join(known)}")
    return keys[name]


def _union(result: Vocabulary, others: Sequence[Vocabulary]) -> tuple[Vocabulary, list[str]]:
    """The first vocabulary with the tokens of the others behind it: words first, then added tokens, as in mergekit.

    Returns also the words of others, which have become added tokens.
    """
    words: dict[str, Mapping[str, Any] | None] = {}
    added: dict[str, Mapping[str, Any] | None] = {}
    for other in others:
        for token, _ in sorted(other.ids.items(), key=lambda pair: pair[1]):
            (added if token in other.added else words).setdefault(token, other.added.get(token))
    united = result.with_tokens({token: None for token in words if token not in added} | added)
    return united, [token for token in words if token not in added and token not in result.ids]


def _asked(
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


def _default(token: str, known: Mapping[Key, Mapping[str, int]], base: Key | None) -> list[tuple[Key, int]]:
    """The only model that has the token, else the base if it does, else all that do; nothing if none does."""
    having = [(key, ids[token]) for key, ids in known.items() if token in ids]
    if len(having) > 1 and base is not None and token in known[base]:
        return [(base, known[base][token])]
    return having


def _told(origins: Sequence[tuple[Any, int]], called: Mapping[Any, str]) -> str:
    names = [called[key] for key, _ in origins]
    if not names:
        return "zeros"
    return f"that of {names[0]}" if len(names) == 1 else f"the mean of {', '.join(names)}"


def _count(tokens: Sequence[str] | Any) -> str:
    return f"{len(tokens)} token{'' if len(tokens) == 1 else 's'}"
