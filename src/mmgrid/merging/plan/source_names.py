"""The names of a recipe's sources: those that it gives, else digests of the weights; and what errors call them."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.files import short_name_of
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.content_names import content_of
from mmgrid.merging.models.digests import Hashing, joint_digest, short_name
from mmgrid.merging.models.source import Source
from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource
from mmgrid.merging.plan.stacks import ModelPaths, digest_name, models_in


def named(
    recipe: MergeRecipe,
    opened: Mapping[ModelPaths, Source],
    called: Mapping[ModelPaths, str],
    workers: int,
    *,
    by_content: bool,
) -> MergeRecipe:
    """The recipe with a name for every source, wherever it refers to one: by default from its weights, else its folder.

    called: what the recipe calls the models.

    Raises:
        MergeError: two sources without a name have the same weights, or folders of the same name.
    """
    unnamed = [source for source in recipe.sources if not source.name]
    names = _content_names(unnamed, opened, workers) if by_content else [short_name_of(own.path) for own in unnamed]
    found = iter(names)
    sources = tuple(
        source if source.name else source.model_copy(update={"name": next(found)}) for source in recipe.sources
    )
    paths: dict[str, list[Path]] = {}
    for source in sources:
        paths.setdefault(str(source.name), []).append(source.path)
    for twins in paths.values():
        if len(twins) > 1:
            same = "have the same weights" if by_content else "have folders of the same name"
            raise MergeError(f"{' and '.join(map(str, twins))} {same}; if this is intended, give each a name")
    changed = {called[own.path, own.onto]: name for own, name in zip(unnamed, names, strict=True)}
    return recipe.model_copy(update={"sources": sources}).renamed(changed)


@contextlib.contextmanager
def names_for_people(recipe: MergeRecipe, called: Mapping[ModelPaths, str]) -> Iterator[None]:
    """Say in errors what the user wrote, where a source is named by its digest."""
    known = {str(source.name): called[source.path, source.onto] for source in recipe.sources}
    digests = {name: said for name, said in known.items() if short_name(name, Path(said)) != name}
    try:
        yield
    except MergeError as error:
        text = str(error)
        for name, said in digests.items():
            text = text.replace(name, said)
        raise MergeError(text) from error


def _content_names(unnamed: Sequence[MergeSource], opened: Mapping[ModelPaths, Source], workers: int) -> list[str]:
    """The content name of each source; where several share one, the digest of their whole weights."""

    def models(sources: Iterable[MergeSource]) -> set[ModelPaths]:
        return {key for own in sources for key in models_in(own.path, own.onto, own.stack)}

    def name_of(source: MergeSource, files: Mapping[ModelPaths, Any]) -> str:
        return digest_name(files, source) if source.stack else joint_digest(files[source.path, source.onto])

    parts = {key: content_of(opened[key].files) for key in models(unnamed)}
    names = [name_of(source, parts) for source in unnamed]
    twins = models(source for source, name in zip(unnamed, names, strict=True) if names.count(name) > 1)
    with Hashing([file for key in twins for file in opened[key].files], workers, ["sha256"]) as hashing:
        whole = parts | {key: hashing.of(opened[key].files) for key in twins}
    return [
        name_of(source, whole if names.count(name) > 1 else parts) for source, name in zip(unnamed, names, strict=True)
    ]
