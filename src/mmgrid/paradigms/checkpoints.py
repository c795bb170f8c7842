"""Loads a checkpoint's folder as a paradigm and a model that recommend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmgrid.files.foreign import foreign
from mmgrid.merging.models.family.member import open_member
from mmgrid.merging.models.family.place import family_of
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.registry import PARADIGMS
from mmgrid.paradigms.spec import ParadigmSpec


def load_checkpoint(
    folder: Path,
    paradigm: str | None = None,
    values: Mapping[str, Any] | None = None,
    domain: str | None = None,
) -> tuple[Paradigm, nn.Module]:
    """The paradigm and the model of a checkpoint folder, or of a domain of a family.

    Args:
        paradigm: use the folder's model in this paradigm; only for paradigms that train nothing, such as `pooled`.
            Default: the paradigm that the folder declares.
        values: of the recipe's `EVALUATION`, instead of the saved ones.
        domain: the domain to recommend for, if a merge keeps parts of several domains; of a family of several domains,
            the one whose checkpoint to load.

    Raises:
        CheckpointError: the folder is no checkpoint, or cannot be loaded.
        MergeError: it is a family without such a domain, or its files are damaged.
    """
    if (place := family_of(folder)) is not None and not place.is_checkpoint(folder):
        with open_member(folder, domain) as member:
            return load_checkpoint(member.checkpoint(), paradigm, values)
    spec, kind = _declared(folder)
    if paradigm is not None and PARADIGMS[paradigm].recipe is None:  # trains nothing
        spec = PARADIGMS[paradigm]
    if spec is None:
        raise CheckpointError(
            f"{folder}: a {kind!r} is no recommender: its config.json declares none of the paradigms "
            f"{', '.join(PARADIGMS)}"
        )
    paradigm_of = spec.load()
    with foreign(folder, CheckpointError, "the checkpoint cannot be loaded"):
        loaded, model = paradigm_of.load(folder, domain=domain)
    if values and loaded.recipe is None:
        fields = spec.recipe.model_fields if spec.recipe else {}
        lost = [name for name, value in values.items() if name not in fields or fields[name].default != value]
        if lost:
            raise CheckpointError(f"{folder}: {loaded.name} sets no `recipe`, so {', '.join(lost)} cannot be given")
        return loaded, model
    if values:
        loaded.recipe = type(loaded.recipe).model_validate(loaded.recipe.model_dump() | dict(values))
    return loaded, model


def declared_spec(folder: Path) -> ParadigmSpec | None:
    """The spec of the paradigm that a checkpoint's config declares; None for another model.

    Raises CheckpointError if the folder is no checkpoint.
    """
    return _declared(folder)[0]


def _declared(folder: Path) -> tuple[ParadigmSpec | None, str | None]:
    """The paradigm that a folder's config declares, under `mmgrid` or by its model type; and the model type."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, kind = config.get("mmgrid", {}).get("paradigm"), config.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder}: no checkpoint: its config.json cannot be read ({error})") from None
    if not isinstance(name, str | None) or not isinstance(kind, str | None):
        raise CheckpointError(f"{folder}: no checkpoint: paradigm and model_type of its config.json must be texts")
    if name is not None:
        if name not in PARADIGMS:
            raise CheckpointError(f"{folder}: {PARADIGMS.unknown(name)}")
        return PARADIGMS[name], kind
    by_type = {spec.model_type: spec for spec in PARADIGMS.working().values() if spec.model_type}
    return by_type.get(kind or ""), kind
