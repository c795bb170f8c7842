"""Stores one checkpoint as its difference from another model, which stays where it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmgrid import __version__
from mmgrid.families.domain import DomainTask, write_domain
from mmgrid.families.files import Lockers
from mmgrid.families.models import check_folder, elsewhere
from mmgrid.families.notes import notes_of
from mmgrid.families.parts import PartChoice
from mmgrid.families.recipe import declared_name, described
from mmgrid.families.report import FamilyReport, report_of
from mmgrid.files import clear_disk_errors, write_json
from mmgrid.merging.arrays.parallel import default_workers
from mmgrid.merging.engine.progress import MergeProgress
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.family.file import DomainEntry, FamilyFile
from mmgrid.merging.models.family.member import FamilyMember, open_member
from mmgrid.merging.models.family.place import FAMILY_FILE, is_family
from mmgrid.merging.models.hub import found
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.sources import is_adapter, open_source
from mmgrid.merging.output.folder import check_free, check_outside, clear, working


def compress(
    checkpoint: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    part: str | Mapping[str, Any] = "delta",
    towers: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: MergeProgress | None = None,
    place: Path | None = None,
) -> FamilyReport:
    """Store a checkpoint as its difference from a base.

    The folder stands for the checkpoint wherever mmgrid takes one: it has all of its files except the weights.

    Args:
        checkpoint: its folder, also that of a LoRA adapter or of a family's part.
        base: the folder of the model that it was trained from, which may itself be stored so; it must stay, unchanged.
        out: the new folder; must not exist, or be empty. It appears complete or not at all.
        part: `delta`, `exact` or `low_rank`, or a dict with options: `{"kind": "delta", "bits": 4}`.
        towers: tower, such as `item` → another part for it.
        workers: number of threads; does not change the result. Default: one per core.
        progress: called with bytes done, bytes in all, and the tensor's name, while the result is read back.
        place: the final place of the folder, if the caller moves it; the base's path is counted from there.

    Raises:
        MergeError: the models do not fit each other, or a part is wrong.
        DiskFull, NotWritableError: the output cannot be written.
    """
    clock, workers = time.monotonic(), workers or default_workers()
    choice = _choice(part, towers)
    source_path, base_path, target = found(Path(checkpoint)), found(Path(base)).absolute(), Path(out).absolute()
    check_folder("base", base_path)
    if is_adapter(base_path):
        raise MergeError(f"{base_path}: is an adapter; the base must be a plain checkpoint")
    if is_family(base_path) and any(part.kind == "low_rank" for part in choice.all):
        raise MergeError(
            f"{base_path}: is stored as a difference, and an adapter needs a plain model under it; expand it first, or "
            "choose delta or exact"
        )
    check_outside(target, [source_path, base_path])
    check_free(target)
    done = 0
    with open_source(source_path, base=base_path) as source, _open_base(base_path) as reference:
        weights = reference.weights if isinstance(reference, FamilyMember) else reference.files
        total = sum(source.info(name).bytes for name in source)
        name = declared_name(source_path, "domain")
        if (idle := choice.idle(list(source))) is not None:
            raise MergeError(f"{idle}; the checkpoint has {min(source)}, …")

        def count(tensor: str, size: int) -> None:
            nonlocal done
            done += size
            if progress is not None:
                progress(min(done, total), total, tensor)

        with clear_disk_errors(target, remedy="give another output folder"), working(target, FAMILY_FILE) as work:
            clear(work)
            about = {
                "mmgrid": __version__,
                "shared": elsewhere(base_path, weights, place or target, workers),
                "recipe": {"family": choice.model_dump(mode="json")},
            }

            def member(entry: DomainEntry) -> FamilyMember:
                return FamilyMember(work, FamilyFile(**about, domains={name: entry}), name, shared=base_path)

            task = DomainTask(
                name=name,
                path=source_path,
                target=source,
                reference=reference,
                base=None,
                choice=choice,
                after=None,
                workers=workers,
            )
            entry = write_domain(task, work, Lockers(work), member, count, place=".")
            write_json(work / FAMILY_FILE, FamilyFile(**about, domains={name: entry}).as_json())
    return FamilyReport(target, {name: report_of(entry)}, 0, time.monotonic() - clock, tuple(notes_of(name, entry)))


def _open_base(path: Path) -> Source:
    return open_member(path) if is_family(path) else open_model(path)


def _choice(part: str | Mapping[str, Any], towers: Mapping[str, Any] | None) -> PartChoice:
    try:
        choice = PartChoice.model_validate({"part": part, "towers": dict(towers or {})})
    except ValidationError as error:
        raise MergeError(described(error, "", PartChoice)) from error
    if choice.masks:
        raise MergeError("part: a mask chooses from what several models changed; choose delta, exact or low_rank")
    return choice
