"""Writes the record of a merge, its `mmgrid.json`."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.files import name_of, write_json
from mmgrid.merging.arrays.names import tower_of
from mmgrid.merging.engine.kept_counts import KeptCounts
from mmgrid.merging.models.declaration import MMGRID_FILE, read_declaration
from mmgrid.merging.plan.plan import BASE, Plan
from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource

FORMAT = 2
KEPT = "whole numbers, the same in all sources"


def write_record(
    folder: Path,
    recipe: MergeRecipe,
    digests: Mapping[str, Any],
    plan: Plan,
    counts: KeptCounts,
    *,
    notes: Sequence[str],
    made_from: Mapping[str, Any],
    vocabulary: Mapping[str, Any] | None,
    files: Mapping[str, Any] | None,
) -> None:
    """Write `mmgrid.json`: the recipe with all defaults filled in, digests of sources and files, and the report.

    Args:
        recipe: with paths relative to the parent of the output folder, so that a tree of models can be moved as a whole.
        made_from: name of the source → what it declares about itself; left out if empty.
        vocabulary: rows that were made up or left out, if the recipe chose a vocabulary.
        files: see `own_files`; left out if empty.
    """
    value: dict[str, Any] = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json", exclude_defaults=False),
        "sources": {name: {"files": files} for name, files in sorted(digests.items()) if name != BASE},
        "base": {"files": digests[BASE]} if BASE in digests else None,
        "towers": sorted({tower_of(name) for name in plan.merged}),
        "report": {
            "merged": list(plan.merged),
            "kept": dict.fromkeys(plan.kept, KEPT),
            "dropped": plan.dropped,
            "kept_share": counts.shares(),
            "notes": list(notes),
        },
    }
    if plan.blocks:
        rows = [laid.block.as_json() | {"from": sorted(laid.sources)} for laid in plan.blocks]
        value["blocks"] = {"tensors": list(plan.block_tensors), "rows": rows}
    if vocabulary is not None:
        value["report"]["vocabulary"] = dict(vocabulary)
    if files:
        value["files"] = dict(files)
    if made_from:
        value["made_from"] = dict(made_from)
    write_json(folder / MMGRID_FILE, value, sync=False)  # the folder is, before it is published


def declarations_of(sources: Iterable[MergeSource]) -> dict[str, dict[str, Any]]:
    """Name of the source → its `mmgrid.json` without the key `blocks`, for sources that have one.

    The file of an adapter is that in the adapter's own folder.

    Raises:
        MergeError: such a file is not JSON.
    """
    found = {str(source.name): read_declaration(source.path) for source in sources}
    return {
        name: {key: value for key, value in declared.items() if key != "blocks"}
        for name, declared in sorted(found.items())
        if declared is not None
    }


def own_model_type(folder: Path, made_from: Mapping[str, Any]) -> str:
    """The model type of a merge whose sources belong to a paradigm with an architecture of its own; else empty.

    The config of any other paradigm is that of a common architecture, and declares the paradigm under `mmgrid`.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() and _of_a_paradigm(made_from) else {}
    return "" if "mmgrid" in config else config.get("model_type", "")


def _of_a_paradigm(made_from: Any) -> bool:
    sources = made_from.values() if isinstance(made_from, Mapping) else ()
    return any(
        isinstance(one, Mapping) and ("paradigm" in one or _of_a_paradigm(one.get("made_from"))) for one in sources
    )


def relative_to(recipe: MergeRecipe, folder: Path) -> MergeRecipe:
    """The recipe with paths relative to `folder`; see `relative_path`."""
    return recipe.with_paths(lambda path: relative_path(path, folder))


def relative_path(path: Path, folder: Path) -> Path:
    """A model's path relative to `folder`.

    Models of the Hub have their name and commit instead; paths on another drive of Windows stay absolute.
    """
    name = name_of(path)
    if name is not None:
        return Path(str(name))
    return Path(os.path.relpath(path, folder)) if path.absolute().drive == folder.absolute().drive else path
