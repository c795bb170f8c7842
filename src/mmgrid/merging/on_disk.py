"""Merging model folders into a new one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.files import clear_disk_errors
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.cost import DiskSpeed, disk_speed, read_bytes
from mmgrid.merging.engine.run import KeptCounts, Variant, run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.write import CONFIG_FILE, NoCounterpartError, mergekit_config
from mmgrid.merging.models.tensors import WEIGHTS_FILE, TensorWriter
from mmgrid.merging.models.token_blocks import rows_of
from mmgrid.merging.output.card import CARD_FILE, Card, CardFacts, model_card
from mmgrid.merging.output.folder import (
    KEPT,
    MergeReport,
    check_free,
    check_outside,
    clear,
    copy_companions,
    relative_to,
    working,
    write_record,
)
from mmgrid.merging.output.journal import Journal
from mmgrid.merging.plan.prepare import OpenMerge, open_merge, paths_of
from mmgrid.merging.plan.program import Scale, make_program
from mmgrid.merging.plan.recipe import MergeRecipe

Progress = Callable[[int, int, str], None]
_MEASURED_SHARE = 64  # measuring the disk costs a merge no more than one part in so many …
_MEASURED_LEAST = 1 << 24  # … but so many bytes, or it says nothing


@dataclass(frozen=True)
class Change:
    """What one output of a sweep has of its own.

    Attributes:
        weights: instead of the recipe's, all of them.
        scale: instead of the recipe's.
        place: where the folder will stand in the end, if it is moved; record and card name paths as seen from there.
    """

    weights: Mapping[str, float] | None = None
    scale: Scale | None = None
    place: Path | None = None

    @property
    def is_of_values(self) -> bool:
        """Whether the output is merged otherwise than the recipe says."""
        return self.weights is not None or self.scale is not None


def merge(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
    measure: bool = False,
    place: Path | None = None,
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
        measure: measure the speed of the disk beforehand, for the report, on a small part of the bytes.
        place: where the folder will stand in the end, if the caller moves it.

    Returns:
        What was merged, kept and dropped. The folder holds `model.safetensors`, config and tokenizer of the first
        source, `mmgrid.json` with the recipe, the sources' digests and the report, a model card, and, where mergekit
        has the method, a `mergekit_config.yml` for it.

    Raises:
        MergeError: recipe, sources or output folder do not fit.
        DiskFull, NotWritableError: the output cannot be written.
    """
    outputs = {str(out): Change(place=place)}
    (report,) = sweep(
        recipe, outputs, workers=workers, progress=progress, digests=digests, card=card, notes=notes, measure=measure
    )
    return report


def sweep(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    outputs: Mapping[str, Change] | Mapping[Path, Change],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
    measure: bool = False,
) -> list[MergeReport]:
    """Merge the same models several times, with other weights or another scale, in one reading of the sources.

    Args:
        outputs: new folder → what it has instead of the recipe's values.
        recipe, workers, progress, digests, card, notes, measure: as for `merge`.

    Returns:
        A report for each output, in their order. Each folder is as if it had been merged alone.

    Raises:
        MergeError: as for `merge`, or the recipe has rules, which a change cannot tell apart.
    """
    recipe, workers = MergeRecipe.load(recipe).anchored(), workers or default_workers()
    outs = {Path(out).absolute(): change for out, change in outputs.items()}
    for out in outs:
        check_outside(out, {str(path): path for path in paths_of(recipe)})
        check_free(out)  # now, and not after hours of reading
    if recipe.rules and any(change.is_of_values for change in outs.values()):
        raise MergeError("rules: a sweep cannot change weights or scale of a recipe with rules; merge one by one")
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_merge(recipe, workers=workers, digests=digests))
        speed = _speed(opened, list(outs), workers) if measure else None
        clock = time.monotonic()
        works = [stack.enter_context(_work(opened, out, change)) for out, change in outs.items()]
        finished = frozenset.intersection(*(work.journal.finished for work in works))
        counts = KeptCounts()
        for name in finished:
            for source, (kept, size) in works[0].journal.kept[name].items():
                counts.add(source, name, kept, size)
        counter = _Counter(opened, [work.journal for work in works], finished, counts, progress)
        run(
            opened.job,
            opened.plan,
            [work.variant for work in works],
            workers=workers,
            skip=finished,
            done=counter,
            counts=counts,
        )
        for work in works:
            work.finish(counts, card or model_card, tuple(notes))
        for folder in opened.folders.values():
            folder.check_unchanged()
    seconds = time.monotonic() - clock
    reports = [_report(opened, out, counts, seconds, tuple(notes)) for out in outs]
    if speed is None:
        return reports
    bound = speed.bound(read_bytes(opened), sum(report.bytes_written for report in reports))
    return [replace(report, bound=bound) for report in reports]


def _speed(opened: OpenMerge, outs: Sequence[Path], workers: int) -> DiskSpeed:
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    read, written = read_bytes(opened), len(outs) * sum(info.bytes for info in opened.plan.infos.values())
    some_read, some_written = (max(size // _MEASURED_SHARE, min(size, _MEASURED_LEAST)) for size in (read, written))
    return disk_speed(list(opened.folders.values()), outs[0].parent, some_read, some_written, workers)


@dataclass(frozen=True)
class _Work:
    """One output while it is made."""

    opened: OpenMerge
    recipe: MergeRecipe
    place: Path
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
        seen = relative_to(self.recipe, self.place.parent)
        write_record(self.folder, seen, self.opened.digests, plan, counts, notes)
        recipe, programs = relative_to(self.recipe, self.place), self.opened.job.programs
        with contextlib.suppress(NoCounterpartError):
            job = replace(self.opened.job, programs=tuple(self.variant.of(program) for program in programs))
            (self.folder / CONFIG_FILE).write_text(mergekit_config(recipe, job, plan), encoding="utf-8")
        facts = CardFacts(
            name=self.place.name,
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
            place = out if change.place is None else change.place.absolute()
            yield _Work(opened, recipe, place, folder, journal, Variant(writer, weights, change.scale))


def _changed(opened: OpenMerge, change: Change) -> MergeRecipe:
    """The recipe under a change, checked like any other."""
    recipe, last = opened.recipe, opened.job.programs[-1]
    if not change.is_of_values:
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
        sources={str(source.name): source.path for source in opened.recipe.sources},
        merged=tuple(plan.merged),
        kept=dict.fromkeys(plan.kept, KEPT),
        dropped=plan.dropped,
        parameters=sum(info.size for info in plan.merged.values()),
        kept_share=counts.shares(),
        kept_by_tower=counts.by_tower(),
        bytes_read=read_bytes(opened),
        bytes_written=sum(info.bytes for info in plan.infos.values()),
        seconds=seconds,
        hashing_seconds=opened.hashing_seconds,
        notes=notes,
    )


class _Counter:
    """Journals a tensor when all of it is written, and says how far the merge has come."""

    def __init__(
        self,
        opened: OpenMerge,
        journals: Sequence[Journal],
        finished: frozenset[str],
        counts: KeptCounts,
        progress: Progress | None,
    ) -> None:
        self.infos, self.journals, self.progress = opened.plan.infos, journals, progress
        self.counts, self.sources = counts, list(opened.job.sources)
        self.total = sum(info.bytes for info in self.infos.values())
        self.written = sum(self.infos[name].bytes for name in finished)

    def __call__(self, name: str, done: int, size: int) -> None:
        if done < size:
            return
        for journal in self.journals:
            journal.add(name, self.counts.of_tensor(name, self.sources))
        self.written += self.infos[name].bytes
        if self.progress is not None:
            self.progress(self.written, self.total, name)


def _facts(opened: OpenMerge, recipe: MergeRecipe) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: folder.stamps for name, folder in opened.folders.items()},
        "tensors": {name: (info.dtype, info.shape) for name, info in opened.plan.infos.items()},
        "blocks": [str(block) for block in opened.plan.blocks],
    }
