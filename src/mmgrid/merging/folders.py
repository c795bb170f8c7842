"""Merging model folders into a new one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.files import clear_disk_errors
from mmgrid.merging.blocks import BACKBONE, Block, BlockTable, lay_out, rows_of
from mmgrid.merging.card import CARD_FILE, Card, CardFacts, model_card
from mmgrid.merging.engine import KeptCounts, Variant, run
from mmgrid.merging.errors import MergeError, listing, nearest
from mmgrid.merging.job import Job, Scale, make_job, make_program
from mmgrid.merging.journal import Journal
from mmgrid.merging.mergekit.write import CONFIG_FILE, NoCounterpartError, mergekit_config
from mmgrid.merging.methods import get_method
from mmgrid.merging.output import (
    KEPT,
    MergeReport,
    check_outside,
    clear,
    copy_companions,
    digests_of,
    joint_digest,
    relative_to,
    working,
    write_record,
)
from mmgrid.merging.parallel import default_workers
from mmgrid.merging.plan import BASE, Plan, plan_merge
from mmgrid.merging.recipe import BASE_FILES, MergeRecipe, MergeSource
from mmgrid.merging.sources import Source, open_source
from mmgrid.merging.tensors import WEIGHTS_FILE, TensorWriter

Progress = Callable[[int, int, str], None]
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


@dataclass(frozen=True)
class Change:
    """What one output of a sweep has instead of the recipe's weights (all of them) or scale."""

    weights: Mapping[str, float] | None = None
    scale: Scale | None = None


def merge(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
) -> MergeReport:
    """Merge model folders into a new one.

    Args:
        recipe: what to merge; a recipe, a dict, or a YAML or JSON file.
        out: the new folder; absent or empty. Appears whole or not at all. A merge that was killed is gone on with
            by the same call.
        workers: threads; no bit depends on it. Default: one per core.
        progress: called after each tensor with bytes written, bytes in all, and the tensor's name.
        digests: take SHA-256 digests of the sources, for the record. Without them a source that has no name is
            called by its folder's.
        card: writes the model card from facts, instead of `card.model_card`.
        notes: for record, card and report: what is not as somebody might expect.

    Returns:
        What was merged, kept and dropped. The folder holds `model.safetensors`, config and tokenizer of the first
        source, `mmgrid.json` with the recipe, the sources' digests and the report, a model card, and, where mergekit
        has the method, a `mergekit_config.yml` for it.

    Raises:
        MergeError: recipe, sources or output folder do not fit.
        DiskFull, NotWritableError: the output cannot be written.
    """
    outputs = {out: Change()}
    (report,) = sweep(recipe, outputs, workers=workers, progress=progress, digests=digests, card=card, notes=notes)
    return report


def sweep(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    outputs: Mapping[str | Path, Change],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
) -> list[MergeReport]:
    """Merge the same models several times, with other weights or another scale, in one reading of the sources.

    Args:
        outputs: new folder → what it has instead of the recipe's values.
        recipe, workers, progress, digests, card, notes: as for `merge`.

    Returns:
        A report for each output, in their order. Each folder is as if it had been merged alone.

    Raises:
        MergeError: as for `merge`, or the recipe has rules, which a change cannot tell apart.
    """
    recipe, workers = MergeRecipe.load(recipe).anchored(), workers or default_workers()
    outs = {Path(out).absolute(): change for out, change in outputs.items()}
    for out in outs:
        check_outside(out, {str(path): path for path in _paths(recipe)})
    if recipe.rules and any(change != Change() for change in outs.values()):
        raise MergeError("rules: a sweep cannot change weights or scale of a recipe with rules; merge one by one")
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_merge(recipe, workers=workers, digests=digests))
        clock = time.monotonic()
        works = [stack.enter_context(_work(opened, out, change)) for out, change in outs.items()]
        finished = frozenset.intersection(*(work.journal.finished for work in works))
        counter = _Counter(opened.plan, [work.journal for work in works], finished, progress)
        counts = run(
            opened.job,
            opened.plan,
            [work.variant for work in works],
            workers=workers,
            skip=finished,
            done=counter,
        )
        for work in works:
            work.finish(counts, card or model_card, tuple(notes))
        for folder in opened.folders.values():
            folder.check_unchanged()
    seconds = time.monotonic() - clock
    return [_report(opened, out, counts, seconds, tuple(notes)) for out in outs]


@dataclass(frozen=True)
class _Work:
    """One output while it is made."""

    opened: OpenMerge
    recipe: MergeRecipe
    out: Path
    folder: Path
    journal: Journal
    variant: Variant

    def finish(self, counts: KeptCounts, card: Card, notes: tuple[str, ...]) -> None:
        """Add what accompanies the weights."""
        plan = self.opened.plan
        types = {info.dtype for info in plan.merged.values()}
        vocabulary = rows_of(plan.blocks) if plan.blocks else None
        dtype = types.pop() if len(types) == 1 else None
        copy_companions(self.opened.companions, self.folder, dtype, vocabulary)
        write_record(self.folder, self.recipe, self.opened.digests, plan, counts, notes)
        recipe, programs = relative_to(self.recipe, self.out), self.opened.job.programs
        with contextlib.suppress(NoCounterpartError):
            job = replace(self.opened.job, programs=tuple(self.variant.of(program) for program in programs))
            (self.folder / CONFIG_FILE).write_text(mergekit_config(recipe, job, plan), encoding="utf-8")
        facts = CardFacts(
            name=self.out.name,
            recipe=recipe,
            digests=self.opened.digests,
            tensors=(len(plan.merged), len(plan.kept), len(plan.dropped)),
            parameters=sum(info.size for info in plan.merged.values()),
            kept_share=counts.by_tower(),
            notes=notes,
            companions=frozenset(path.name for path in self.folder.iterdir()),
        )
        (self.folder / CARD_FILE).write_text(card(facts), encoding="utf-8")
        self.journal.remove()


@contextlib.contextmanager
def _work(opened: OpenMerge, out: Path, change: Change) -> Iterator[_Work]:
    """The folder of one output: published if all ends well, removed if it fails, gone on with if it was killed."""
    recipe = _changed(opened, change)
    with clear_disk_errors(out, remedy="give another output folder"), working(out) as folder:
        facts = _facts(opened, recipe)
        journal = Journal(folder, facts)
        resume = journal.can_resume and (folder / WEIGHTS_FILE).is_file()
        if not resume:
            clear(folder)
            journal = Journal(folder, facts)
            journal.begin()
        with TensorWriter(folder / WEIGHTS_FILE, opened.plan.infos, resume=resume) as writer:
            weights = None
            if change.weights is not None:
                by_name = {str(source.name): source.weight for source in recipe.sources}
                weights = [float(by_name[name] or 0.0) for name in opened.job.sources]
            yield _Work(opened, recipe, out, folder, journal, Variant(writer, weights, change.scale))


def _changed(opened: OpenMerge, change: Change) -> MergeRecipe:
    """The recipe under a change, checked like any other."""
    recipe, last = opened.recipe, opened.job.programs[-1]
    if change == Change():
        return recipe
    given = {str(source.name): source.weight for source in recipe.sources if source.weight is not None}
    program = make_program(
        last.method,
        opened.job.sources,
        last.base,
        given if change.weights is None else change.weights,
        recipe.scale if change.scale is None else change.scale,
        last.options,
    )
    weights = dict(zip(opened.job.sources, program.weights, strict=True))
    sources = tuple(source.model_copy(update={"weight": weights[str(source.name)]}) for source in recipe.sources)
    return recipe.model_copy(update={"sources": sources, "scale": program.scale})


def _report(opened: OpenMerge, out: Path, counts: KeptCounts, seconds: float, notes: tuple[str, ...]) -> MergeReport:
    plan = opened.plan
    return MergeReport(
        out=out,
        merged=tuple(plan.merged),
        kept=dict.fromkeys(plan.kept, KEPT),
        dropped=plan.dropped,
        parameters=sum(info.size for info in plan.merged.values()),
        kept_share=counts.shares(),
        kept_by_tower=counts.by_tower(),
        bytes_read=sum(folder.info(name).bytes for folder in opened.folders.values() for name in folder),
        bytes_written=sum(info.bytes for info in plan.infos.values()),
        seconds=seconds,
        hashing_seconds=opened.hashing_seconds,
        notes=notes,
    )


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
            programs.append(
                make_program(
                    method,
                    sources,
                    None if base is None else opened[base, None],
                    {**weights, **(rule.weights or {})},
                    recipe.scale if rule.scale is None else rule.scale,
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
    tensors = next(iter(tables.values())).tensors

    def all_backbone(rows: int) -> BlockTable:
        return BlockTable(tensors, (Block(BACKBONE, 0, rows),))

    for name, source in job.sources.items():
        if name not in tables:
            tables[name] = all_backbone(source.info(tensors[0]).shape[0])
    below = None
    if base is not None:
        below = BlockTable.read(base.companions) or all_backbone(base.info(tensors[0]).shape[0])
    laid = lay_out(tables, below, str(recipe.sources[0].name), recipe.blocks)
    return plan_merge(job.sources, base, dtype, blocks=laid, block_tensors=frozenset(tensors))


class _Counter:
    """Journals a tensor when all of it is written, and says how far the merge has come."""

    def __init__(
        self, plan: Plan, journals: Sequence[Journal], finished: frozenset[str], progress: Progress | None
    ) -> None:
        self.infos, self.journals, self.progress = plan.infos, journals, progress
        self.total = sum(info.bytes for info in self.infos.values())
        self.written = sum(self.infos[name].bytes for name in finished)

    def __call__(self, name: str, done: int, size: int) -> None:
        if done < size:
            return
        for journal in self.journals:
            journal.add(name)
        self.written += self.infos[name].bytes
        if self.progress is not None:
            self.progress(self.written, self.total, name)


def _facts(opened: OpenMerge, recipe: MergeRecipe) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: folder.stamps for name, folder in opened.folders.items()},
        "tensors": {name: (info.dtype, info.shape) for name, info in opened.plan.infos.items()},
    }


def _paths(recipe: MergeRecipe) -> list[Path]:
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
