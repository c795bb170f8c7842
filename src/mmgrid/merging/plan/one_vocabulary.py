"""Brings models with different vocabularies to one, so that every row stands for one token in all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.models.arranged_rows import ArrangedRows
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.token_files import content_of_tokens, token_files, tokens_of
from mmgrid.merging.models.token_tensors import embeddings_in, holds_vocabulary
from mmgrid.merging.models.tokens import TOKENIZER_FILE, Vocabulary
from mmgrid.merging.plan.row_order import Key, RowOrder, origin_asked_for
from mmgrid.merging.plan.vocabulary import BASE_VOCABULARY, UNION, OneVocabulary, VocabularyChoice

T = TypeVar("T")


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
    result, words = found[donor].within(rows[donor]), []
    if choice.source == UNION:
        result, words = _union(result, [found[key].within(rows[key]) for key in (first, *models)])
    in_order = found[donor].ids.items() <= result.ids.items() and len(result.ids) <= len(found[donor].ids) + 1
    result = result.with_tokens(dict.fromkeys(choice.tokens))
    known = {key: {token: row for token, row in own.ids.items() if row < rows[key]} for key, own in found.items()}
    asked = {token: origin_asked_for(token, rule, keys, known, rows) for token, rule in choice.tokens.items()}
    order = RowOrder.over(result.ids, choice, donor=donor, base=base, known=known, asked=asked, called=called)
    arranged, made_up, not_arranged = _arranged(models, rows, order)
    left_out = {key: [token for token in known[key] if token not in result.ids] for key in models}
    unnamed = {key: rows[key] - len(set(known[key].values())) for key in models}
    about = OneVocabulary(
        rows=order.padded,
        ids=result.ids,
        tokenizer=json.dumps(result.content, ensure_ascii=False, indent=2),
        donor=models[donor].companions,
        made_up=_by_name(made_up, called),
        left_out=_by_name(left_out, called),
        unnamed=_by_name(unnamed, called),
        words=words,
        not_arranged=_by_name(not_arranged, called),
        assumed=assumed,
        in_mergekits_order=in_order and not order.gaps,
    )
    return arranged, about


def _arranged(
    models: Mapping[Key, Source], rows: Mapping[Key, int], order: RowOrder[Key]
) -> tuple[dict[Key, Source], dict[Key, dict[str, str]], dict[Key, list[str]]]:
    """The models in the order of the rows, and of each: the rows that it lacks, and tensors that might have such rows."""
    arranged: dict[Key, Source] = {}
    made_up: dict[Key, dict[str, str]] = {}
    not_arranged: dict[Key, list[str]] = {}
    for key, model in models.items():
        placed, made_up[key] = order.of(key)
        tensors = [name for name in model if holds_vocabulary(name) and _has_rows(model, name, rows[key])]
        if rows[key] != order.padded or made_up[key]:
            others = (name for name in model if name not in tensors)
            not_arranged[key] = [name for name in others if rows[key] in model.info(name).shape]
        arranged[key] = ArrangedRows(model, tensors, placed, partial(_model_of, models))
    return arranged, made_up, not_arranged


def _by_name(found: Mapping[Key, T], called: Mapping[Key, str]) -> dict[str, T]:
    """What was found about each model, by its name; without models of which there is nothing to say."""
    return {called[key]: value for key, value in found.items() if value}


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
            _check_same_tokens(models[first].companions, model.companions, called[first], called[key])
            found[key] = own
            notes.append(
                f"vocabulary: {called[key]} has no {TOKENIZER_FILE}, and is taken to have that of {called[first]}"
            )
        elif key != first:
            found[key] = _vocabulary(model, called[key])
    return {key: found[key] for key in models}, tuple(notes)


def _check_same_tokens(first: Path, other: Path, called: str, name: str) -> None:
    """Check that a model without `tokenizer.json` has the first's tokens, as far as both have another file that says so.

    Raises:
        MergeError: it has others.
    """
    for file in token_files(first):
        if file not in token_files(other) or content_of_tokens(first, file) == content_of_tokens(other, file):
            continue
        ids, own = tokens_of(first, file), tokens_of(other, file)
        if ids is not None and own is not None and ids != own:
            different = [token for token in {**ids, **own} if ids.get(token) != own.get(token)]
            raise MergeError(
                f"vocabulary: {name} has no {TOKENIZER_FILE}, and by its {file} it has other tokens than {called} "
                f"({listing(map(repr, different), 3)}). {_save(other)}"
            )


def _save(folder: Path) -> str:
    return (
        f"Save its tokenizer in the form of the tokenizers library (transformers: `AutoTokenizer.from_pretrained({str(folder)!r})"
        ".save_pretrained(folder)`)"
    )


def _vocabulary(model: Source, name: str) -> Vocabulary:
    found = Vocabulary.read(model.companions)
    if found is None:
        raise MergeError(f"vocabulary: {name} has no {TOKENIZER_FILE} in {model.companions}. {_save(model.companions)}")
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
