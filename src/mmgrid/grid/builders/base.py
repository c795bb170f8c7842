"""`base/<paradigm>`: Θ⁽⁰⁾ of a paradigm, the untrained model from which all its checkpoints start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.grid.builders.checkpoint import write_facts
from mmgrid.paradigms import PARADIGMS
from mmgrid.seeds import derive


def write_base(
    paradigm: str, recipe: Any, backbone: Path, folder: Path, *, seed: int | None, declared: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Write the base of a paradigm.

    seed: the seed of the grid if weights are drawn at random. declared: facts for its `mmgrid.json`.
    """
    drawn_by = 0 if seed is None else derive(seed, "base", paradigm)
    model = PARADIGMS[paradigm].load().write_base(recipe, backbone, folder, drawn_by)
    write_facts(folder, {"paradigm": paradigm, "phase": None, "domain": None, **declared})
    return {"parameters": sum(weight.numel() for weight in model.parameters())}
