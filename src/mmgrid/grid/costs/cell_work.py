"""What building a cell computes."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.computing import computes
from mmgrid.grid.cells.evaluations import BASELINE
from mmgrid.grid.costs.known import Known, backbone_of, training_of
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.work import WEIGHT_BYTES, Work, defaults, training

SECONDS_PER_BASELINE_USER = 5e-5
LINE_FACTOR = 0.5  # for a point on a line, since all points share what is read and merged
DISK_BYTES = 1.5e9  # of a model read a second
FIXED = {
    "corpus": 1.0,
    "backbone": 3.0,
    "base": 2.0,
    "vectors": 0.3,
    "codes": 0.5,
    "checkpoint": 2.0,
    "merge": 1.0,
    "family": 2.0,
    "learned": 60.0,
    "evaluation": 0.3,
    "study": 1.5,
}
"""Seconds of each kind of cell beside its work."""
FIXED_ON_A_LINE = 0.1  # of a point, which loads no model
CORPUS_SECONDS = 2e-6  # to prepare an interaction
CODES_SECONDS = 2e-3  # to find an item's codes
RQVAE_FLOPS = 6 * 2 * 5e6  # a training step of the quantiser, per item


def fixed_seconds(cell: Cell) -> float:
    """Seconds of a cell beside its work."""
    return FIXED_ON_A_LINE if "line" in cell.recipe else FIXED[cell.kind]


def work_of(cell: Cell, known: Known) -> Work | None:
    """The work of a cell, beside what every cell of its kind takes; None if it is unknown."""
    if cell in known.works:
        return known.works[cell]
    found = _work_of(cell, known)
    corpus = cell.upstream.get("corpus")
    if found is not None and (corpus is None or known.is_sure(corpus)):
        known.works[cell] = found
    return found


def _work_of(cell: Cell, known: Known) -> Work | None:
    if cell.kind == "backbone":
        return _of_backbone(cell, known)
    if cell.kind in ("base", "merge", "family"):
        return _of_copies(cell, known)
    if cell.kind == "checkpoint" and not computes(cell):
        return _of_copies(cell, known)
    corpus = cell if cell.kind == "corpus" else cell.upstream.get("corpus")
    if corpus is None or cell.kind not in ("corpus", "vectors", "codes", "checkpoint", "evaluation"):
        return Work()
    found = known.counts(corpus)
    if cell.kind in ("corpus", "codes") or (cell.kind == "vectors" and not computes(cell)):
        return _mean([_of_data(cell, counts) for counts in found]) if found else Work()
    works = [_of_model(cell, counts, known) for counts in found]
    return _mean([work for work in works if work is not None]) if works and None not in works else None


def _of_backbone(cell: Cell, known: Known) -> Work:
    recipe, shape = cell.recipe, known.shape(cell)
    if "steps" not in recipe or shape is None:
        return Work(bytes=0.0, seconds=0.0 if shape is None else 2 * shape.weights * WEIGHT_BYTES / DISK_BYTES)
    values = defaults(None, {**recipe, "epochs": 1.0, "batch_size": recipe["batch_rows"], "accumulation": 1})
    tokens = recipe["row_tokens"]
    return training(
        values,
        examples=recipe["steps"] * recipe["batch_rows"],
        flops=shape.forward(tokens, tokens) + shape.head(tokens),
        layers=shape.layers,
        weights=shape.weights,
    )


def _of_copies(cell: Cell, known: Known) -> Work:
    """Reading models and writing one."""
    backbone = backbone_of(cell)
    shape = known.shape(backbone) if backbone else None
    models = 1 + sum(above.kind in ("backbone", "base", "checkpoint", "merge") for above in cell.upstream.values())
    return Work() if shape is None else Work(seconds=models * shape.weights * WEIGHT_BYTES / DISK_BYTES)


def _of_data(cell: Cell, counts: Counts) -> Work:
    if cell.kind == "corpus":
        return Work(seconds=sum(counts.interactions.values()) * CORPUS_SECONDS)
    quantiser = cell.recipe.get("quantiser", {})
    if quantiser.get("kind") == "rqvae":
        return Work(flops=quantiser["steps"] * quantiser["batch_size"] * RQVAE_FLOPS)
    return Work(seconds=counts.items * CODES_SECONDS) if cell.kind == "codes" else Work()


def _of_model(cell: Cell, counts: Counts, known: Known) -> Work | None:
    if cell.kind == "vectors":
        return _of_vectors(cell, counts, known)
    recipe = cell.recipe
    if recipe["paradigm"] == BASELINE:
        return Work(seconds=_users(recipe, counts) * SECONDS_PER_BASELINE_USER)
    spec, trained, backbone = PARADIGMS[recipe["paradigm"]], training_of(cell), backbone_of(cell)
    shape = known.shape(backbone) if backbone and spec.from_backbone else None
    if spec.from_backbone and shape is None:
        return None
    values = defaults(spec.recipe, trained.recipe if trained else {})
    if cell.kind == "checkpoint":
        return spec.training_work(values, recipe["phase"], counts, shape, known.recomputed)
    vars(values).update(recipe.get("asked", {}))
    titles = cell.upstream.get("asks:titles")
    embedder = known.embedder(titles) if titles else None
    work = spec.evaluation_work(values, _users(recipe, counts), counts, shape, embedder)
    models = sum(above.kind in ("checkpoint", "merge", "base", "backbone") for above in cell.upstream.values())
    read = models * spec.weights(values, counts, shape) * WEIGHT_BYTES / DISK_BYTES
    factor = LINE_FACTOR if "line" in recipe else 1.0
    read = 0.0 if "line" in recipe else read
    return replace(
        work,
        flops=work.flops * factor,
        calls=work.calls * factor,
        seconds=work.seconds * factor + read,
        precision=getattr(values, "evaluation_precision", "float32"),
    )


def _of_vectors(cell: Cell, counts: Counts, known: Known) -> Work | None:
    shape = known.embedder(cell)
    if shape is None:
        return None
    tokens = counts.title_tokens if cell.recipe.get("texts") == "titles" else min(counts.text_tokens, 512.0)
    return Work(
        flops=shape.forward(counts.items * tokens, tokens),
        precision="bf16" if cell.recipe.get("dtype") == "bfloat16" else "float32",
        seconds=counts.items * 2e-4 + shape.weights * WEIGHT_BYTES / DISK_BYTES,
    )


def _users(recipe: Any, counts: Counts) -> float:
    return float(min(counts.test_users, recipe["max_users"] or counts.test_users))


def _mean(works: list[Work]) -> Work:
    if len(works) == 1:
        return works[0]
    total = reduce(
        lambda one, other: replace(
            one,
            flops=one.flops + other.flops,
            bytes=one.bytes + other.bytes,
            calls=one.calls + other.calls,
            seconds=one.seconds + other.seconds,
        ),
        works,
    )
    n = len(works)
    return replace(
        total, flops=total.flops / n, bytes=total.bytes / n, calls=total.calls / n, seconds=total.seconds / n
    )
