"""Fig. 2: the distance of each checkpoint from its base, and the conflicts between the domains' task vectors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from mmgrid.paradigms import PARADIGMS
from mmgrid.studies.columns import counts, numbers, texts
from mmgrid.studies.contract import Context, Part, Study, StudyGrid, StudySpec
from mmgrid.studies.opened_models import Model, opened_models
from mmgrid.studies.paper_order import PAPER_ORDER, below
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.statistics.findings import FINDINGS_SCHEMA, Verdict

if TYPE_CHECKING:
    from mmgrid.merging.compare import Comparison, Sums

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

TABLES = {"norms": NORMS_SCHEMA, "pairs": PAIRS_SCHEMA, "findings": FINDINGS_SCHEMA}
PLOTS = (
    Plot(
        name="norms",
        table="norms",
        mark="bar",
        x=Axis("domain", "domain"),
        y=Axis("l1_mean", "mean |τ| of the weights"),
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
        y=Axis("l1_mean", "mean |τ| of the weights"),
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
        colour=Axis("cosine", "cosine of the task vectors"),
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
    lower: Mapping[str, float] | None = None,
) -> dict[str, pl.DataFrame]:
    """The tables of the study.

    Args:
        checkpoints: phase → domain → checkpoint.
        base: Θ⁽⁰⁾.
        tokens: phase → domain → change of its own token rows, [rows, width].
        lower: domain → mean |τ| of the newest checkpoint of the next paradigm below in the paper's order.

    Raises:
        MergeError: a checkpoint cannot be read, or has nothing in common with the base.
    """
    from mmgrid.merging.compare import compare

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
    findings = [about | row for row in (_order(norms, lower or {}), _in_pretraining(norms)) if row]
    return {
        "norms": pl.DataFrame(norms, schema=NORMS_SCHEMA),
        "pairs": pl.DataFrame(pairs, schema=PAIRS_SCHEMA),
        "findings": pl.DataFrame(findings, schema=FINDINGS_SCHEMA),
    }


def _whole(norms: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """By phase, oldest first: domain → mean |τ| of the whole model."""
    found: dict[str, dict[str, float]] = {}
    for row in norms:
        if row["part"] == "whole":
            found.setdefault(row["phase"], {})[row["domain"]] = row["l1_mean"]
    return list(found.values())


def _in_all(holds: Sequence[bool]) -> Verdict:
    """Norms are exact, so there is no interval: a claim must hold in every domain, or in none, and in at least two."""
    if len(holds) < 2:
        return "undecided"
    return "reproduced" if all(holds) else "undecided" if any(holds) else "not reproduced"


def _order(norms: Sequence[Mapping[str, Any]], lower: Mapping[str, float]) -> dict[str, Any] | None:
    """Section 4.2: the hierarchy of norms."""
    newest = _whole(norms)[-1] if norms else {}
    holds = [newest[domain] > norm for domain, norm in lower.items() if domain in newest]
    if not holds:
        return None
    return {
        "finding": "order of norms",
        "claim": f"Task vectors grow from paradigm to paradigm: {', '.join(PAPER_ORDER)} (section 4.2).",
        "statistic": "domains in which the mean |τ| at t2 exceeds that of the next paradigm below",
        "value": float(sum(holds)),
        "n": len(holds),
        "verdict": _in_all(holds),
    }


def _in_pretraining(norms: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Section 4.2: most of the shift happens in the first phase."""
    phases = _whole(norms)
    if len(phases) < 2:
        return None
    first, newest = phases[0], phases[-1]
    shares = [first[domain] / newest[domain] for domain in newest if newest[domain] and domain in first]
    if not shares:
        return None
    return {
        "finding": "shift in pre-training",
        "claim": "Most of the shift from the backbone happens in pre-training (section 4.2).",
        "statistic": "mean |τ| after the first phase, as a share of that at t2, mean over domains",
        "value": float(np.mean(shares)),
        "n": len(shares),
        "verdict": _in_all([share > 0.5 for share in shares]),
    }


def _parts(found: "Comparison") -> "Iterator[tuple[dict[str, str], Sums]]":
    yield {"part": "whole", "tower": "", "layer": ""}, found.whole
    for tower, sums in found.towers.items():
        yield {"part": "tower", "tower": tower, "layer": ""}, sums
    for (tower, layer), sums in found.layers.items():
        yield {"part": "layer", "tower": tower, "layer": layer}, sums


def _norm(sums: "Sums", place: int) -> dict[str, Any]:
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
    """base: Θ⁽⁰⁾. checkpoints: by phase and domain.

    below, below_base, below_checkpoints: the next paradigm below in the paper's order, its Θ⁽⁰⁾, and its checkpoints of
        the newest phase by domain; empty if the grid has none.
    """

    base: Any
    checkpoints: Mapping[str, Mapping[str, Any]]
    below: str = ""
    below_base: Any = None
    below_checkpoints: Mapping[str, Any] = field(default_factory=dict)


class Vectors(Study):
    """Norms and conflicts of the task vectors."""

    name = "vectors"
    title = "Task vectors"
    source = "Fig. 2"
    spec = VectorsSpec
    tables = TABLES
    plots = PLOTS
    view = "mmgrid.reporting.studies.vectors:VIEW"
    version = 2  # the claims of section 4.2

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        return with_base

    def needs(self, spec: VectorsSpec, grid: StudyGrid) -> VectorsParts:
        base = grid.base()
        by_domain = {
            domain: {phase: grid.checkpoint(domain, phase) for phase in grid.phases} for domain in grid.domains
        }
        parts = VectorsParts(base, {phase: {d: own[phase] for d, own in by_domain.items()} for phase in grid.phases})
        # With its base, without which there is no task vector.
        lower = below(spec, grid, lambda of, domain: (of.base(), of.checkpoint(domain, of.phases[-1])))
        if lower is None:
            return parts
        name, other, found = lower
        checkpoints = {domain: checkpoint for domain, (_, checkpoint) in found.items()}
        return replace(parts, below=name, below_base=other.base(), below_checkpoints=checkpoints)

    def answer(self, parts: VectorsParts, context: Context) -> dict[str, pl.DataFrame]:
        base: Part = parts.base
        folders = {
            phase: {domain: part.folder for domain, part in by_domain.items()}
            for phase, by_domain in parts.checkpoints.items()
        }
        about: dict[str, Any] = {"paradigm": context.paradigm, "seed": context.seed}
        spec = PARADIGMS[context.paradigm]
        with ExitStack() as stack:
            about["lower"] = _lower_norms(parts, stack)
            if spec.own_token_rows:
                about["tokens"] = spec.load().moved_token_rows(folders, base.folder, context.seed)
            opened = {phase: opened_models(by_domain, context.paradigm, stack) for phase, by_domain in folders.items()}
            return answer(opened, base.folder, **about)


def _lower_norms(parts: VectorsParts, stack: ExitStack) -> dict[str, float]:
    """Domain → mean |τ| of the newest checkpoint of the paradigm below."""
    if not parts.below:
        return {}
    folders = {domain: part.folder for domain, part in parts.below_checkpoints.items()}
    found = answer(
        {"newest": opened_models(folders, parts.below, stack)}, parts.below_base.folder, paradigm=parts.below, seed=0
    )
    whole = found["norms"].filter(pl.col("part") == "whole")
    return dict(whole.select("domain", "l1_mean").iter_rows())


STUDY = Vectors()
