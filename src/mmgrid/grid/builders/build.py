"""Builds one cell: passes its inputs to the builder of its kind, and puts the result into the store.

Builders are imported on use, so that preparing data does not import torch.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from mmgrid.cards import ORIGIN
from mmgrid.data import READERS, Calendar, RawDomain
from mmgrid.data.readers import PreparationOptions
from mmgrid.files.digest import DigestCache
from mmgrid.grid.builders.outside import check_outside
from mmgrid.grid.builders.workplace import Workplace
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import plain
from mmgrid.grid.cells.stored import EXACT, START, read_with
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.store import Address, Store, watched
from mmgrid.store.address import SHORT_DIGITS
from mmgrid.store.logs import logs_folder
from mmgrid.store.places import DIGESTS_FILE
from mmgrid.training import StepProgress
from mmgrid.training.tracking import Tracking

_LOG = logging.getLogger(__name__)

Outcome = Literal["built", "present", "waiting"]
Summary = Mapping[str, Any]


def build_cell(cell: Cell, grid: Grid, store: Store, progress: StepProgress | None = None) -> Outcome:
    """Build `cell` into `store`. Its upstream cells must be built.

    Returns "built"; "present" if the cell exists already; "waiting" if another process is building it.

    Raises:
        DamagedFilesError: files of an upstream cell differ from its record; nothing was built from them.
        GridError: files outside the store have changed since the cell was planned; nothing was published.
    """
    upstream = {role: {"name": above.name, "fingerprint": above.fingerprint} for role, above in cell.upstream.items()}
    outcome: Outcome = "present"

    def make(folder: Path) -> Summary:
        nonlocal outcome
        outcome = "built"
        _LOG.info("%s, version %s, is being built", cell.name, cell.fingerprint[:SHORT_DIGITS])
        place = Workplace(folder, watched(folder, progress), _tracking(cell, grid, store), grid.spec.training)
        summary = BUILDERS[cell.kind](_Inputs.checked(cell, grid, store), place)
        check_outside(cell, grid, DigestCache(store.root / DIGESTS_FILE).sha256)
        return summary

    record = store.build(cell.address, plain(cell.recipe), upstream, make)
    return "waiting" if record is None else outcome


def _tracking(cell: Cell, grid: Grid, store: Store) -> Tracking | None:
    report_to = grid.spec.tracking.report_to
    if not report_to:
        return None
    return Tracking(report_to, grid.spec.name, cell.name, logs_folder(store.root), cell.address.folder)


@dataclass(frozen=True)
class _Inputs:
    """A cell, and where its inputs are. Only this module looks them up; builders receive paths and values."""

    cell: Cell
    grid: Grid
    store: Store

    @classmethod
    def checked(cls, cell: Cell, grid: Grid, store: Store) -> Self:
        """The inputs of a cell, after the files that are read of its upstream cells were compared with their records."""
        for above in cell.upstream.values():
            for read in read_with(above):
                store.sound(read.address)
        return cls(cell, grid, store)

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.cell.recipe

    @property
    def calendar(self) -> Calendar:
        return self.grid.spec.phases.calendar()

    @property
    def folders(self) -> dict[str, Path]:
        """Role → folder of the upstream cell."""
        return {role: self.store.folder(above.address) for role, above in self.cell.upstream.items()}

    def named(self, prefix: str) -> dict[str, Path]:
        """Name → folder, for all roles `prefix:NAME`."""
        found = {role.partition(":"): folder for role, folder in self.folders.items()}
        return {name: folder for (kind, colon, name), folder in found.items() if kind == prefix and colon}


def _corpus(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.corpus import join_corpora, prepare_corpus

    recipe = inputs.recipe
    if "joint" in recipe:
        return join_corpora(inputs.named("corpus"), recipe["domain"], place.folder, inputs.calendar)
    return prepare_corpus(
        _raw(inputs, place),  # held by nobody else: it may be as large as memory allows
        place.folder,
        inputs.calendar,
        target=inputs.grid.spec.evaluation.target,
        min_interactions=recipe["min_interactions"],
        max_items=recipe.get("max_items"),
        max_users=recipe["max_users"],
        seed=recipe.get("seed", 0),
        compat=recipe["compat"],
    )


def _raw(inputs: _Inputs, place: Workplace) -> RawDomain:
    from mmgrid.grid.builders.corpus import synthetic_raw

    data, domain = inputs.grid.spec.data, inputs.recipe["domain"]
    if data.format == "synthetic":
        return synthetic_raw(inputs.grid.spec.world, domain, place.folder)
    least = inputs.recipe["min_interactions"]
    options = PreparationOptions(**dict(data.table_options), min_interactions=least)
    return READERS[data.format].read(inputs.grid.path(str(data.root)), domain, options)


def _backbone(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.backbone import copy_pretrained, make_tiny

    spec, recipe = inputs.grid.spec.backbone, inputs.recipe
    if isinstance(spec, PretrainedBackbone):
        folder = inputs.grid.path(spec.path)
        source = folder if folder.is_dir() else spec.path
        return copy_pretrained(source, place.folder, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    corpora = inputs.named("corpus")
    return make_tiny(recipe, corpora, place, t0=inputs.calendar.t0, catalogue=recipe["catalogue"], seed=recipe["seed"])


def _base(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.base import write_base

    name = inputs.recipe["paradigm"]
    return write_base(
        name,
        inputs.grid.spec.recipe(name),
        inputs.folders["backbone"],
        place.folder,
        seed=inputs.recipe.get("seed"),
        declared={"phases": inputs.calendar.as_dates(), "recipe": dict(inputs.recipe), **_origin(inputs)},
    )


def _origin(inputs: _Inputs) -> dict[str, Any]:
    from mmgrid.grid.builders.origin import origin_of

    found = origin_of(inputs.cell, inputs.grid, inputs.store)
    return {ORIGIN: found} if found else {}


def _checkpoint(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import checkpoint

    if EXACT in inputs.cell.upstream:
        return _stored(inputs, place)
    if inputs.cell.temporary and (taken := _taken(inputs, place)) is not None:
        return taken
    name, domain, phase = inputs.cell.key[0], inputs.cell.key[1], inputs.recipe["phase"]
    if "files" in inputs.recipe:
        from mmgrid.grid.builders.external_checkpoint import take_over

        wanted = (name, domain, phase)
        spec = next(one for one in inputs.grid.spec.checkpoints if (one.paradigm, one.domain, one.phase) == wanted)
        source, digests = inputs.grid.path(spec.path), inputs.recipe["files"]
        return take_over(source, place.folder, name, digests=digests, phase=inputs.calendar.phase(phase))
    folders = dict(inputs.folders)
    return checkpoint.train(
        checkpoint.TrainingTask(name, domain, phase, inputs.recipe["until"], inputs.recipe["catalogue"]),
        inputs.grid.spec.recipe(name, inputs.grid.spec.variant(inputs.cell.key[2])),
        corpus=folders.pop("corpus"),
        start=folders.pop("start", None),
        base=folders.pop("base", None),
        needs=checkpoint.training_needs(folders, shared_codebook=inputs.grid.spec.semantic_ids.codebook == "shared"),
        calendar=inputs.calendar,
        seed=inputs.recipe["seed"],
        place=place,
        declared={
            "phases": inputs.calendar.as_dates(),
            "recipe": dict(inputs.recipe),
            "evaluation": checkpoint.evaluation_protocol(inputs.grid, name),
            **_origin(inputs),
        },
    )


def _stored(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.stored import facts_of_training, write_change

    trained, start = inputs.folders[EXACT], inputs.folders[START]
    final = inputs.store.folder(inputs.cell.address)
    written = write_change(trained, start, inputs.recipe["part"], place.folder, final_place=final)
    return {**facts_of_training(inputs.store.record(inputs.cell.upstream[EXACT].address)), **written}


def _taken(inputs: _Inputs, place: Workplace) -> Summary | None:
    """A trained checkpoint from the cell of a grid that stores the same one exactly, if that is built."""
    from mmgrid.grid.builders.stored import take_exact

    kept = Address(inputs.cell.kind, inputs.cell.key[:-1], inputs.cell.fingerprint)
    return take_exact(inputs.store, kept, place.folder)


def _vectors(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import vectors

    recipe, item_vectors = inputs.recipe, inputs.grid.spec.item_vectors
    t2 = inputs.calendar.t2
    items = vectors.known_items(inputs.folders["corpus"], recipe["catalogue"], t2)
    if "file" in recipe:
        table = inputs.grid.path(str(item_vectors.path)) / f"{recipe['domain']}.parquet"
        return vectors.read_table(table, items, place.folder)
    embedder = vectors.embedder_of(inputs.grid, inputs.folders.get("backbone"), one_copy=True)
    return vectors.embed(items, embedder, place.folder, titles_only=recipe.get("texts") == "titles")


def _codes(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.codes import DomainVectors, assign_codes

    recipe, folders = inputs.recipe, inputs.folders
    growing = recipe["catalogue"] == "open"

    def domain(suffix: str) -> DomainVectors:
        return DomainVectors(folders[f"vectors{suffix}"], folders[f"corpus{suffix}"] if growing else None)

    return assign_codes(
        domain(""),
        {name: domain(f":{name}") for name in sorted(inputs.named("vectors"))},
        inputs.grid.spec.semantic_ids.quantiser,
        place.folder,
        calendar=inputs.calendar,
        domain=recipe["domain"],
        seed=recipe["seed"],
        where=str(inputs.grid.file),
    )


def _merge(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.merge import merge_to_folder

    final = inputs.store.folder(inputs.cell.address)
    return merge_to_folder(inputs.recipe, inputs.folders, place.folder, final_place=final)


def _family(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.family import write_family

    final = inputs.store.folder(inputs.cell.address)
    return write_family(inputs.recipe, inputs.folders, place.folder, final_place=final)


def _learned(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders.learned import learn_merge
    from mmgrid.grid.builders.merge import recipe_of_folders

    sources, corpora = inputs.named("source"), inputs.named("corpus")
    start = recipe_of_folders(inputs.recipe, inputs.folders)
    return learn_merge(inputs.recipe, start, sources, corpora, place.folder, place.progress)


def _evaluation(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import evaluation

    known = evaluation.known_users(inputs.folders["corpus"], inputs.calendar, inputs.recipe)
    ranks = _ranks(inputs, known)
    return evaluation.write(inputs.recipe, known, ranks, place.folder)


def _ranks(inputs: _Inputs, known: Any, at: Any = None) -> Any:
    """The ranks of an evaluation. at: another λ or α on the line of its model, or a `PartScales`."""
    from mmgrid.grid.builders import evaluation

    if inputs.recipe["paradigm"] == evaluation.BASELINE:
        return evaluation.baseline_ranks(inputs.recipe["model"], known, inputs.recipe["seed"])
    recipe = inputs.recipe if at is None else {**inputs.recipe, "line": {**inputs.recipe["line"], "at": at}}
    needs = evaluation.needs_of(inputs.folders, inputs.grid)
    return evaluation.model_ranks(recipe, inputs.folders, known, needs)


def _study(inputs: _Inputs, place: Workplace) -> Summary:
    from mmgrid.grid.builders import evaluation, study
    from mmgrid.grid.cells.chains import TRAINED
    from mmgrid.studies import Context, Part

    target = inputs.grid.spec.evaluation.target

    def part(cell: Cell) -> Part:
        record = inputs.store.record(cell.address)
        return Part(cell.name, inputs.store.folder(cell.address), cell.recipe, record.summary)

    def ranks_at(evaluated: Part, at: Any) -> Any:
        cell = next(cell for cell in inputs.cell.upstream.values() if cell.name == evaluated.name)
        point = _Inputs.checked(cell, inputs.grid, inputs.store)
        known = evaluation.known_users(point.folders["corpus"], inputs.calendar, cell.recipe)
        return known.users.ranks_table(_ranks(point, known, at))

    recipe = dict(inputs.recipe)
    name = recipe.pop("study")
    context = Context(
        recipe.pop("paradigm"), recipe.pop("seed"), target, inputs.calendar, TRAINED[target], recipe, ranks_at
    )
    return study.answer(name, inputs.cell.needs, part, context, place.folder, cells=len(inputs.cell.upstream))


Builder = Callable[[_Inputs, Workplace], Summary]

BUILDERS: dict[str, Builder] = {
    "corpus": _corpus,
    "backbone": _backbone,
    "base": _base,
    "checkpoint": _checkpoint,
    "merge": _merge,
    "family": _family,
    "learned": _learned,
    "evaluation": _evaluation,
    "vectors": _vectors,
    "codes": _codes,
    "study": _study,
}
