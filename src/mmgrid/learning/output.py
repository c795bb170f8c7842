"""Writes what was learned: an ordinary recipe, and beside it a file of statistics for each source."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from safetensors.torch import save

from mmgrid.files import clear_disk_errors, file_stem, replacing_files, write_bytes
from mmgrid.files.outputs import check_not_read
from mmgrid.learning.errors import LearningError
from mmgrid.learning.learned import Learned
from mmgrid.merging.errors import MergeError
from mmgrid.merging.output.record import relative_to
from mmgrid.merging.plan.recipe import MergeRecipe

_REMEDY = "name another file (-o)"


def check_free(file: Path, read: Path | None = None) -> None:
    """Check that a recipe can be written there; an older recipe is replaced.

    read: the recipe that is read.

    Raises:
        LearningError: it is no name of a YAML or JSON file, its folder is missing, or another file is there.
        FileExistsError: it is the file that is read.
    """
    if file.suffix not in (".yml", ".yaml", ".json") or file.is_dir():
        raise LearningError(f"{file}: a recipe is a file, and its name ends with .yml, .yaml or .json")
    if not file.absolute().parent.is_dir():
        raise LearningError(f"{file}: there is no folder {file.absolute().parent}; create it first")
    check_not_read(file, [read])
    if file.exists() and file.stat().st_size:
        try:
            MergeRecipe.load(file)
        except MergeError as error:
            raise LearningError(f"{file}: exists already, and is no recipe ({error}); name another file") from None


def write_learned(learned: Learned, file: Path) -> list[Path]:
    """Write what was learned; returns the files, the recipe first. No older file is replaced before all are written.

    Raises:
        DiskFull, NotWritableError: they cannot be written.
    """
    recipe, written = learned.recipe, []
    with clear_disk_errors(file, remedy=_REMEDY), replacing_files(file.absolute().parent) as work:
        if learned.statistics:
            kind = next(iter(next(iter(learned.statistics.values())))).partition(":")[0]
            sources = []
            for source in recipe.sources:
                place = file.with_name(f"{file.stem}-{file_stem(str(source.name))}.{kind}.safetensors")
                (work / place.name).write_bytes(save(dict(learned.statistics[str(source.name)])))
                sources.append(source.model_copy(update={"statistics": place.absolute()}))
                written.append(place)
            recipe = recipe.model_copy(update={"sources": tuple(sources)})
        (work / file.name).write_bytes(_text(recipe, file))
    return [file, *written]


def write_recipe(recipe: MergeRecipe, file: Path) -> None:
    """Write a recipe as YAML, or as JSON to a file that is called so.

    Paths are relative to the file, so that a folder of models can be moved as a whole.

    Raises:
        DiskFull, NotWritableError: it cannot be written.
    """
    with clear_disk_errors(file, remedy=_REMEDY):
        write_bytes(file, _text(recipe, file))


def _text(recipe: MergeRecipe, file: Path) -> bytes:
    value = relative_to(recipe, file.absolute().parent).model_dump(mode="json", exclude_defaults=True)
    if file.suffix == ".json":
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120).encode()
