"""One folder that a merge writes, while it is being made: its journal, its weights, and the files beside them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE, licence_in, read_json
from mmgrid.files import clear_disk_errors
from mmgrid.merging.engine.kept_counts import KeptCounts
from mmgrid.merging.engine.run import Variant
from mmgrid.merging.mergekit.write import CONFIG_FILE, mergekit_config
from mmgrid.merging.mergekit.write_models import NoCounterpartError
from mmgrid.merging.models.chat_formats import chat_template
from mmgrid.merging.models.model_writer import ModelWriter, can_resume
from mmgrid.merging.models.modules import module_of
from mmgrid.merging.models.quantisation import CODES
from mmgrid.merging.models.settings import TIED
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.token_tensors import embeddings_in
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.merging.output.added_tokens import write_tokenizer
from mmgrid.merging.output.card import Card, CardFacts
from mmgrid.merging.output.companions import copy_block_files, copy_companions, write_chat_template
from mmgrid.merging.output.folder import clear, working
from mmgrid.merging.output.journal import Journal
from mmgrid.merging.output.own_files import OWN_KIND, own_files
from mmgrid.merging.output.record import own_model_type, relative_to, write_record
from mmgrid.merging.output.vocabulary import use_vocabulary
from mmgrid.merging.plan.block_layout import rows_of
from mmgrid.merging.plan.plan import Plan
from mmgrid.merging.plan.prepare import PreparedMerge
from mmgrid.merging.plan.program import Scale, apply_method
from mmgrid.merging.plan.recipe import MergeRecipe


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


@dataclass(frozen=True)
class Common:
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
class Output:
    """One output while it is being made."""

    common: Common
    recipe: MergeRecipe
    place: Path
    folder: Path
    journal: Journal
    writer: ModelWriter
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
        types = {info.dtype for info in self._own_tensors().values()}
        copy_companions(
            prepared.companions,
            self.folder,
            types.pop() if len(types) == 1 else None,
            vocabulary=_vocabulary(plan),
            tied=prepared.form.settings.get(TIED),
            quantised=any(info.dtype in CODES for info in plan.infos.values()),
            stack=prepared.stack,
            arranged=prepared.vocabulary is not None,
            written=prepared.modules,
        )
        if prepared.vocabulary is not None:
            use_vocabulary(prepared.vocabulary, prepared.companions, self.folder)
        if self.common.tokenizer is not None:
            write_tokenizer(self.folder, self.common.tokenizer)
        if self.recipe.chat_template is not None:
            write_chat_template(self.folder, chat_template(self.recipe.chat_template))
        copy_block_files(prepared.block_files, self.folder)

    def _own_tensors(self) -> dict[str, TensorInfo]:
        """The merged tensors without those of modules."""
        prepared = self.common.prepared
        return {name: info for name, info in prepared.plan.merged.items() if module_of(name, prepared.modules) is None}

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
            plan = replace(prepared.plan, merged=self._own_tensors())  # mergekit merges no modules
            text = mergekit_config(relative_to(self.recipe, self.place), program, plan, prepared.vocabulary)
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
def output_in(common: Common, out: Path, change: Change) -> Iterator[Output]:
    """The folder of one output: published at the end of the block, removed after an error, resumed after a kill."""
    prepared = common.prepared
    recipe = _changed(prepared, change)
    with clear_disk_errors(out, remedy="give another output folder"), working(out) as folder:
        facts = _facts(prepared, recipe)
        journal = Journal(folder, facts)
        resume = journal.can_resume and can_resume(folder, prepared.modules)
        if not resume:
            clear(folder)
            journal = Journal(folder, facts)
            journal.begin()
        with ModelWriter(
            folder,
            prepared.plan.stored,
            prepared.modules,
            resume=resume,
            twins=prepared.plan.twins,
            digest=OWN_KIND if common.digests else None,
        ) as writer:
            weights = None
            if change.weights is not None:
                by_name = {str(source.name): source.weight for source in recipe.sources}
                weights = [float(by_name[name] or 0.0) for name in prepared.program.sources]
            place = out if change.place is None else change.place.absolute()
            yield Output(common, recipe, place, folder, journal, writer, Variant(writer, weights, change.scale))


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


def _facts(prepared: PreparedMerge, recipe: MergeRecipe) -> dict[str, Any]:
    """Everything that the bytes of an output depend on."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "sources": {name: folder.stamps for name, folder in prepared.folders.items()},
        "tensors": {name: (info.dtype, info.shape) for name, info in prepared.plan.stored.items()},
        "blocks": [str(block) for block in prepared.plan.blocks],
    }


def _vocabulary(plan: Plan) -> int | None:
    """Number of token rows of the result; None if it has no embeddings, or several of different length."""
    if plan.blocks:
        return rows_of(plan.blocks)
    rows = {shape[0] for name in embeddings_in(plan.merged) if (shape := plan.merged[name].shape)}
    return rows.pop() if len(rows) == 1 else None
