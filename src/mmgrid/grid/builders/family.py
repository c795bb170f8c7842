"""`family/<paradigm>/<name>`: one shared model, and what each domain (or phase) has beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.families import DomainReport, FamilyReport, build
from mmgrid.files import move_up
from mmgrid.grid.cells.families import AVERAGE, CHAIN, MERGE


def write_family(
    recipe: Mapping[str, Any], folders: Mapping[str, Path], folder: Path, *, final_place: Path
) -> Mapping[str, Any]:
    """Write a family into `folder`.

    Args:
        recipe: of the cell, see `mmgrid.grid.cells.families`.
        folders: role (`source:NAME`, `merge`, `base`) → folder of the model.
        final_place: the final path of the folder, for relative paths.

    Returns:
        The bytes of the shared model, and of each part of each source with its error.
    """
    out = folder / "family"
    report = build(recipe_of_family(recipe, folders), out, place=final_place)
    move_up(out)  # the cell itself is the family's folder
    return _summary(report)


def recipe_of_family(recipe: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """The family as a recipe of `mmgrid merge --family`; arguments as for `write_family`."""
    shared, family = recipe["shared"], dict(recipe["parts"])
    found: dict[str, Any] = {
        "sources": [{"name": name, "path": str(folders[f"source:{name}"])} for name in recipe["sources"]]
    }
    if "base" in folders:
        found["base"] = str(folders["base"])
    if shared == AVERAGE:
        found["method"] = "linear"
    elif shared == MERGE:
        family["shared"] = str(folders[MERGE])
    elif shared == CHAIN:
        family["chain"] = True
    return found | {"family": family}


def _summary(report: FamilyReport) -> dict[str, Any]:
    members = {name: _member(domain) for name, domain in report.domains.items()}
    sizes = {"bytes": report.bytes, "plain_bytes": report.plain_bytes, "shared_bytes": report.shared_bytes}
    return sizes | {"members": members, "notes": list(report.notes)}


def _member(domain: DomainReport) -> dict[str, Any]:
    parts = [part.model_dump(mode="json") for part in domain.parts]
    parameters = sum(part.parameters for part in domain.parts)
    return {"bytes": domain.bytes, "plain_bytes": domain.plain_bytes, "parameters": parameters, "parts": parts}
