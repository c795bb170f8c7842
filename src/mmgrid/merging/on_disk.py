"""Merges models in folders into a new folder."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE, licence_in, read_json
from mmgrid.files import clear_disk_errors
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.cost import DiskSpeed, disk_speed, read_bytes
from mmgrid.merging.engine.kept_counts import KeptCounts
from mmgrid.merging.engine.progress import ByteCounter, MergeProgress
from mmgrid.merging.engine.run import Variant, run
from mmgrid.merging.errors import MergeError
from mmgrid.merging.mergekit.write import CONFIG_FILE, mergekit_config
from mmgrid.merging.mergekit.write_models import NoCounterpartError
from mmgrid.merging.models.chat_formats import chat_template
from mmgrid.merging.models.quantisation import CODES
from mmgrid.merging.models.settings import TIED
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.token_tensors import embeddings_in
from mmgrid.merging.models.tokens import TOKENIZER_FILE
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.merging.output.card import Card, CardFacts, model_card
from mmgrid.merging.output.companions import copy_block_files, copy_companions, write_chat_template
from mmgrid.merging.output.folder import check_free, check_outside, clear, working
from mmgrid.merging.output.journal import Journal
from mmgrid.merging.output.own_files import OWN_KIND, own_files
from mmgrid.merging.output.record import KEPT, declarations_of, own_model_type, relative_to, write_record
from mmgrid.merging.output.report import MergeReport
from mmgrid.merging.output.tokenizer import fitted_tokenizer
from mmgrid.merging.output.vocabulary import use_vocabulary
from mmgrid.merging.plan.block_layout import rows_of
from mmgrid.merging.plan.plan import Plan
from mmgrid.merging.plan.prepare import PreparedMerge, prepare_merge
from mmgrid.merging.plan.program import Scale, apply_method
from mmgrid.merging.plan.recipe import MergeRecipe

_MEASURED_SHARE = 64  # the disk's speed is measured on a 64th of the bytes …
_MEASURED_LEAST = 1 << 24  # … but on at least 16 MiB


@dataclass(frozen=True)
class Change:
    """The settings of one output of a sweep that differ from the recipe.

    Attributes:
        weights: the weights of all sources, instead of the recipe's.
        scale: instead of the recipe's.
        place: the final place of the folder, if the caller moves it; record and card contain paths relative to it.
    """

    weights: Mapping[str, float] | None = None
    scale: Scale | None = None
    place: Path | None = None

    @property
    def is_of_values(self) -> bool:
        """Whether weights or scale differ from the recipe."""
        return self.weights is not None or self.scale is not None


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
        common = _Common(prepared, _tokenizer(prepared), declarations_of(prepared.recipe.sources), said, digests)
        speed = _speed(prepared, list(changes), workers) if measure else None
        clock = time.monotonic()
        made = [stack.enter_context(_output(common, out, change)) for out, change in changes.items()]
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


@dataclass(frozen=True)
class _Common:
    """The state that all outputs of a sweep share.

    Attributes:
        tokenizer: the text of `tokenizer.json`; None to copy the file of the companions.
        made_from: name of the source → what it declares about itself.
        digests: whether records hold the digests of what is written.
    """

    prepared: PreparedMerge
    tokenizer: str | None
    made_from: Mapping[str, Any]
    notes: tuple[str, ...]
    digests: bool


@dataclass(frozen=True)
class _Output:
    """One output while it is being made."""

    common: _Common
    recipe: MergeRecipe
    place: Path
    folder: Path
    journal: Journal
    writer: TensorWriter
    variant: Variant

    def finish(self, counts: KeptCounts, card: Card) -> None:
        """Add the files that accompany the weights."""
        self._write_companions()
        self._write_record(counts)
        self._write_mergekit_config()
        (self.folder / CARD_FILE).write_text(card(self._card_facts(counts)), encoding="utf-8")
        self.journal.remove()

    def _write_companions(self) -> None:
        """Config, tokenizer, chat template, and the files of token blocks."""
        prepared, plan = self.common.prepared, self.common.prepared.plan
        types = {info.dtype for info in plan.merged.values()}
        copy_companions(
            prepared.companions,
            self.folder,
            types.pop() if len(types) == 1 else None,
            vocabulary=_vocabulary(plan),
            tied=prepared.form.settings.get(TIED),
            quantised=any(info.dtype in CODES for info in plan.infos.values()),
            stack=prepared.stack,
            arranged=prepared.vocabulary is not None,
        )
        if prepared.vocabulary is not None:
            use_vocabulary(prepared.vocabulary, prepared.companions, self.folder)
        if self.common.tokenizer is not None:
            (self.folder / TOKENIZER_FILE).write_text(self.common.tokenizer, encoding="utf-8")
        if self.recipe.chat_template is not None:
            write_chat_template(self.folder, chat_template(self.recipe.chat_template))
        copy_block_files(prepared.block_files, self.folder)

    def _write_record(self, counts: KeptCounts) -> None:
        prepared = self.common.prepared
        write_record(
            self.folder,
            relative_to(self.recipe, self.place.parent),
            prepared.digests,
            prepared.plan,
            counts,
            notes=self.common.notes,
            made_from=self.common.made_from,
            vocabulary=None if prepared.vocabulary is None else prepared.vocabulary.as_json(),
            files=self._own_files(),
        )

    def _write_mergekit_config(self) -> None:
        """The same merge for mergekit, if it has the method."""
        prepared = self.common.prepared
        methods = tuple(self.variant.of(applied) for applied in prepared.program.methods)
        with contextlib.suppress(NoCounterpartError):
            program = replace(prepared.program, methods=methods)
            text = mergekit_config(relative_to(self.recipe, self.place), program, prepared.plan, prepared.vocabulary)
            (self.folder / CONFIG_FILE).write_text(text, encoding="utf-8")

    def _card_facts(self, counts: KeptCounts) -> CardFacts:
        prepared, plan = self.common.prepared, self.common.prepared.plan
        return CardFacts(
            name=self.place.name,
            recipe=relative_to(self.recipe, self.place),
            digests=prepared.digests,
            tensors=(len(plan.merged), len(plan.kept), len(plan.dropped)),
            parameters=sum(info.size for info in plan.merged.values()),
            kept_share=counts.by_tower(),
            notes=self.common.notes,
            companions=frozenset(path.name for path in self.folder.iterdir()),
            own_model_type=own_model_type(self.folder, self.common.made_from),
            config=read_json(self.folder / "config.json"),
            made_from=self.common.made_from,
            licences=tuple(licence_in(source.companions) for source in prepared.folders.values()),
        )

    def _own_files(self) -> dict[str, Any] | None:
        """The digests of what has been written; None without digests."""
        digest = self.writer.digest()
        return None if digest is None else own_files(self.folder, {WEIGHTS_FILE: digest})


@contextlib.contextmanager
def _output(common: _Common, out: Path, change: Change) -> Iterator[_Output]:
    """The folder of one output: published at the end of the block, removed after an error, resumed after a kill."""
    prepared = common.prepared
    recipe = _changed(prepared, change)
    with clear_disk_errors(out, remedy="give another output folder"), working(out) as folder:
        facts = _facts(prepared, recipe)
        journal = Journal(folder, facts)
        resume = journal.can_resume and (folder / WEIGHTS_FILE).is_file()
        if not resume:
            clear(folder)
            journal = Journal(folder, facts)
            journal.begin()
        with TensorWriter(
            folder / WEIGHTS_FILE,
            prepared.plan.stored,
            resume=resume,
            twins=prepared.plan.twins,
            digest=OWN_KIND if common.digests else None,
        ) as writer:
            weights = None
            if change.weights is not None:
                by_name = {str(source.name): source.weight for source in recipe.sources}
                weights = [float(by_name[name] or 0.0) for name in prepared.program.sources]
            place = out if change.place is None else change.place.absolute()
            yield _Output(common, recipe, place, folder, journal, writer, Variant(writer, weights, change.scale))


def _run(
    prepared: PreparedMerge, outputs: Sequence[_Output], workers: int, progress: MergeProgress | None
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


def _vocabulary(plan: Plan) -> int | None:
    """Number of token rows of the result; None if it has no embeddings, or several of different length."""
    if plan.blocks:
        return rows_of(plan.blocks)
    rows = {plan.merged[name].shape[0] for name in embeddings_in(plan.merged)}
    return rows.pop() if len(rows) == 1 else None


def _tokenizer(prepared: PreparedMerge) -> str | None:
    folders = {name: source.companions for name, source in prepared.folders.items()}
    first = str(prepared.recipe.sources[0].name)
    return fitted_tokenizer(prepared.companions, prepared.plan.blocks, prepared.tables, folders, first)


def _speed(prepared: PreparedMerge, outs: Sequence[Path], workers: int) -> DiskSpeed:
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    read, written = read_bytes(prepared), len(outs) * sum(info.bytes for info in prepared.plan.stored.values())
    some_read, some_written = (max(size // _MEASURED_SHARE, min(size, _MEASURED_LEAST)) for size in (read, written))
    return disk_speed(list(prepared.folders.values()), outs[0].parent, some_read, some_written, workers)


def _changed(prepared: PreparedMerge, change: Change) -> MergeRecipe:
    """The recipe with the changed values, checked like any other."""
    recipe, own = prepared.recipe, prepared.program.methods[-1]
    if not change.is_of_values:
        return recipe
    applied = apply_method(
        own.method,
        prepared.program.sources,
        own.base,
        recipe.weights if change.weights is None else change.weights,
        recipe.scale if change.scale is None else change.scale,
        own.options,
    )
    changed = dict(zip(prepared.program.sources, applied.weights, strict=True))
    return recipe.with_weights(changed).model_copy(update={"scale": applied.scale})


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


def _facts(prepared: PreparedMerge, recipe: MergeRecipe) -> dict[str, Any]:
    """Everything that the bytes of an output depend on."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: folder.stamps for name, folder in prepared.folders.items()},
        "tensors": {name: (info.dtype, info.shape) for name, info in prepared.plan.stored.items()},
        "blocks": [str(block) for block in prepared.plan.blocks],
    }
