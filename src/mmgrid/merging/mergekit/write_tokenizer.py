"""Writes the vocabulary of a merge as the `tokenizer` of a mergekit file, where it has exactly the same rows."""

from typing import Any

from mmgrid.merging.mergekit.write_models import NoCounterpartError, named_model
from mmgrid.merging.plan.program import Program
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.merging.plan.vocabulary import BASE_VOCABULARY, UNION, ZERO, OneVocabulary, TokenRow

_BASE_IS_A_MODEL = ("linear", "karcher", "passthrough")


def tokenizer_of(
    recipe: MergeRecipe, program: Program, vocabulary: OneVocabulary, value: dict[str, Any]
) -> dict[str, Any]:
    """The file's `tokenizer`, and where it needs one, its `base_model`.

    Args:
        value: the other content of the file.

    Raises:
        NoCounterpartError: mergekit would give other rows, or rows in another order.
    """
    choice = recipe.vocabulary
    assert choice is not None
    if not vocabulary.in_mergekits_order:
        raise NoCounterpartError("mergekit would give rows of the vocabulary another order")
    models = {
        str(source.name): named_model(source.path, source.onto, program.sources[str(source.name)])
        for source in recipe.sources
    }
    found: dict[str, Any] = {}
    base = program.methods[-1].base
    if base is not None and recipe.base is not None:
        models[BASE_VOCABULARY] = named_model(recipe.base, recipe.base_onto, base)
    if choice.base is not None and choice.base != BASE_VOCABULARY:
        if base is not None or value["merge_method"] not in _BASE_IS_A_MODEL:
            raise NoCounterpartError("the vocabulary has another base than the merge")
        found["base_model"] = models[BASE_VOCABULARY] = models[choice.base]
    if choice.source == UNION and "base_model" not in {**value, **found}:
        raise NoCounterpartError("without a base, the order of a union's rows differs from run to run in mergekit")
    source = UNION if choice.source == UNION else models[choice.source]
    tokenizer: dict[str, Any] = {"source": source}
    if choice.tokens:
        tokenizer["tokens"] = {token: _row(token, rule, models) for token, rule in choice.tokens.items()}
    if choice.pad_to_multiple_of is not None:
        tokenizer["pad_to_multiple_of"] = choice.pad_to_multiple_of
    return {**found, "tokenizer": tokenizer}


def _row(token: str, rule: TokenRow, models: dict[str, Any]) -> dict[str, Any]:
    force = {"force": True} if rule.force else {}
    if rule.source is None:
        raise NoCounterpartError(f"mergekit needs a source for the row of {token!r}")
    if rule.source == ZERO:
        return {"source": {"kind": "zero"}, **force}
    model = models[rule.source]
    if rule.row is not None:
        return {"source": {"kind": "model_token", "model": model, "token_id": rule.row}, **force}
    if rule.token is not None:
        return {"source": {"kind": "model_token", "model": model, "token": rule.token}, **force}
    return {"source": model, **force}
