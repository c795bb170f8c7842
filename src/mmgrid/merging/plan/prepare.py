"""A recipe with its sources open, and all that can be checked before a tensor is read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods import get_method
from mmgrid.merging.models.sources import Source, open_source
from mmgrid.merging.models.token_blocks import BlockTable, lay_out_sources
from mmgrid.merging.output.folder import digests_of, joint_digest
from mmgrid.merging.plan.plan import BASE, Plan, plan_merge
from mmgrid.merging.plan.program import Job, make_job, make_program
from mmgrid.merging.plan.recipe import BASE_FILES, MergeRecipe, MergeSource

_Place = tuple[Path, Path | None]  # of a source: its folder, and for an adapter the model that it belongs to


@dataclass(frozen=True)
class OpenMerge:
    """A recipe with its sources open: everything is known but the tensors' values.

    Attributes:
        recipe: with names, weights and all options filled in.
        folders: name of the source (or `(base)`, or a rule's base) → its folder.
        companions: the folder whose config and tokenizer go with the result.
        digests: name → file → digest and size; empty without digests.
    """

    recipe: MergeRecipe
    job: Job
    plan: Plan
    folders: dict[str, Source]
    companions: Path
    digests: dict[str, Any]
    hashing_seconds: float


@contextlib.contextmanager
def open_merge(recipe: MergeRecipe, *, workers: int, digests: bool = True) -> Iterator[OpenMerge]:
    """Open a recipe's sources and check all that can be checked before a tensor is read.

    Raises:
        MergeError: recipe and sources do not fit.
    """
    with contextlib.ExitStack() as stack:
        opened = _opened(recipe, stack)
        clock = time.monotonic()
        files = dict(zip(opened, digests_of(list(opened.values()), workers), strict=True)) if digests else {}
        hashing = time.monotonic() - clock
        recipe = _named(recipe, files)
        sources = {str(source.name): opened[source.path, source.onto] for source in recipe.sources}
        weights = {str(s.name): s.weight for s in recipe.sources if s.weight is not None}
        programs = []
        for rule in recipe.rules:
            method = get_method(rule.method or recipe.method)
            base = rule.base or (recipe.base if method.base != "none" else None)
            options = rule.options if rule.options is not None else ({} if rule.method else recipe.options)
            inherited = 1.0 if base is None else recipe.scale  # without a base there is no delta to scale
            programs.append(
                make_program(
                    method,
                    sources,
                    None if base is None else opened[base, None],
                    {**weights, **(rule.weights or {})},
                    inherited if rule.scale is None else rule.scale,
                    options,
                    rule.tensors,
                )
            )
        below = None if recipe.base is None else opened[recipe.base, None]
        last = make_program(get_method(recipe.method), sources, below, weights, recipe.scale, recipe.options)
        job = make_job(sources, [*programs, last], recipe.seed)
        names = list(job.sources)
        resolved = tuple(
            source.model_copy(update={"weight": last.weights[names.index(str(source.name))]})
            for source in recipe.sources
        )
        recipe = recipe.model_copy(update={"sources": resolved, "options": dict(last.options)})
        dtype = None if recipe.dtype == "source" else recipe.dtype
        plan = _planned(recipe, job, sources, below, dtype)
        _check_bases(job, plan, below)
        folders = {**sources, **({BASE: below} if below is not None else {})}
        for number, rule in enumerate(recipe.rules):
            if rule.base is not None:
                folders[f"{BASE} of rule {number}"] = opened[rule.base, None]
        keys = {id(folder): key for key, folder in opened.items()}
        known = {name: files[keys[id(folder)]] for name, folder in folders.items()} if digests else {}
        yield OpenMerge(recipe, job, plan, folders, _companions(recipe, folders), known, hashing)


def _opened(recipe: MergeRecipe, stack: contextlib.ExitStack) -> dict[_Place, Source]:
    """All sources and bases, each opened once."""
    opened: dict[_Place, Source] = {}
    for source in recipe.sources:
        if (source.path, source.onto) not in opened:
            source_opened = open_source(source.path, source.onto, recipe.base)
            opened[source.path, source.onto] = stack.enter_context(source_opened)
    for base in (recipe.base, *(rule.base for rule in recipe.rules)):
        if base is not None and (base, None) not in opened:
            opened[base, None] = stack.enter_context(open_source(base))
    return opened


def _companions(recipe: MergeRecipe, folders: Mapping[str, Source]) -> Path:
    """The folder whose config and tokenizer go with the result.

    Raises:
        MergeError: the recipe names a source that there is not.
    """
    name = recipe.companions or str(recipe.sources[0].name)
    if recipe.companions == BASE_FILES and BASE in folders:
        return folders[BASE].companions
    if name not in folders:
        known = [*folders, BASE_FILES] if BASE in folders else list(folders)
        raise MergeError(f"companions: there is no source {name!r}{nearest(name, known)}; known: {listing(known)}")
    return folders[name].companions


def _planned(
    recipe: MergeRecipe, job: Job, sources: Mapping[str, Source], base: Source | None, dtype: str | None
) -> Plan:
    """The plan, with token rows in blocks where sources name any."""
    folders = {name: source.companions for name, source in sources.items()}
    tables = {name: table for name, path in folders.items() if (table := BlockTable.read(path)) is not None}
    if not tables:
        if recipe.blocks:
            raise MergeError("blocks: no source names any; a model's blocks stand in its mmgrid.json")
        return plan_merge(job.sources, base, dtype)
    below = None if base is None else BlockTable.read(base.companions)
    laid, tensors = lay_out_sources(tables, job.sources, base, below, str(recipe.sources[0].name), recipe.blocks)
    return plan_merge(job.sources, base, dtype, blocks=laid, block_tensors=tensors)


def _check_bases(job: Job, plan: Plan, base: Source | None) -> None:
    """See that a rule's own base has the tensors that the rule is for, as the recipe's base (or a source) has them.

    Raises:
        MergeError: it lacks one, or has it in another shape or type.
    """
    like = next(iter(job.sources.values())) if base is None else base
    for name in plan.merged:
        own = job.program(name).base
        if own is None or own is base:
            continue
        if name not in own:
            raise MergeError(f"the base of a rule lacks {name}, which the rule is for")
        there, here = own.info(name), like.info(name)
        if there.shape != here.shape:
            raise MergeError(f"tensor {name}: shapes differ: base of its rule {list(there.shape)}, {list(here.shape)}")
        if not is_float(there.dtype):
            raise MergeError(f"tensor {name}: types cannot be brought together: base of its rule {there.dtype}")


def paths_of(recipe: MergeRecipe) -> list[Path]:
    """All folders that a recipe names."""
    bases = [recipe.base, *(rule.base for rule in recipe.rules)]
    models = [path for source in recipe.sources for path in (source.path, source.onto)]
    return [path for path in (*models, *bases) if path is not None]


def _named(recipe: MergeRecipe, digests: Mapping[_Place, Any]) -> MergeRecipe:
    """The recipe with a name for every source: where none is given, the digest of its weights."""

    def name_of(source: MergeSource) -> str:
        return joint_digest(digests[source.path, source.onto]) if digests else source.path.name

    sources = tuple(
        source if source.name else source.model_copy(update={"name": name_of(source)}) for source in recipe.sources
    )
    names = [str(source.name) for source in sources]
    for name in names:
        if names.count(name) > 1:
            same = "have the same weights" if digests else "have folders of one name"
            raise MergeError(f"two sources {same} ({name}); give each a name if that is meant")
    return recipe.model_copy(update={"sources": sources})
