"""The memory that training or asking a cell's model takes on its device, in bytes; of several processes, on that of each."""

from dataclasses import dataclass
from typing import Any

from mmgrid.backbone.shape import Shape
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.costs.known import Known, backbone_of, training_of
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.work import WEIGHT_BYTES, defaults, trained_weights

_MOMENTS = 2  # of a weight that AdamW keeps
CONTEXT = 0.6e9  # of a process on a GPU, and what its allocator cannot use


@dataclass(frozen=True)
class Memory:
    """Bytes of one cell. Zero for what an evaluation does without."""

    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0

    @property
    def total(self) -> float:
        """All of it, with what a process takes."""
        return self.weights + self.gradients + self.optimizer + self.activations + CONTEXT


def memory_of(cell: Cell, known: Known) -> Memory | None:
    """The memory of a cell that trains or asks a model of the grid; None for other cells, or if it is unknown."""
    if cell.kind not in ("checkpoint", "evaluation") or not computes(cell) or cell.recipe["paradigm"] == BASELINE:
        return None
    counts, trained, backbone = known.counts(cell.upstream["corpus"]), training_of(cell), backbone_of(cell)
    spec = PARADIGMS[cell.recipe["paradigm"]]
    shape = known.shape(backbone) if backbone and spec.from_backbone else None
    if not counts or trained is None or (spec.from_backbone and shape is None):
        return None
    values = defaults(spec.recipe, trained.recipe)
    weights = spec.weights(values, counts[0], shape)
    if cell.kind == "evaluation":
        return Memory(weights * WEIGHT_BYTES)
    from mmgrid.paradigms.shared.batch_bytes import peak_bytes

    updated = trained_weights(values, weights, shape)
    width = 2.0 if values.precision == "bf16-weights" else WEIGHT_BYTES
    moments = _MOMENTS * (1.0 if values.optimizer == "adamw_8bit" else width)
    batch: Any = spec.batch(values, cell.recipe["phase"], counts[0], shape).share(trained.processes)
    activations = peak_bytes(batch, shape, values.precision, recomputed=known.recomputed)
    held, passing = (1 / trained.processes, _together(weights, shape)) if trained.sharded else (1.0, 0.0)
    return Memory(
        (weights * held + passing) * width,
        (updated * held + passing * updated / weights) * width,
        updated * held * moments,
        activations,
    )


def _together(weights: float, shape: Shape | None) -> float:
    """Weights that a process of a sharded training holds whole for a time: those of a layer, and those beside all."""
    return weights if shape is None else weights - (shape.layers - 1) * shape.layer_weights
