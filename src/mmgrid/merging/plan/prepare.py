"""Opens the sources of a recipe and checks everything that can be checked before a tensor is read."""

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.methods import get_method
from mmgrid.merging.models.companions import check_companions
from mmgrid.merging.models.digests import LEAST_TIME, Hashing
from mmgrid.merging.models.sources import Source
from mmgrid.merging.models.stack import StackedSource
from mmgrid.merging.models.tensors import TensorFolder
from mmgrid.merging.models.ties import OneForm
from mmgrid.merging.models.token_blocks import BlockTable
from mmgrid.merging.plan.block_files import BlockFile, block_files
from mmgrid.merging.plan.block_layout import lay_out_sources, left_out
from mmgrid.merging.plan.open_models import on_this_machine, open_models
from mmgrid.merging.plan.plan import BASE, Plan, plan_merge
from mmgrid.merging.plan.program import AppliedMethod, Program, apply_method, check_base, make_program
from mmgrid.merging.plan.recipe import BASE_FILES, MergeRecipe
from mmgrid.merging.plan.rules import Rule, apply_rules, check_bases
from mmgrid.merging.plan.source_names import named, names_for_people
from mmgrid.merging.plan.stacks import ModelPaths, stacked, stacked_files
from mmgrid.merging.plan.vocabulary import OneVocabulary


@dataclass(frozen=True)
class PreparedMerge:
    """A recipe with its sources open: everything is known except the tensors' values.

    Attributes:
        recipe: with names, weights and all options filled in.
        models: the open models by their paths.
        folders: name of the source (or `(base)`, or a rule's base) → its tensors.
        tables: name of the source (or `(base)`) → the token blocks that its folder declares.
        block_files: name → file, for the files of the result's token blocks.
        companions: the folder whose config and tokenizer are copied.
        stack: the model of this config, if its layers are stacked.
        form: how tied tensors were brought to one form.
        vocabulary: the tokens of the result, if the recipe chose them.
        modules: the modules of sentence-transformers whose weights are merged; their tensors are `2_Dense/linear.weight`.
        notes: what a user should know about the models.
        hashing: computes the digests of all files; None without digests.
    """

    recipe: MergeRecipe
    program: Program
    plan: Plan
    models: Mapping[ModelPaths, Source]
    folders: dict[str, Source]
    tables: dict[str, BlockTable]
    block_files: dict[str, BlockFile]
    companions: Path
    stack: StackedSource | None
    form: OneForm
    vocabulary: OneVocabulary | None
    modules: tuple[str, ...]
    notes: tuple[str, ...]
    hashing: Hashing | None

    @functools.cached_property
    def digests(self) -> dict[str, Any]:
        """Name → file → digests and size, with the files of token blocks; empty without digests. Waits for them."""
        return {} if self.hashing is None else self._digests(self.hashing)

    def all_digests(self, workers: int, kinds: Collection[str]) -> dict[str, Any]:
        """As `digests`, with digests of all these kinds for every file."""
        files = _files([*self.models.values(), *self.statistics.values()], self.block_files)
        with Hashing(files, workers, kinds, every=True) as hashing:
            return self._digests(hashing)

    def _digests(self, hashing: Hashing) -> dict[str, Any]:
        digests = _known_files(self.recipe, {key: hashing.of(model.files) for key, model in self.models.items()})
        for name, held in self.statistics.items():
            digests[f"statistics of {name}"] = hashing.of(held.files)
        for file in self.block_files.values():
            digests[file.source] = {**digests[file.source], **hashing.of([file.path])}
        return digests

    @property
    def statistics(self) -> Mapping[str, Source]:
        """Name of the source → its open file of statistics."""
        names = ((str(source.name), f"statistics of {source.name}") for source in self.recipe.sources)
        return {name: self.folders[held] for name, held in names if held in self.folders}

    @property
    def hashing_seconds(self) -> float:
        """Wall time of waiting for digests."""
        return 0.0 if self.hashing is None else self.hashing.waited_seconds

    def start_hashing(self) -> None:
        """Begin to compute the digests, from what a merge reads of the same files."""
        if self.hashing is not None:
            self.hashing.follow(self.models.values())
            self.hashing.start()

    def check_unchanged(self) -> None:
        """Check that nobody has written to a source since it was opened.

        Raises:
            MergeError: somebody has.
        """
        for file in (*self.folders.values(), *self.block_files.values()):
            file.check_unchanged()


@contextlib.contextmanager
def prepare_merge(
    recipe: MergeRecipe, *, workers: int, digests: bool | Collection[str] = True, with_modules: bool = True
) -> Iterator[PreparedMerge]:
    """Open the sources of a recipe and check everything that can be checked before a tensor is read.

    Args:
        digests: whether to compute digests of the sources; or the kinds to choose from, as for `Hashing`.
        with_modules: whether to merge the modules of sentence-transformers, too.

    Raises:
        MergeError: recipe and sources do not fit.
    """
    _check_methods(recipe)
    recipe = on_this_machine(recipe)
    with contextlib.ExitStack() as stack:
        ready = stack.enter_context(open_models(recipe, with_modules=with_modules))
        opened, called = ready.models, ready.called
        recipe = named(recipe, opened, called, workers, by_content=bool(digests))
        stack.enter_context(names_for_people(recipe, called))
        sources = {
            str(source.name): stacked(opened, source.path, source.onto, source.stack, str(source.name))
            for source in recipe.sources
        }
        base = None
        if recipe.base is not None:
            base = stacked(opened, recipe.base, recipe.base_onto, recipe.base_stack, "the base")
        statistics = {
            str(source.name): stack.enter_context(TensorFolder(source.statistics))
            for source in recipe.sources
            if source.statistics is not None
        }
        program = make_program(sources, _methods(recipe, opened, sources, base), recipe.seed, statistics)
        recipe = _resolved(recipe, program)
        tables = _tables(sources, base)
        plan = _plan(recipe, program, tables, base)
        plan = replace(plan, dropped=dict(sorted({**plan.dropped, **ready.dropped}.items())))
        plan = replace(plan, twins={twin: first for twin, first in ready.form.twins.items() if first in plan.infos})
        check_bases(program, plan, base)
        folders = {**sources, **({BASE: base} if base is not None else {})}
        for number, rule in enumerate(recipe.rules):
            if rule.base is not None:
                folders[f"{BASE} of rule {number}"] = opened[rule.base, None]
        folders |= {f"statistics of {name}": held for name, held in statistics.items()}
        of_blocks = block_files(plan.blocks, {name: source.companions for name, source in sources.items()})
        hashing = None
        if digests:
            files = _files([*opened.values(), *statistics.values()], of_blocks)
            kinds = LEAST_TIME if isinstance(digests, bool) else digests
            hashing = stack.enter_context(Hashing(files, workers, kinds))
        like = _companions(recipe, folders)
        absent = check_companions(like.companions)
        yield PreparedMerge(
            recipe=recipe,
            program=program,
            plan=plan,
            models=opened,
            folders=folders,
            tables=tables,
            block_files=of_blocks,
            companions=like.companions,
            stack=like if isinstance(like, StackedSource) else None,
            form=ready.form,
            vocabulary=ready.vocabulary,
            modules=ready.modules,
            notes=(
                *ready.notes,
                *absent,
                *_idle_sources(recipe, program, called),
                *_idle_rules(recipe, plan),
                *left_out(tables, sources, recipe.blocks),
            ),
            hashing=hashing,
        )


def _files(sources: Iterable[Source], blocks: Mapping[str, BlockFile]) -> list[Path]:
    """All files that digests are taken of."""
    return [*(file for source in sources for file in source.files), *(file.path for file in blocks.values())]


def _check_methods(recipe: MergeRecipe) -> None:
    """Check the names of methods before models are downloaded and opened."""
    for rule in recipe.rules:
        if rule.method is not None:
            get_method(rule.method)
    check_base(get_method(recipe.method), recipe.base is not None)


def _idle_sources(recipe: MergeRecipe, program: Program, called: Mapping[ModelPaths, str]) -> list[str]:
    """A note for each source that is the base, where task vectors are merged."""
    base = recipe.base, recipe.base_onto, recipe.base_stack
    if not program.methods[-1].on_deltas:
        return []
    return [
        f"{called[source.path, source.onto]}: is the base, so its task vector is zero"
        for source in recipe.sources
        if (source.path, source.onto, source.stack) == base
    ]


def _idle_rules(recipe: MergeRecipe, plan: Plan) -> list[str]:
    """A note for each rule that no tensor follows."""
    used = {recipe.rule_of(name) for name in plan.merged}
    notes = []
    for number, rule in enumerate(recipe.rules):
        if number in used:
            continue
        named = [name for name in (*plan.dropped, *plan.twins, *plan.kept) if rule.fits(name)]
        about = f": {listing(named)} is not merged by itself" if named else ""
        earlier = "" if named or not any(rule.fits(name) for name in plan.merged) else ": earlier rules fit all of them"
        notes.append(f"rules[{number}]: {listing(rule.patterns)}: applies to no tensor{about}{earlier}")
    return notes


def _known_files(recipe: MergeRecipe, files: Mapping[ModelPaths, Any]) -> dict[str, Any]:
    """Source, base or base of a rule → the digests of its files."""
    known = {
        str(source.name): stacked_files(files, source.path, source.onto, source.stack) for source in recipe.sources
    }
    if recipe.base is not None:
        known[BASE] = stacked_files(files, recipe.base, recipe.base_onto, recipe.base_stack)
    return known | {
        f"{BASE} of rule {number}": files[rule.base, None]
        for number, rule in enumerate(recipe.rules)
        if rule.base is not None
    }


def _methods(
    recipe: MergeRecipe, opened: Mapping[ModelPaths, Source], sources: Mapping[str, Source], base: Source | None
) -> list[AppliedMethod]:
    """The methods of the rules, then the recipe's own."""
    rules = [
        Rule(
            tensors=rule.tensors,
            method=rule.method,
            options=rule.options,
            scale=rule.scale,
            base=None if rule.base is None else opened[rule.base, None],
            weights=rule.weights,
        )
        for rule in recipe.rules
    ]
    method = get_method(recipe.method)
    return [
        *apply_rules(rules, method, sources, base, recipe.weights, recipe.scale, recipe.options),
        apply_method(method, sources, base, recipe.weights, recipe.scale, recipe.options),
    ]


def _resolved(recipe: MergeRecipe, program: Program) -> MergeRecipe:
    """The recipe with the weights and options of its own method filled in."""
    own = program.methods[-1]
    weights = dict(zip(program.sources, own.weights, strict=True))
    return recipe.with_weights(weights).model_copy(update={"options": dict(own.options)})


def _tables(sources: Mapping[str, Source], base: Source | None) -> dict[str, BlockTable]:
    """The token blocks that sources declare, and the base if a source does."""
    tables = {name: table for name, source in sources.items() if (table := BlockTable.read(source.companions))}
    if tables and base is not None and (table := BlockTable.read(base.companions)):
        tables[BASE] = table
    return tables


def _plan(recipe: MergeRecipe, program: Program, tables: Mapping[str, BlockTable], base: Source | None) -> Plan:
    """The plan, with token rows in blocks if a source declares any."""
    dtype = None if recipe.dtype == "source" else recipe.dtype
    declared = {name: table for name, table in tables.items() if name != BASE}
    if not declared:
        if recipe.blocks:
            raise MergeError("blocks: no source declares any; a model declares its blocks in mmgrid.json")
        return plan_merge(program.sources, base, dtype)
    first = str(recipe.sources[0].name)
    blocks, tensors = lay_out_sources(declared, program.sources, base, tables.get(BASE), first, recipe.blocks)
    return plan_merge(program.sources, base, dtype, blocks=blocks, block_tensors=tensors)


def _companions(recipe: MergeRecipe, folders: Mapping[str, Source]) -> Source:
    """The model whose config and tokenizer are copied.

    Raises:
        MergeError: the recipe names an unknown source.
    """
    name = recipe.companions or str(recipe.sources[0].name)
    if recipe.companions == BASE_FILES and BASE in folders:
        return folders[BASE]
    if name not in folders:
        known = [*folders, BASE_FILES] if BASE in folders else list(folders)
        raise MergeError(f"companions: there is no source {name!r}{nearest(name, known)}; known: {listing(known)}")
    return folders[name]
