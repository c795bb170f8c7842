"""Stages: what is done to each task vector before the sources are combined."""

from mmgrid.merging.methods.stages.base import Cut, Place, Scope, Stage, Unit
from mmgrid.merging.methods.stages.draws import Drop, MagnitudeDrop
from mmgrid.merging.methods.stages.layer_scale import LayerScale
from mmgrid.merging.methods.stages.rank_window import Outliers, Trim

# What recipes call them.
STAGES: dict[str, type[Stage]] = {
    "drop": Drop,
    "layer_scale": LayerScale,
    "magnitude_drop": MagnitudeDrop,
    "outliers": Outliers,
    "trim": Trim,
}

__all__ = [
    "STAGES",
    "Cut",
    "Drop",
    "LayerScale",
    "MagnitudeDrop",
    "Outliers",
    "Place",
    "Scope",
    "Stage",
    "Trim",
    "Unit",
]
