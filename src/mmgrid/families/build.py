"""Writes a family: the shared model, then domain by domain its parts, its files, and what the parts lose."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgrid import __version__
from mmgrid.families.domain import DomainTask, write_domain
from mmgrid.families.files import Lockers
from mmgrid.families.models import check_folder, elsewhere, inside, put_model
from mmgrid.families.notes import notes_of
from mmgrid.families.recipe import BASE, MERGE, FamilyRecipe
from mmgrid.families.report import FamilyReport, report_of
from mmgrid.families.unused import take_out, unused_tensors
from mmgrid.files import clear_disk_errors, write_json
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.progress import MergeProgress
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import get_method
from mmgrid.merging.models.family.file import BASE_FOLDER, SHARED_FOLDER, DomainEntry, FamilyFile, ModelPlace
from mmgrid.merging.models.family.member import FamilyMember
from mmgrid.merging.models.family.place import FAMILY_FILE, PARTS_FOLDER
from mmgrid.merging.models.hub import found
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.sources import is_adapter, open_source
from mmgrid.merging.models.token_blocks import BACKBONE, BlockTable
from mmgrid.merging.on_disk import merge
from mmgrid.merging.output.folder import check_free, check_outside, clear, working
from mmgrid.merging.output.record import relative_path, relative_to
from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource


def build(
    recipe: FamilyRecipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: MergeProgress | None = None,
    digests: bool = True,
    place: Path | None = None,
) -> FamilyReport:
    """Write a family of models.

    Args:
        recipe: a `FamilyRecipe`, a dict, or a YAML or JSON file.
        out: the new folder; must not exist, or be empty. It appears complete or not at all.
        workers: number of threads; does not change the result. Default: one per core.
        progress: called with bytes done, bytes in all, and the tensor's name, while domains are read back and compared.
        digests: as for `merge`, which makes the shared model.
        place: the final place of the folder, if the caller moves it; paths in its files are counted from there.

    Returns:
        The bytes and errors of each part. Errors are measured on what was written and read back.

    Raises:
        MergeError: recipe, sources or output folder do not fit.
        DiskFull, NotWritableError: the output cannot be written.
    """
    clock = time.monotonic()
    family = FamilyRecipe.load(recipe)
    merged = family.merge.with_paths(found)
    out, workers = Path(out).absolute(), workers or default_workers()
    check_outside(out, [*merged.paths, *([family.shared_path] if family.shared_path else [])])
    check_free(out)
    if any(source.stack for source in merged.sources):
        raise MergeError("sources: a source of a family is a checkpoint, and cannot be stacked; merge it first")
    with clear_disk_errors(out, remedy="give another output folder"), working(out, FAMILY_FILE) as work:
        clear(work)
        builder = _Builder(
            recipe=family,
            merged=merged,
            place=place or out,
            work=work,
            workers=workers,
            digests=digests,
            progress=progress,
        )
        written = builder.write()
        write_json(work / FAMILY_FILE, written.as_json())
    return FamilyReport(
        out,
        {name: report_of(entry) for name, entry in written.domains.items()},
        builder.shared_bytes,
        time.monotonic() - clock,
        tuple(builder.notes),
    )


@dataclass
class _Builder:
    """One family while it is being written, in the folder `work`."""

    recipe: FamilyRecipe
    merged: MergeRecipe
    place: Path
    work: Path
    workers: int
    digests: bool
    progress: MergeProgress | None
    notes: list[str] = field(default_factory=list)
    shared_bytes: int = 0
    done: int = 0

    def write(self) -> FamilyFile:
        total = self._total()
        self.lockers = Lockers(self.work)
        shared, place = self._shared()
        base, base_place = self._base()
        domains: dict[str, DomainEntry] = {}
        recipe = relative_to(self.merged, self.place.parent).model_dump(mode="json")
        if self.recipe.spec.chain or self.recipe.spec.shared != MERGE:
            recipe.pop("method")
        family = self.recipe.spec.model_dump(mode="json")
        if self.recipe.shared_path is not None:
            family["shared"] = relative_path(found(self.recipe.shared_path), self.place.parent).as_posix()
        about = {
            "mmgrid": __version__,
            "shared": place,
            "base": base_place,
            "recipe": recipe | {"family": family},
        }
        with contextlib.ExitStack() as stack:
            reference: Source = stack.enter_context(open_model(shared))
            below = None if base is None else stack.enter_context(open_model(base))
            before: str | None = None
            for source in self.merged.sources:
                name = str(source.name)
                folder = self.work / PARTS_FOLDER / name
                folder.mkdir(parents=True)
                task = DomainTask(
                    name=name,
                    path=source.path,
                    target=stack.enter_context(self._open(source)),
                    reference=reference,
                    base=below,
                    choice=self.recipe.spec,
                    after=before,
                    workers=self.workers,
                )

                def member(entry: DomainEntry, name: str = name) -> FamilyMember:
                    family = FamilyFile(**about, domains={**domains, name: entry})
                    return FamilyMember(self.work, family, name, shared=shared, base=base)

                domains[name] = write_domain(task, folder, self.lockers, member, self._counting(total))
                self.notes += notes_of(name, domains[name])
                if self.recipe.spec.chain:
                    reference = stack.enter_context(member(domains[name]))
                    before = name
        about["shared"] = self._without_unused(place, domains)
        return FamilyFile(**about, domains=domains, notes=tuple(self.notes))

    def _without_unused(self, place: ModelPlace, domains: Mapping[str, DomainEntry]) -> ModelPlace:
        """The place of the shared model; if it lies in the family, without what every domain stores for itself.

        Adapters need a whole model under them.
        """
        folder = self.work / SHARED_FOLDER
        if place.path != SHARED_FOLDER or any(part.kind == "low_rank" for part in self.recipe.spec.all):
            return place
        if not take_out(unused_tensors(domains.values()), folder, self.workers):
            return place
        self.shared_bytes -= sum(facts.bytes for facts in place.files.values())
        return self._noted(folder)

    def _shared(self) -> tuple[Path, ModelPlace]:
        """The folder of the shared model, and its place in `family.json`."""
        spec, folder = self.recipe.spec, self.work / SHARED_FOLDER
        if spec.chain:
            first = self.merged.sources[0]
            with open_source(first.path, first.onto) as source:
                put_model(source, first.path, folder, self.workers)
        elif spec.shared == MERGE:
            self._merge(folder)
        elif spec.shared == BASE:
            assert self.merged.base is not None
            return self._placed(self.merged.base, folder)
        else:
            assert self.recipe.shared_path is not None
            path = found(self.recipe.shared_path)
            with open_model(path) as model:
                put_model(model, path, folder, self.workers)
        return folder, self._noted(folder)

    def _base(self) -> tuple[Path | None, ModelPlace | None]:
        if not self.recipe.spec.masks:
            return None, None
        assert self.merged.base is not None
        return self._placed(self.merged.base, self.work / BASE_FOLDER)

    def _placed(self, path: Path, folder: Path) -> tuple[Path, ModelPlace]:
        """A copy of the base in the family, or the base where it lies."""
        check_folder("base", path)
        if is_adapter(path) or self.merged.base_onto or self.merged.base_stack:
            raise MergeError(f"base: {path}: must be a plain checkpoint; merge the adapter, or stack the layers, first")
        with open_model(path) as model:
            if not self.recipe.spec.copy_base:
                return path, elsewhere(path, model.files, self.place, self.workers)
            put_model(model, path, folder, self.workers)
        return folder, self._noted(folder)

    def _noted(self, folder: Path) -> ModelPlace:
        with open_model(folder) as model:
            place = inside(folder, self.work, model.files)
        weights = set(place.files)
        others = [file.name for file in folder.iterdir() if file.is_file() and file.name not in weights]
        self.lockers.note(folder, sorted(others))
        self.shared_bytes += sum(facts.bytes for facts in place.files.values())
        return place

    def _merge(self, folder: Path) -> None:
        """The shared model, a merge; token rows of all domains stay in it."""
        recipe = self.merged
        if not recipe.blocks and any(BlockTable.read(source.path) for source in recipe.sources if source.path.is_dir()):
            recipe = recipe.model_copy(update={"blocks": {BACKBONE: "merge", "*": "keep_all"}})
        if get_method(recipe.method).base == "none":  # then the base is there for masks
            recipe = recipe.model_copy(update={"base": None})
        merge(recipe, folder, workers=self.workers, digests=self.digests, place=self.place / SHARED_FOLDER)

    def _open(self, source: MergeSource) -> Source:
        return open_source(source.path, source.onto, self.merged.base)

    def _total(self) -> int:
        """The bytes of all domains' tensors, after a check that each rule of the recipe is for some of them."""
        total, names = 0, set[str]()
        for source in self.merged.sources:
            with self._open(source) as opened:
                total += sum(opened.info(name).bytes for name in opened)
                names.update(opened)
        if (idle := self.recipe.spec.idle(names)) is not None:
            raise MergeError(f"family.{idle}; the models have {min(names)}, …")
        return total

    def _counting(self, total: int) -> Callable[[str, int], None]:
        def count(name: str, size: int) -> None:
            self.done += size
            if self.progress is not None:
                self.progress(min(self.done, total), total, name)

        return count
