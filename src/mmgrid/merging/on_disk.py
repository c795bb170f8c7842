"""Merges models in folders into a new folder."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.cost import DiskSpeed, disk_speed, read_bytes
from mmgrid.merging.engine.kept_counts import KeptCounts
from mmgrid.merging.engine.progress import ByteCounter, MergeProgress
from mmgrid.merging.engine.run import run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.one_output import Change, Common, Output, output_in
from mmgrid.merging.output.card import Card, model_card
from mmgrid.merging.output.folder import check_free, check_outside
from mmgrid.merging.output.record import KEPT, declarations_of
from mmgrid.merging.output.report import MergeReport
from mmgrid.merging.output.tokenizer import fitted_tokenizer
from mmgrid.merging.plan.prepare import PreparedMerge, prepare_merge
from mmgrid.merging.plan.recipe import MergeRecipe

_MEASURED_SHARE = 64  # the disk's speed is measured on a 64th of the bytes …
_MEASURED_LEAST = 1 << 24  # … but on at least 16 MiB


def merge(
    recipe: MergeRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: MergeProgress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
    measure: bool = False,
    place: Path | None = None,
) -> MergeReport:
    """Merge model folders into a new one.

    Args:
        recipe: a recipe, a dict, or a YAML or JSON file.
        out: the new folder; must not exist, or be empty. It appears complete or not at all. The same call resumes a
            merge that was killed.
        workers: number of threads; does not change the result. Default: one per core.
        progress: called after each tensor with bytes written, bytes in all, and the tensor's name.
        digests: compute digests of the sources and of what is written, for the record. Without them, a source that
            has no name is named after its folder.
        card: writes the model card from its facts. Default: `card.model_card`.
        notes: remarks to add to record, card and report.
        measure: measure the disk's speed on a small part of the bytes beforehand, for the report.
        place: the final place of the folder, if the caller moves it.

    Returns:
        The tensors that were merged, kept and dropped. The folder contains `model.safetensors`, config and tokenizer of
        the first source, the files of its token blocks, `mmgrid.json` with the recipe, the sources' digests and the
        report, a model card, and `mergekit_config.yml` if mergekit has the method.

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
    progress: MergeProgress | None = None,
    digests: bool = True,
    card: Card | None = None,
    notes: Sequence[str] = (),
    measure: bool = False,
) -> list[MergeReport]:
    """Merge the same models several times, with different weights or scales, reading the sources once.

    Args:
        outputs: new folder → its differences from the recipe.
        recipe, workers, progress, digests, card, notes, measure: as for `merge`.

    Returns:
        A report for each output, in their order. Each folder is the same as if it had been merged alone.

    Raises:
        MergeError: as for `merge`, or an output changes the values of a recipe with rules.
    """
    recipe, workers = MergeRecipe.load(recipe).anchored(), workers or default_workers()
    changes = {Path(out).absolute(): change for out, change in outputs.items()}
    for out in changes:
        check_outside(out, recipe.paths)
        check_free(out)  # before hours of reading, not after
    if recipe.rules and any(change.is_of_values for change in changes.values()):
        raise MergeError("rules: a sweep cannot change weights or scale of a recipe with rules; merge one by one")
    with contextlib.ExitStack() as stack:
        prepared = stack.enter_context(prepare_merge(recipe, workers=workers, digests=digests))
        said = (*notes, *prepared.notes)
        common = Common(prepared, _tokenizer(prepared), declarations_of(prepared.recipe.sources), said, digests)
        speed = _speed(prepared, list(changes), workers) if measure else None
        clock = time.monotonic()
        made = [stack.enter_context(output_in(common, out, change)) for out, change in changes.items()]
        prepared.start_hashing()
        counts = _run(prepared, made, workers, progress)
        prepared.check_unchanged()  # before their digests are asked for, which would fail in other words
        for output in made:
            output.finish(counts, card or model_card)
        prepared.check_unchanged()
    seconds = time.monotonic() - clock
    reports = [_report(prepared, out, counts, seconds, said) for out in changes]
    if speed is None:
        return reports
    bound = speed.bound(read_bytes(prepared), sum(report.bytes_written for report in reports))
    return [replace(report, bound=bound) for report in reports]


def _run(
    prepared: PreparedMerge, outputs: Sequence[Output], workers: int, progress: MergeProgress | None
) -> KeptCounts:
    """Write the tensors that are not finished in all outputs, and journal them."""
    finished = frozenset.intersection(*(output.journal.finished for output in outputs))
    counts = KeptCounts()
    for name in finished:
        for source, (kept, size) in outputs[0].journal.kept[name].items():
            counts.add(source, name, kept, size)
    counter = ByteCounter(prepared.plan.infos, progress, finished)
    sources = list(prepared.program.sources)

    def done(name: str, elements: int, size: int) -> None:
        if elements < size:
            return
        for output in outputs:
            output.journal.add(name, counts.of_tensor(name, sources))
        counter.add(name)

    variants = [output.variant for output in outputs]
    return run(prepared.program, prepared.plan, variants, workers=workers, skip=finished, done=done, counts=counts)


def _tokenizer(prepared: PreparedMerge) -> str | None:
    folders = {name: source.companions for name, source in prepared.folders.items()}
    first = str(prepared.recipe.sources[0].name)
    return fitted_tokenizer(prepared.companions, prepared.plan.blocks, prepared.tables, folders, first)


def _speed(prepared: PreparedMerge, outs: Sequence[Path], workers: int) -> DiskSpeed:
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    read, written = read_bytes(prepared), len(outs) * sum(info.bytes for info in prepared.plan.stored.values())
    some_read, some_written = (max(size // _MEASURED_SHARE, min(size, _MEASURED_LEAST)) for size in (read, written))
    return disk_speed(list(prepared.folders.values()), outs[0].parent, some_read, some_written, workers)


def _report(
    prepared: PreparedMerge, out: Path, counts: KeptCounts, seconds: float, notes: tuple[str, ...]
) -> MergeReport:
    plan = prepared.plan
    return MergeReport(
        out=out,
        sources={str(source.name): source.path for source in prepared.recipe.sources},
        merged=tuple(plan.merged),
        kept=dict.fromkeys(plan.kept, KEPT),
        dropped=plan.dropped,
        parameters=sum(info.size for info in plan.merged.values()),
        kept_share=counts.shares(),
        kept_by_tower=counts.by_tower(),
        bytes_read=read_bytes(prepared),
        bytes_written=sum(info.bytes for info in plan.stored.values()),
        seconds=seconds,
        hashing_seconds=prepared.hashing_seconds,
        notes=notes,
    )
