"""`base/<paradigm>`: Θ⁽⁰⁾ of a paradigm, the untrained model that all its checkpoints start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.grid.builders.checkpoint import write_facts
from mmgrid.paradigms import PARADIGMS
from mmgrid.seeds import derive


def write_base(
    paradigm: str, recipe: Any, backbone: Path, folder: Path, *, seed: int | None, declared: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Write a paradigm's base. seed: of the grid, where weights are drawn. declared: for its `mmgrid.json`."""
    drawn_by = 0 if seed is None else derive(seed, "base", paradigm)
    model = PARADIGMS[paradigm].load().write_base(recipe, backbone, folder, drawn_by)
    write_facts(folder, {"paradigm": paradigm, "phase": None, "domain": None, **declared})
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
