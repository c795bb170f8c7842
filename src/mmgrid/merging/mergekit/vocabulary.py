"""Reads the tokenizer settings of a mergekit file as the vocabulary of a recipe."""

from collections.abc import Mapping
from typing import Any

from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.file import MergekitFile
from mmgrid.merging.mergekit.model_name import ModelName, model_name
from mmgrid.merging.mergekit.scalars import truth, whole
from mmgrid.merging.plan.vocabulary import BASE_VOCABULARY, UNION, ZERO, TokenRow, VocabularyChoice


def vocabulary_of(file: MergekitFile, names: Mapping[ModelName, str], base_is_source: bool) -> VocabularyChoice | None:
    """The vocabulary that a file asks for; None if it asks for none.

    Args:
        names: model → name of its source.
        base_is_source: whether the file's base is one of the merged models, and the recipe has no base.

    Raises:
        MergeError: a setting names no model, or has another form.
    """
    if file.tokenizer is None:
        return None
    where = f"{file.at('tokenizer' if 'tokenizer' in file.lines else 'tokenizer_source')}: tokenizer"

    def name_of(value: Any, place: str) -> str:
        model = model_name(value, place)
        if model not in names:
            known = ", ".join(("base", "union", *map(str, names)))
            raise MergeError(f"{place}: {value!r} is not one of the merged models; known: {known}")
        return BASE_VOCABULARY if model == file.base and not base_is_source else names[model]

    source = file.tokenizer["source"]
    if source == BASE_VOCABULARY:
        if file.base is None:
            raise MergeError(f"{where}: source: base: there is no base_model")
        source = str(file.base)
    pad = file.tokenizer.get("pad_to_multiple_of")
    rows = whole(pad) if pad is not None else 0
    if rows is None or rows < 0:
        raise MergeError(f"{where}: pad_to_multiple_of: {pad!r} must be a positive whole number")
    tokens = file.tokenizer.get("tokens") or {}
    if not isinstance(tokens, Mapping):
        raise MergeError(f"{where}: tokens: needs tokens and where their rows come from")
    return VocabularyChoice(
        source=source if source == UNION else name_of(source, f"{where}: source"),
        base=names[file.base] if file.base is not None and base_is_source else None,
        tokens={str(token): _row(rule, f"{where}: tokens: {token}", name_of) for token, rule in tokens.items()},
        pad_to_multiple_of=rows or None,
    )


def _row(rule: Any, where: str, name_of: Any) -> TokenRow:
    """Where a token's row comes from, by mergekit's forms: a model, `kind: zero`, or `kind: model_token`."""
    if not isinstance(rule, Mapping):
        raise MergeError(f"{where}: needs source, and may have force, but {rule!r} is given")
    source, force = rule.get("source"), truth(rule.get("force", False), f"{where}: force")
    kind = source.get("kind") if isinstance(source, Mapping) else None
    if source is None:
        return TokenRow()
    if kind == "zero":
        return TokenRow(source=ZERO, force=force)
    if kind == "model_token":
        token, row = source.get("token"), source.get("token_id")
        if (token is None) == (row is None):
            raise MergeError(f"{where}: source: needs one of token and token_id")
        return TokenRow(
            source=name_of(source.get("model"), f"{where}: source: model"), token=token, row=row, force=force
        )
    return TokenRow(source=name_of(source, f"{where}: source"), force=force)
