"""Opens the models of a recipe and brings them to one form, in which equal names and equal rows mean the same.

In order: quantised weights are multiplied out, tensors get the names of one model, tied tensors are one, and token rows
follow one vocabulary. What cannot be brought to one form stops the merge.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmgrid.files import name_of, short_name_of
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.adapter_model import model_under
from mmgrid.merging.models.file_kinds import check_companion
from mmgrid.merging.models.modules import common_modules, in_one
from mmgrid.merging.models.other_names import with_names_of_first
from mmgrid.merging.models.quantised import DequantisedModel
from mmgrid.merging.models.settings import CONFIG_FILE
from mmgrid.merging.models.sources import Source, found, is_adapter, open_source
from mmgrid.merging.models.ties import OneForm, one_form
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.models.token_tensors import holds_vocabulary
from mmgrid.merging.models.tokens import TOKENIZER_FILE
from mmgrid.merging.plan.config_check import compare_settings
from mmgrid.merging.plan.one_vocabulary import one_vocabulary
from mmgrid.merging.plan.recipe import BASE_FILES, MergeRecipe, MergeSource
from mmgrid.merging.plan.stacks import ModelPaths, is_stacked, models_of
from mmgrid.merging.plan.tokenizer_check import check_tokenizers
from mmgrid.merging.plan.vocabulary import OneVocabulary


@dataclass(frozen=True)
class OpenModels:
    """The models of a recipe in one form.

    Attributes:
        models: by their paths.
        called: what a user calls each of them.
        form: how tied tensors were brought to one form.
        vocabulary: the tokens of the result, if the recipe chose them.
        modules: the modules of sentence-transformers whose weights are merged.
        dropped: tensor → why it is not in the result.
        notes: what a user should know about the models.
    """

    models: dict[ModelPaths, Source]
    called: dict[ModelPaths, str]
    form: OneForm
    vocabulary: OneVocabulary | None
    modules: tuple[str, ...]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


@contextlib.contextmanager
def open_models(recipe: MergeRecipe, *, with_modules: bool = True) -> Iterator[OpenModels]:
    """Open the sources and bases of a recipe.

    Args:
        with_modules: whether to show the tensors of the modules of sentence-transformers, where all models have them.

    Raises:
        MergeError: a model cannot be read, or the models cannot be brought to one form.
    """
    with contextlib.ExitStack() as stack:
        opened = _opened(recipe, stack)
        called = _called(recipe)
        about = {called[key]: opened[key].companions for key in _base_first(recipe, opened)}
        for folder in dict.fromkeys(about.values()):
            for name in (CONFIG_FILE, TOKENIZER_FILE):
                check_companion(folder / name)
        notes = compare_settings(about, allow=recipe.allow_config_mismatch, stacked=is_stacked(recipe))
        quantised = {key: model for key, model in opened.items() if isinstance(model, DequantisedModel)}
        dropped = {scale: why for model in quantised.values() for scale, why in model.hidden.items()}
        notes += [f"{called[key]}: is quantised; its codes are multiplied by their scales" for key in quantised]
        first = _of_config(recipe)
        views, renamed = with_names_of_first({first: opened[first], **opened}, called)
        opened = {key: views[key] for key in opened}
        apart = None if is_stacked(recipe) else _in_blocks(opened)
        opened, form = one_form(opened, called, apart=apart, group_of=recipe.rule_of)
        opened, words, more = _of_one_vocabulary(recipe, opened, called)
        folders = {called[key]: opened[key].companions for key in _base_first(recipe, opened)}
        modules, of_modules = _modules(recipe, folders, opened[first].companions) if with_modules else ([], [])
        if modules:
            views = {key: in_one(model, model.companions, modules) for key, model in opened.items()}
            opened = {key: stack.enter_context(view) for key, view in views.items()}
        said = (*notes, *renamed, *more, *form.notes, *of_modules)
        yield OpenModels(opened, called, form, words, tuple(modules), {**form.dropped, **dropped}, said)


def _modules(recipe: MergeRecipe, folders: Mapping[str, Path], first: Path) -> tuple[list[str], list[str]]:
    """The modules whose weights are merged, and notes."""
    modules, notes = common_modules(folders, first)
    reason = None
    if is_stacked(recipe):
        reason = "layers are stacked"
    elif any(source.statistics is not None for source in recipe.sources):
        reason = "statistics hold nothing about them"
    if reason is None or not modules:
        return modules, notes
    return [], [*notes, f"{listing(modules)}: weights are not merged; the result has those of {first}: {reason}"]


def _of_config(recipe: MergeRecipe) -> ModelPaths:
    """The model whose config is copied, as far as it is known by now; its names of tensors count."""
    if recipe.companions == BASE_FILES and recipe.base is not None:
        return recipe.base, recipe.base_onto
    named = next((own for own in recipe.sources if own.name is not None and own.name == recipe.companions), None)
    source = named or recipe.sources[0]
    return source.path, source.onto


def _in_blocks(opened: Mapping[ModelPaths, Source]) -> set[str]:
    """Tensors whose rows a model declares in blocks."""
    tables = [table for model in opened.values() if (table := BlockTable.read(model.companions)) is not None]
    return {name for table in tables for name in table.tensors}


def _of_one_vocabulary(
    recipe: MergeRecipe, opened: dict[ModelPaths, Source], called: Mapping[ModelPaths, str]
) -> tuple[dict[ModelPaths, Source], OneVocabulary | None, list[str]]:
    """The models with their token rows in one order, and notes; models with blocks of rows are left as they are."""
    folders = {called[key]: opened[key].companions for key in _base_first(recipe, opened)}
    blocks = [name for name, folder in folders.items() if BlockTable.read(folder) is not None]
    if recipe.vocabulary is None:
        of_tokens = {called[key] for key, model in opened.items() if any(map(holds_vocabulary, model))}
        compared = {name: folder for name, folder in folders.items() if name in of_tokens and not blocks}
        return opened, None, check_tokenizers(compared, allow=recipe.allow_config_mismatch)
    if blocks:
        raise MergeError(
            f"vocabulary: {listing(blocks)} declares blocks of token rows in mmgrid.json, which say what rows mean; use "
            "blocks in the recipe instead"
        )
    base = None if recipe.base is None else (recipe.base, recipe.base_onto)
    views, words = one_vocabulary(recipe.vocabulary, opened, called, base)
    return views, words, words.notes()


def _base_first(recipe: MergeRecipe, opened: Mapping[ModelPaths, Source]) -> list[ModelPaths]:
    base = (recipe.base, recipe.base_onto)
    return sorted(opened, key=lambda key: key != base)


def _called(recipe: MergeRecipe) -> dict[ModelPaths, str]:
    """What a user calls each model: the name of a source, else the shortest unique end of its path."""
    paths: dict[ModelPaths, str | None] = {(source.path, source.onto): source.name for source in recipe.sources}
    for key in models_of(recipe):
        paths.setdefault(key, None)
    paths |= {(rule.base, None): None for rule in recipe.rules if rule.base is not None}
    ends = [short_name_of(path) or str(path) for path, _ in paths]
    return {
        key: name or (end if ends.count(end) == 1 else str(key[0]))
        for (key, name), end in zip(paths.items(), ends, strict=True)
    }


def _opened(recipe: MergeRecipe, stack: contextlib.ExitStack) -> dict[ModelPaths, Source]:
    """All sources and bases, each opened once."""
    opened: dict[ModelPaths, Source] = {}
    base = (recipe.base, recipe.base_onto)
    for path, onto in models_of(recipe):
        model = open_source(path, onto, *((None, None) if (path, onto) == base else base))
        opened[path, onto] = stack.enter_context(model)
    for rule in recipe.rules:
        if rule.base is not None and (rule.base, None) not in opened:
            opened[rule.base, None] = stack.enter_context(open_source(rule.base, None))
    return opened


def on_this_machine(recipe: MergeRecipe) -> MergeRecipe:
    """The recipe with folders of the Hub's cache instead of names on the Hub, for the models under adapters, too."""
    recipe = recipe.with_paths(found)

    def with_model(source: MergeSource) -> MergeSource:
        if source.onto is None and is_adapter(source.path):
            model = model_under(source.path, None, recipe.base)
            if name_of(model) is not None:
                return source.model_copy(update={"onto": model})
        return source

    return recipe.model_copy(update={"sources": tuple(map(with_model, recipe.sources))})
