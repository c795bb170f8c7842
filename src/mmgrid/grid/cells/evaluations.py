"""Evaluation cells: of a checkpoint, a merge, or a point on a line between models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.sources import Sources
from mmgrid.grid.file.spec import GridSpec
from mmgrid.paradigms import PARADIGMS

BASELINE = "baseline"  # takes the place of a paradigm
BASELINES = ("popularity", "random")


@dataclass(frozen=True)
class Model:
    """A model to evaluate.

    Attributes:
        paradigm: the paradigm of the model, or `BASELINE`.
        name: its name in results.
        upstream: role → cell that it is made from.
        recipe: how it is made, if not by loading the role `model`.
        family: of the points of a sweep, see `Cell`.
    """

    paradigm: str
    name: str
    upstream: Mapping[str, Cell] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""


def evaluation(sources: Sources, model: Model, domain: str, max_users: int | None = None) -> Cell:
    """The evaluation of a model on a domain. max_users: a smaller sample than that of the grid, for a study."""
    spec, paradigm = sources.spec, PARADIGMS[model.paradigm] if model.paradigm != BASELINE else None
    grid_users = evaluated_users(spec, model.paradigm)
    fewer = max_users is not None and max_users < (grid_users or math.inf)
    max_users = max_users if fewer else grid_users
    recipe: dict[str, Any] = {
        "paradigm": model.paradigm,
        "domain": domain,
        "model": model.name,
        "target": spec.evaluation.target,
        "max_users": max_users,
        "catalogue": spec.data.catalogue,
        "seed": sources.seed,
        "threads": spec.threads_per_cell,
        **model.recipe,
    }
    if max_users is not None:
        recipe["sample_seed"] = spec.all_seeds[0]  # as for the corpus, all seeds use the same sample
    if values := sources.asked.get(model.paradigm):
        recipe["asked"] = values
    suffix = (f"users={max_users}", *sources.suffix) if fewer else sources.suffix
    upstream = {"corpus": sources.corpora[domain], **model.upstream}
    if paradigm:
        upstream |= sources.needs(paradigm.evaluation_needs, domain, "asks:")
    return Cell(
        "evaluation",
        (model.paradigm, domain, model.name, *suffix),
        recipe,
        upstream,
        model.family,
        version=paradigm.versions.get("evaluation", 0) if paradigm else 0,
    )


def evaluated_users(spec: GridSpec, paradigm: str) -> int | None:
    """The maximum number of test users for a paradigm; None for all."""
    most = spec.evaluation.most_users(paradigm)
    if most is None and spec.compat == "official" and paradigm in PARADIGMS:
        return PARADIGMS[paradigm].official_users
    return most
