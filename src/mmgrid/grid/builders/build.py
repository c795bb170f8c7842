"""Builds one cell: hands its builder the inputs that it needs, and puts the result into the store.

Builders are imported when they are needed: preparing data must not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmgrid.data import READERS, Calendar
from mmgrid.grid.builders.workplace import Workplace
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import plain
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.store import Store
from mmgrid.training import StepProgress

Outcome = Literal["built", "present", "waiting"]
Summary = Mapping[str, Any]


def build_cell(cell: Cell, grid: Grid, store: Store, progress: StepProgress | None = None) -> Outcome:
    """Build `cell`, whose upstream is built, into `store`.

    Returns "built"; "present" if another process built it meanwhile; "waiting" while another one is at it.
    """
    upstream = {role: {"name": above.name, "fingerprint": above.fingerprint} for role, above in cell.upstream.items()}
    outcome: Outcome = "present"

    def make(folder: Path) -> Summary:
        nonlocal outcome
        outcome = "built"
        return BUILDERS[cell.kind](_Inputs(cell, grid, store), Workplace(folder, progress))

    record = store.build(cell.address, plain(cell.recipe), upstream, make)
    return "waiting" if record is None else outcome


@dataclass(frozen=True)
class _Inputs:
    """Where a cell's inputs lie; only this module looks them up."""

    cell: Cell
    grid: Grid
    store: Store

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.cell.recipe

    @property
    def calendar(self) -> Calendar:
        return self.grid.spec.phases.calendar()

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the upstream cells, by role."""
        return {role: self.store.folder(above.address) for role, above in self.cell.upstream.items()}

    def named(self, prefix: str) -> dict[str, Path]:
        """The folders of all roles `prefix:NAME`, by name."""
        found = {role.partition(":"): folder for role, folder in self.folders.items()}
        return {name: folder for (kind, colon, name), folder in found.items() if kind == prefix and colon}


def _corpus(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.corpus import prepare_corpus, synthetic_raw

    data, domain, recipe = given.grid.spec.data, given.recipe["domain"], given.recipe
    if data.format == "synthetic":
        raw = synthetic_raw(given.grid.spec.world, domain, place.folder)
    else:
        raw = READERS[data.format].read(given.grid.path(str(data.root)), domain)
    return prepare_corpus(
        raw,
        place.folder,
        given.calendar,
        target=given.grid.spec.evaluation.target,
        min_interactions=recipe["min_interactions"],
        max_users=recipe["max_users"],
        seed=recipe.get("seed", 0),
        compat=recipe["compat"],
    )


def _backbone(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.backbone import copy_pretrained, make_tiny

    spec, recipe = given.grid.spec.backbone, given.recipe
    if isinstance(spec, PretrainedBackbone):
        folder = given.grid.path(spec.path)
        source = folder if folder.is_dir() else spec.path
        return copy_pretrained(source, place.folder, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    corpora = given.named("corpus")
    return make_tiny(recipe, corpora, place, t0=given.calendar.t0, catalogue=recipe["catalogue"], seed=recipe["seed"])


def _base(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.base import write_base

    name = given.recipe["paradigm"]
    return write_base(
        name,
        given.grid.spec.recipe(name),
        given.folders["backbone"],
        place.folder,
        seed=given.recipe.get("seed"),
        declared={"phases": given.calendar.as_dates(), "recipe": dict(given.recipe)},
    )


def _checkpoint(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import checkpoint

    name, domain, phase = given.cell.key[:3]
    if "files" in given.recipe:
        from mmgrid.grid.builders.external_checkpoint import take_over

        wanted = (name, domain, phase)
        spec = next(one for one in given.grid.spec.checkpoints if (one.paradigm, one.domain, one.phase) == wanted)
        source, digests = given.grid.path(spec.path), given.recipe["files"]
        return take_over(source, place.folder, name, digests=digests, phase=given.calendar.phase(phase))
    folders = dict(given.folders)
    return checkpoint.train(
        checkpoint.TrainingTask(name, domain, phase, given.recipe["until"], given.recipe["catalogue"]),
        given.grid.spec.recipe(name),
        corpus=folders.pop("corpus"),
        start=folders.pop("start", None),
        needs=checkpoint.training_needs(folders, shared_codebook=given.grid.spec.semantic_ids.codebook == "shared"),
        calendar=given.calendar,
        seed=given.recipe["seed"],
        place=place,
        declared={
            "phases": given.calendar.as_dates(),
            "recipe": dict(given.recipe),
            "evaluation": checkpoint.evaluation_protocol(given.grid, name),
        },
    )


def _vectors(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import vectors

    recipe, item_vectors = given.recipe, given.grid.spec.item_vectors
    t2 = given.calendar.t2
    items = vectors.known_items(given.folders["corpus"], recipe["catalogue"], t2)
    if "file" in recipe:
        table = given.grid.path(str(item_vectors.path)) / f"{recipe['domain']}.parquet"
        return vectors.read_table(table, items, place.folder)
    embedder = vectors.embedder_of(given.grid, given.folders.get("backbone"))
    return vectors.embed(items, embedder, place.folder, titles_only=recipe.get("texts") == "titles")


def _codes(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.codes import DomainVectors, assign_codes

    recipe, folders = given.recipe, given.folders
    growing = recipe["catalogue"] == "open"

    def domain(suffix: str) -> DomainVectors:
        return DomainVectors(folders[f"vectors{suffix}"], folders[f"corpus{suffix}"] if growing else None)

    return assign_codes(
        domain(""),
        {name: domain(f":{name}") for name in sorted(given.named("vectors"))},
        given.grid.spec.semantic_ids.quantiser,
        place.folder,
        calendar=given.calendar,
        domain=recipe["domain"],
        seed=recipe["seed"],
        where=str(given.grid.file),
    )


def _merge(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.merge import merge_to_folder

    final = given.store.folder(given.cell.address)
    return merge_to_folder(
        given.recipe, given.named("source"), given.folders.get("base"), place.folder, final_place=final
    )


def _evaluation(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import evaluation

    known = evaluation.known_users(given.folders["corpus"], given.calendar, given.recipe)
    ranks = _ranks(given, known)
    return evaluation.write(given.recipe, known, ranks, place.folder)


def _ranks(given: _Inputs, known: Any, at: float | None = None) -> Any:
    """The ranks of an evaluation; with `at`, at another place of the line on which its model lies."""
    from mmgrid.grid.builders import evaluation

    if given.recipe["paradigm"] == evaluation.BASELINE:
        return evaluation.baseline_ranks(given.recipe["model"], known, given.recipe["seed"])
    recipe = given.recipe if at is None else {**given.recipe, "line": {**given.recipe["line"], "at": at}}
    needs = evaluation.needs_of(given.folders, given.grid)
    return evaluation.model_ranks(recipe, given.folders, known, needs)


def _study(given: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import evaluation, study
    from mmgrid.grid.cells.chains import TRAINED
    from mmgrid.studies import Context, Part

    target = given.grid.spec.evaluation.target

    def part(cell: Cell) -> Part:
        record = given.store.record(cell.address)
        return Part(cell.name, given.store.folder(cell.address), cell.recipe, record.summary)

    def ranks_at(evaluated: Part, at: float) -> Any:
        cell = next(cell for cell in given.cell.upstream.values() if cell.name == evaluated.name)
        point = _Inputs(cell, given.grid, given.store)
        known = evaluation.known_users(point.folders["corpus"], given.calendar, cell.recipe)
        return evaluation.ranks_table(known, _ranks(point, known, at))

    recipe = dict(given.recipe)
    name = recipe.pop("study")
    context = Context(
        recipe.pop("paradigm"), recipe.pop("seed"), target, given.calendar, TRAINED[target], recipe, ranks_at
    )
    return study.answer(name, given.cell.needs, part, context, place.folder, cells=len(given.cell.upstream))


Builder = Callable[[_Inputs, Workplace], Summary]

BUILDERS: dict[str, Builder] = {
    "corpus": _corpus,
    "backbone": _backbone,
    "base": _base,
    "checkpoint": _checkpoint,
    "merge": _merge,
    "evaluation": _evaluation,
    "vectors": _vectors,
    "codes": _codes,
    "study": _study,
}
