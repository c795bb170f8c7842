"""Fig. 2: the distance of each checkpoint from its base, and the conflicts between the domains' task vectors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mmgrid.merging.compare import Comparison, Sums, compare
from mmgrid.merging.models.tensors import Tensors
from mmgrid.paradigms import PARADIGMS
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.plot import Axis, Plot

Model = Path | Tensors  # a folder, or opened tensors

_PART = ("part", "tower", "layer")

NORMS_SCHEMA = pl.Schema(
    texts("paradigm", "domain", "phase", *_PART)
    | counts("elements")
    | numbers("l1_sum", "l1_mean", "l2", "zeros")
    | counts("seed")
)
"""One row per checkpoint and part of its task vector τ = Θ(phase) − Θ⁽⁰⁾.

`part` is `whole`, `tower` or `layer`; `tower` and `layer` name it and are empty otherwise. For semid it is also
`tokens`: the domain's own token rows, compared with their initial values; `whole` excludes them.
`l1_sum` = Σ|τ|, `l1_mean` = Σ|τ| / elements, `l2` = √Σ τ², `zeros` is the share (0 to 1) of zero elements.
"""

PAIRS_SCHEMA = pl.Schema(
    texts("paradigm", "phase", "first", "second", *_PART)
    | counts("elements")
    | numbers("cosine", "conflicts")
    | counts("seed")
)
"""One row per pair of domains (in alphabetical order), phase and part. `cosine` is that of their task vectors;
`conflicts` is the share (0 to 1) of elements that are nonzero in both and differ in sign."""

TABLES = {"norms": NORMS_SCHEMA, "pairs": PAIRS_SCHEMA}
PLOTS = (
    Plot(
        name="norms",
        table="norms",
        mark="bar",
        x=Axis("domain", "domain"),
        y=Axis("l1_mean", "mean |τ|"),
        colour=Axis("phase", "phase"),
        panel="tower",
        choices=("part",),
        keep={"part": ("whole", "tower", "tokens")},
        caption="Mean absolute value of the task vectors (L1 norm divided by the number of weights).",
    ),
    Plot(
        name="layers",
        table="norms",
        mark="line",
        x=Axis("layer", "layer"),
        y=Axis("l1_mean", "mean |τ|"),
        colour=Axis("domain", "domain"),
        panel="tower",
        choices=("phase",),
        keep={"part": ("layer",)},
        caption="Mean absolute value of the task vectors in each layer.",
    ),
    Plot(
        name="cosines",
        table="pairs",
        mark="heat",
        x=Axis("first", "domain"),
        y=Axis("second", "domain"),
        colour=Axis("cosine", "cosine"),
        choices=("phase",),
        keep={"part": ("whole",)},
        caption="Cosine between the task vectors of two domains, over all weights.",
    ),
)


def answer(
    checkpoints: Mapping[str, Mapping[str, Model]],
    base: Model,
    *,
    paradigm: str,
    seed: int,
    tokens: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, pl.DataFrame]:
    """The tables of the study.

    Args:
        checkpoints: phase → domain → checkpoint.
        base: Θ⁽⁰⁾.
        tokens: phase → domain → change of its own token rows, [rows, width].

    Raises:
        MergeError: a checkpoint cannot be read, or has nothing in common with the base.
    """
    norms, pairs = [], []
    about = {"paradigm": paradigm, "seed": seed}
    for phase, by_domain in checkpoints.items():
        domains = sorted(by_domain)
        # `compare` reads all models in one pass, and needs two: a single one is compared with itself.
        named = domains if len(domains) > 1 else domains * 2
        folders = [by_domain[domain] for domain in named]
        found = compare(*folders, base=base, names=[f"{place} {domain}" for place, domain in enumerate(named)])
        for part, sums in _parts(found):
            for place, domain in enumerate(domains):
                norms.append(about | {"phase": phase, "domain": domain} | part | _norm(sums, place))
            for one, other in combinations(range(len(domains)), 2):
                pair = sums.pair(one, other)
                row = {"first": domains[one], "second": domains[other], "phase": phase, "elements": sums.elements}
                pairs.append(about | row | part | {"cosine": pair.cosine, "conflicts": pair.conflicts})
    for phase, by_domain in (tokens or {}).items():
        for domain, moved in by_domain.items():
            part = {"part": "tokens", "tower": "", "layer": ""}
            norms.append(about | {"phase": phase, "domain": domain} | part | _norm_of(moved))
    return {"norms": pl.DataFrame(norms, schema=NORMS_SCHEMA), "pairs": pl.DataFrame(pairs, schema=PAIRS_SCHEMA)}


def _parts(found: Comparison) -> Iterator[tuple[dict[str, str], Sums]]:
    yield {"part": "whole", "tower": "", "layer": ""}, found.whole
    for tower, sums in found.towers.items():
        yield {"part": "tower", "tower": tower, "layer": ""}, sums
    for (tower, layer), sums in found.layers.items():
        yield {"part": "layer", "tower": tower, "layer": layer}, sums


def _norm(sums: Sums, place: int) -> dict[str, Any]:
    n = max(sums.elements, 1)
    return {
        "elements": sums.elements,
        "l1_sum": sums.absolutes[place],
        "l1_mean": sums.absolutes[place] / n,
        "l2": sums.products[place][place] ** 0.5,
        "zeros": sums.zeros[place] / n,
    }


def _norm_of(moved: np.ndarray) -> dict[str, Any]:
    wide = np.abs(moved.astype(np.float64))
    return {
        "elements": wide.size,
        "l1_sum": float(wide.sum()),
        "l1_mean": float(wide.mean()),
        "l2": float(np.sqrt(np.square(wide).sum())),
        "zeros": float(np.mean(wide == 0)),
    }


class VectorsSpec(StudySpec):
    """Fig. 2: norms of the task vectors, and their cosines and conflicts."""

    kind: Literal["vectors"]


@dataclass(frozen=True)
class VectorsParts:
    """base: Θ⁽⁰⁾. checkpoints: by phase and domain."""

    base: Any
    checkpoints: Mapping[str, Mapping[str, Any]]


class Vectors(Study):
    """Norms and conflicts of the task vectors."""

    name = "vectors"
    title = "Task vectors"
    source = "Fig. 2"
    spec = VectorsSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.vectors:VIEW"

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return with_base

    def needs(self, spec: VectorsSpec, grid: StudyGrid) -> VectorsParts:
        base = grid.base()
        by_domain = {
            domain: {phase: grid.checkpoint(domain, phase) for phase in grid.phases} for domain in grid.domains
        }
        return VectorsParts(base, {phase: {d: own[phase] for d, own in by_domain.items()} for phase in grid.phases})

    def answer(self, parts: VectorsParts, context: Context) -> dict[str, pl.DataFrame]:
        base: Part = parts.base
        folders = {
            phase: {domain: part.folder for domain, part in by_domain.items()}
            for phase, by_domain in parts.checkpoints.items()
        }
        about: dict[str, Any] = {"paradigm": context.paradigm, "seed": context.seed}
        spec = PARADIGMS[context.paradigm]
        if not spec.own_token_rows:
            return answer(folders, base.folder, **about)
        moved = spec.load().moved_token_rows(folders, base.folder, context.seed)
        with ExitStack() as stack:
            opened = {
                phase: {domain: _without_own_rows(folder, stack) for domain, folder in by_domain.items()}
                for phase, by_domain in folders.items()
            }
            return answer(opened, base.folder, tokens=moved, **about)


def _without_own_rows(folder: Path, stack: ExitStack) -> Tensors:
    """The tensors of a checkpoint without the domain's own token rows."""
    from mmgrid.merging import BlockTable, TensorFolder
    from mmgrid.merging.models.token_blocks import BackboneRows

    table = BlockTable.read(folder)
    assert table is not None  # every checkpoint with its own token rows has a table of blocks
    return BackboneRows(stack.enter_context(TensorFolder(folder)), table)


STUDY = Vectors()
