"""Stages: changes to each task vector before the sources are combined."""

from mmgrid.merging.methods.stages.base import RunThreshold, Scope, Stage, Unit
from mmgrid.merging.methods.stages.draws import Drop, MagnitudeDrop
from mmgrid.merging.methods.stages.layer_scale import LayerScale
from mmgrid.merging.methods.stages.norms import DropToNorm, MagnitudeDropToNorm, OutliersToNorm, Rescale, TrimToNorm
from mmgrid.merging.methods.stages.place import Place
from mmgrid.merging.methods.stages.rank_window import Outliers, Trim

# name in recipes → stage
STAGES: dict[str, type[Stage]] = {
    "drop": Drop,
    "layer_scale": LayerScale,
    "magnitude_drop": MagnitudeDrop,
    "outliers": Outliers,
    "trim": Trim,
}

__all__ = [
    "STAGES",
    "Drop",
    "DropToNorm",
    "LayerScale",
    "MagnitudeDrop",
    "MagnitudeDropToNorm",
    "Outliers",
    "OutliersToNorm",
    "Place",
    "Rescale",
    "RunThreshold",
    "Scope",
    "Stage",
    "Trim",
    "TrimToNorm",
    "Unit",
]
