"""The room that a cell takes in the store, in bytes."""

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.cells.stored import EXACT
from mmgrid.grid.costs.known import Known, backbone_of, training_of
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.work import WEIGHT_BYTES, defaults, trained_weights

INTERACTION_BYTES = 12.0  # in a prepared domain, compressed
USER_BYTES = 24.0  # of an evaluation
ITEM_BYTES = 24.0  # of an item's codes
STUDY_BYTES = 100_000.0
TOKENIZER_BYTES = 15e6  # beside a model's weights


def disk_of(cell: Cell, known: Known) -> float | None:
    """About how many bytes a cell will take; None if it is unknown. A temporary cell takes none in the end."""
    if cell.temporary:
        return 0.0
    if cell.kind == "study":
        return STUDY_BYTES
    if cell.kind in ("backbone", "base", "checkpoint", "merge", "family"):
        return _of_model(cell, known)
    counts = known.counts(cell if cell.kind == "corpus" else cell.upstream.get("corpus", cell))
    if not counts:
        return None
    if cell.kind == "corpus":
        texts = counts[0].items * counts[0].text_tokens * 2.0  # characters compress to half a token each
        return sum(counts[0].interactions.values()) * INTERACTION_BYTES + texts
    if cell.kind == "vectors":
        shape = known.embedder(cell)
        return None if shape is None else counts[0].items * shape.hidden * WEIGHT_BYTES
    if cell.kind == "codes":
        return counts[0].items * ITEM_BYTES
    return counts[0].test_users * USER_BYTES


def _of_model(cell: Cell, known: Known) -> float | None:
    backbone = cell if cell.kind == "backbone" else backbone_of(cell)
    shape = known.shape(backbone) if backbone else None
    name = str(cell.recipe.get("paradigm", ""))
    if not name or name == BASELINE:
        return None if shape is None else shape.weights * _bytes_of_backbone(cell) + TOKENIZER_BYTES
    trained, spec = training_of(cell), PARADIGMS[name]
    corpus = trained.upstream["corpus"] if trained else None
    counts = known.counts(corpus) if corpus else []
    if spec.from_backbone and shape is None:
        return None
    if not spec.from_backbone and not counts:
        return None
    values = defaults(spec.recipe, trained.recipe if trained else {})
    weights = spec.weights(values, counts[0], shape) if counts else float(shape.weights if shape else 0)
    if EXACT in cell.upstream:
        return weights * cell.recipe["part"]["bits"] / 8 + TOKENIZER_BYTES
    if cell.kind == "checkpoint" and values.lora is not None:
        return trained_weights(values, weights, shape) * WEIGHT_BYTES + TOKENIZER_BYTES
    return weights * WEIGHT_BYTES + (TOKENIZER_BYTES if spec.from_backbone else 0.0)


def _bytes_of_backbone(cell: Cell) -> float:
    """Of a weight: a pretrained model is copied as it is, mostly in bf16."""
    return WEIGHT_BYTES if "hidden_size" in cell.recipe else 2.0
