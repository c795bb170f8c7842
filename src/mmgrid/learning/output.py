"""Writes what was learned: an ordinary recipe, and beside it a file of statistics for each source."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from safetensors.torch import save

from mmgrid.files import clear_disk_errors, file_stem, write_bytes
from mmgrid.learning.errors import LearningError
from mmgrid.learning.learned import Learned
from mmgrid.merging.output.record import relative_to
from mmgrid.merging.plan.recipe import MergeRecipe


def check_free(file: Path) -> None:
    """Check that a recipe can be written there; an older recipe is replaced.

    Raises:
        LearningError: it is no name of a YAML or JSON file, or its folder is missing.
    """
    if file.suffix not in (".yml", ".yaml", ".json") or file.is_dir():
        raise LearningError(f"{file}: a recipe is a file, and its name ends with .yml, .yaml or .json")
    if not file.absolute().parent.is_dir():
        raise LearningError(f"{file}: there is no folder {file.absolute().parent}; create it first")


def write_learned(learned: Learned, file: Path) -> list[Path]:
    """Write what was learned; returns the files, the recipe first."""
    recipe, written = learned.recipe, []
    if learned.statistics:
        kind = next(iter(next(iter(learned.statistics.values())))).partition(":")[0]
        sources = []
        for source in recipe.sources:
            place = file.with_name(f"{file.stem}-{file_stem(str(source.name))}.{kind}.safetensors")
            with clear_disk_errors(place, remedy="name another file (-o)"):
                write_bytes(place, save(dict(learned.statistics[str(source.name)])))
            sources.append(source.model_copy(update={"statistics": place.absolute()}))
            written.append(place)
        recipe = recipe.model_copy(update={"sources": tuple(sources)})
    write_recipe(recipe, file)
    return [file, *written]


def write_recipe(recipe: MergeRecipe, file: Path) -> None:
    """Write a recipe as YAML, or as JSON to a file that is called so.

    Paths are relative to the file, so that a folder of models can be moved as a whole.
    """
    value = relative_to(recipe, file.absolute().parent).model_dump(mode="json", exclude_defaults=True)
    if file.suffix == ".json":
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    with clear_disk_errors(file, remedy="name another file (-o)"):
        write_bytes(file, text.encode())
