"""`study/<name>/<paradigm>`: a study's tables, put together from the evaluations that it stands on.

Nothing is computed here that an evaluation has computed; only `advise` asks its models for one λ more a domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmgrid.data import Corpus, NoTestUsersError, test_set
from mmgrid.data.statistics import mean_gap_days
from mmgrid.grid.builders.evaluation import RANKS_FILE, ROWS_FILE, ranks_table
from mmgrid.grid.builders.job import Job
from mmgrid.grid.builders.scene import scene_of
from mmgrid.grid.builders.vectors import VECTORS_FILE
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.expansion import TRAINED
from mmgrid.grid.file.spec import Target
from mmgrid.merging import BlockTable, TensorFolder
from mmgrid.merging.models.token_blocks import BackboneRows
from mmgrid.studies import advise, base_model, baselines, cross_domain, recency, temporal, vectors
from mmgrid.studies.statistics.ranked import Ranked
from mmgrid.studies.sweep import Sweep

Tables = dict[str, pl.DataFrame]


def build(job: Job) -> Mapping[str, Any]:
    tables = ANSWERS[job.recipe["study"]](_Parts(job))
    for name, table in tables.items():
        table.write_parquet(job.folder / f"{name}.parquet")
    return {"tables": {name: table.height for name, table in tables.items()}, "work": len(job.cell.upstream)}


class _Parts:
    """What a study's cell is built from, by what it is."""

    def __init__(self, job: Job):
        self.job = job
        self.cells = tuple(job.cell.upstream.values())
        self.paradigm: str = job.recipe["paradigm"]
        self.seed: int = job.recipe["seed"]
        self.target: Target = job.grid.spec.evaluation.target

    def of(self, kind: str) -> Iterator[Cell]:
        return (cell for cell in self.cells if cell.kind == kind)

    def folder(self, cell: Cell) -> Path:
        return self.job.store.folder(cell.address)

    def ranks(self, cell: Cell) -> pl.DataFrame:
        return pl.read_parquet(self.folder(cell) / RANKS_FILE)

    def corpora(self) -> dict[str, Cell]:
        return {cell.recipe["domain"]: cell for cell in self.of("corpus")}

    def evaluations(self, **recipe: Any) -> Iterator[Cell]:
        """The evaluations whose recipe has these values."""
        for cell in self.of("evaluation"):
            if all(cell.recipe.get(name) == value for name, value in recipe.items()):
                yield cell

    def singles(self) -> dict[str, Cell]:
        """Each domain's evaluation of the paradigm's newest checkpoint, or of the only one there is."""
        found = [cell for cell in self.evaluations(paradigm=self.paradigm) if "model" in cell.upstream]
        return {cell.recipe["domain"]: cell for cell in found if "merge" not in cell.recipe}

    def points(self, kind: str) -> Iterator[Cell]:
        return (cell for cell in self.of("evaluation") if cell.recipe.get("line", {}).get("kind") == kind)

    def interactions(self) -> dict[str, int]:
        """Each domain's training interactions, of the phases that the newest checkpoints have seen."""
        phases = TRAINED[self.target]
        known: dict[str, Any] = {
            domain: self.job.store.record(cell.address).summary["statistics"] for domain, cell in self.corpora().items()
        }
        return {domain: sum(found["interactions"][phase] for phase in phases) for domain, found in known.items()}

    def statistics(self) -> dict[str, dict[str, Any]]:
        """What the recency and advise studies know of each domain; nothing that the newest checkpoint could not.

        test_users, active, non_active, active_ratio, gap_days; active_ratio_before: as it was one phase earlier.
        """
        return {domain: self._known(self.folder(cell)) for domain, cell in self.corpora().items()}

    def _known(self, folder: Path) -> dict[str, Any]:
        calendar, target = self.job.calendar, self.target
        end = calendar.t2 if target == "phase2" else calendar.test.end
        corpus = Corpus.load(folder, until=end)
        active = test_set(corpus, calendar, target).active
        return {
            "test_users": len(active),
            "active": int(active.sum()),
            "non_active": int((~active).sum()),
            "active_ratio": float(active.mean()),
            "gap_days": mean_gap_days(corpus.before(calendar.t1 if target == "phase2" else calendar.t2)),
            "active_ratio_before": self._active_before(corpus),
        }

    def _active_before(self, corpus: Corpus) -> float | None:
        if self.target == "phase2":  # phase1 is the first phase whose users can be told apart
            return None
        try:
            calendar = self.job.calendar
            return float(test_set(corpus.before(calendar.t2), calendar, "phase2").active.mean())
        except NoTestUsersError:
            return None

    def sweeps(self) -> list[Sweep]:
        """Each domain's temporal sweep; the checkpoints at both ends are its points 0 and 1."""
        points: dict[str, dict[float, Cell]] = {}
        ends: dict[str, Mapping[str, Cell]] = {}
        for cell in self.points("temporal"):
            points.setdefault(cell.recipe["domain"], {})[float(cell.recipe["line"]["at"])] = cell
            ends[cell.recipe["domain"]] = cell.upstream
        for cell in self.evaluations(paradigm=self.paradigm):
            domain, model = cell.recipe["domain"], cell.upstream.get("model")
            if model is not None and domain in ends:
                place = {ends[domain]["start"]: 0.0, ends[domain]["end"]: 1.0}.get(model)
                if place is not None:
                    points[domain][place] = cell
        return [
            Sweep.of(self.paradigm, domain, self.seed, {scale: self.ranks(cell) for scale, cell in found.items()})
            for domain, found in points.items()
        ]


def _baselines(parts: _Parts) -> Tables:
    compared, rows = [], []
    newest = {
        cell.recipe["domain"]: cell
        for cell in parts.evaluations(paradigm=parts.paradigm)
        if cell.recipe["model"] != "all"
    }
    for domain, own in newest.items():
        frames = {parts.paradigm: parts.ranks(own)}
        for cell in parts.evaluations(domain=domain):
            if cell != own:
                frames[_reference(cell)] = parts.ranks(cell)
        compared.append(baselines.Compared(parts.paradigm, parts.seed, domain, parts.paradigm, Ranked.of(frames)))
        rows += [pl.read_parquet(parts.folder(cell) / ROWS_FILE) for cell in parts.evaluations(domain=domain)]
    scores = pl.concat([baselines.SCORES_SCHEMA.to_frame(), *rows])
    return baselines.answer(compared, scores)


def _reference(cell: Cell) -> str:
    paradigm, model = cell.recipe["paradigm"], cell.recipe["model"]
    if paradigm == "baseline":
        return model
    return f"{paradigm} (in one go)" if model == "all" else paradigm


def _vectors(parts: _Parts) -> Tables:
    checkpoints: dict[str, dict[str, Path]] = {}
    for cell in parts.of("checkpoint"):
        checkpoints.setdefault(cell.recipe["phase"], {})[cell.key[1]] = parts.folder(cell)
    base = parts.folder(next(parts.of("base")))
    about: dict[str, Any] = {"paradigm": parts.paradigm, "seed": parts.seed}
    if parts.paradigm != "semid":
        return vectors.answer(checkpoints, base, **about)
    from mmgrid.paradigms.semid.moved_rows import moved_rows

    with ExitStack() as stack:
        opened = {
            phase: {domain: _backbone_rows(folder, stack) for domain, folder in by_domain.items()}
            for phase, by_domain in checkpoints.items()
        }
        return vectors.answer(opened, base, tokens=moved_rows(checkpoints, base, parts.seed), **about)


def _backbone_rows(folder: Path, stack: ExitStack) -> BackboneRows:
    table = BlockTable.read(folder)
    assert table is not None  # a checkpoint of semid names its blocks
    return BackboneRows(stack.enter_context(TensorFolder(folder)), table)


def _cross_domain(parts: _Parts) -> Tables:
    singles = parts.singles()
    pairs = []
    for cell in parts.evaluations(paradigm=parts.paradigm):
        if "merge" not in cell.recipe:
            continue
        domain, merge = cell.recipe["domain"], cell.recipe["merge"]
        frames = {cross_domain.SINGLE: parts.ranks(singles[domain]), cross_domain.MERGED: parts.ranks(cell)}
        pairs.append(
            cross_domain.Pair(
                parts.paradigm,
                parts.seed,
                "weight" if merge["method"] == "linear" else "subspace",
                domain,
                next(source for source in merge["weights"] if source != domain),
                Ranked.of(frames),
            )
        )
    centres = {cell.key[0]: np.load(parts.folder(cell) / VECTORS_FILE).mean(axis=0) for cell in parts.of("vectors")}
    return cross_domain.answer(pairs, parts.interactions(), centres)


def _base_model(parts: _Parts) -> Tables:
    singles = parts.singles()
    lines: dict[tuple[str, str, str], dict[str, dict[float, Cell]]] = {}
    for cell in parts.points("base_model"):
        line = cell.recipe["line"]
        place = lines.setdefault((line["first"], line["second"], line["base"]), {})
        place.setdefault(cell.recipe["domain"], {})[float(line["at"])] = cell
    sweeps = []
    for (first, second, base), found in lines.items():
        alphas = sorted(found[first])
        ranked = []
        for domain in (first, second):
            frames = {base_model.SINGLE: parts.ranks(singles[domain])}
            frames |= {repr(alpha): parts.ranks(found[domain][alpha]) for alpha in alphas}
            ranked.append(Ranked.of(frames))
        sweeps.append(base_model.PairSweep(parts.paradigm, parts.seed, first, second, base, np.array(alphas), *ranked))
    return base_model.answer(sweeps)


def _temporal(parts: _Parts) -> Tables:
    return temporal.answer(parts.sweeps(), parts.job.recipe["groups"])


def _recency(parts: _Parts) -> Tables:
    return recency.answer(parts.sweeps(), parts.statistics())


def _advise(parts: _Parts) -> Tables:
    from mmgrid.grid.builders.grounds import ground
    from mmgrid.grid.builders.models import temporal_line

    points = {cell.recipe["domain"]: cell for cell in parts.points("temporal")}

    def ranks_at(sweep: Sweep, scale: float) -> pl.DataFrame:
        cell = points[sweep.domain]
        seen = scene_of(parts.folder(cell.upstream["corpus"]), parts.job.calendar, cell.recipe)
        folders = {role: parts.folder(cell.upstream[role]) for role in ("start", "end")}
        paradigm, line = temporal_line(folders, parts.paradigm, cell.recipe.get("asked"))
        ground(paradigm, cell, parts.job, seen)
        ranks = paradigm.rank(line.at(scale), seen.tested.histories, seen.items, seen.tested.targets)
        return ranks_table(seen.tested, ranks)

    return advise.answer(parts.sweeps(), parts.statistics(), ranks_at)


ANSWERS: dict[str, Callable[[_Parts], Tables]] = {
    "baselines": _baselines,
    "vectors": _vectors,
    "cross_domain": _cross_domain,
    "base_model": _base_model,
    "temporal": _temporal,
    "recency": _recency,
    "advise": _advise,
}
