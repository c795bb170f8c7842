"""Which values of a cell's recipe are defaults of this version, because the grid file does not set them."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.spec import GridSpec
from mmgrid.grid.file.toml_value import toml_value
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.recipe import PER_PHASE

ABSENT = "(absent)"


def pin_of(cell: Cell, name: str, before: Any, spec: GridSpec) -> str | None:
    """The line of a grid file that gives a value of a cell's recipe its old value again; None if the grid sets it.

    Args:
        name: of a value at the top of the cell's recipe.
        before: its old value, or `ABSENT` if the cell was built before the value existed.
    """
    section, model, given = _section(cell, spec)
    field = model.model_fields.get(name) if model else None
    phase = cell.recipe.get("phase") if name in PER_PHASE else None
    if field is None or (name in given and (not isinstance(given, Mapping) or phase in (None, *_phases(given[name])))):
        return None
    if before == ABSENT:
        extra = field.json_schema_extra
        before = extra.get("absent_means") if isinstance(extra, dict) else None
        before = before.get(phase) if phase and isinstance(before, dict) else before
    if before is None:
        return None
    return f"{section}.{name}{f'.{phase}' if phase else ''} = {toml_value(before)}"


def _section(cell: Cell, spec: GridSpec) -> tuple[str, type[BaseModel] | None, Collection[str]]:
    """The part of the grid file that a cell's values come from, its type, and the keys that it sets."""
    paradigm = cell.recipe.get("paradigm")
    if cell.kind == "backbone" and spec.backbone is not None:
        return "backbone", type(spec.backbone), spec.backbone.model_fields_set
    if paradigm in spec.paradigms:
        given: dict[str, Any] = dict(spec.paradigms[paradigm])
        if "history_length" in spec.evaluation.model_fields_set:
            given.setdefault("history_length", spec.evaluation.history_length)
        return f"paradigms.{paradigm}", PARADIGMS[paradigm].recipe, given
    return "", None, ()


def _phases(given: Any) -> Collection[Any]:
    """The phases for which a value is given; a single number is for all."""
    return given.keys() if isinstance(given, Mapping) else ("pretrain", "phase1", "phase2", "all")
