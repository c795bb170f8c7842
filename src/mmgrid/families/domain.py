"""Writes the parts of one domain, its files, and measures what the parts lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.families.files import Lockers, facts_of, files_of
from mmgrid.families.measure import measured
from mmgrid.families.pair import Pair, Stored
from mmgrid.families.parts import PartChoice, PartOptions
from mmgrid.families.plan import plan_domain
from mmgrid.families.writers import WRITERS
from mmgrid.merging.models.adapter_names import ADAPTER_PREFIX
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.family.file import LOW_RANK_FOLDER, PART_FILES, DomainEntry
from mmgrid.merging.models.family.member import FamilyMember
from mmgrid.merging.models.header import read_header
from mmgrid.merging.models.lora import ADAPTER_FILE
from mmgrid.merging.models.source import Source


@dataclass(frozen=True)
class DomainTask:
    """A domain to write.

    Attributes:
        path: of its checkpoint, as the recipe names it. target: the open checkpoint.
        reference: what its parts are changes of. base: θ₀, for masks.
        choice: which part each tensor gets.
        after: the domain of the reference, in a chain.
        workers: number of threads.
    """

    name: str
    path: Path
    target: Source
    reference: Source
    base: Source | None
    choice: PartChoice
    after: str | None
    workers: int


def write_domain(
    task: DomainTask,
    folder: Path,
    lockers: Lockers,
    member: Callable[[DomainEntry], FamilyMember],
    count: Callable[[str, int], None],
    *,
    place: str | None = None,
) -> DomainEntry:
    """Write one domain.

    Args:
        folder: of its parts; exists.
        lockers: where equal files lie already.
        member: opens the domain as it was written, for comparison.
        count: called with each tensor's name and bytes when it is compared.
        place: the folder relative to the family's. Default: `parts/NAME`.

    Raises:
        MergeError: a tensor cannot be written as its part says.
    """
    target = Stored(task.target)
    place = place or f"parts/{task.name}"
    entry, parts = plan_domain(task.choice, target, task.reference, task.base, folder=place, after=task.after)
    pair = Pair(target, task.reference, task.base, entry)
    entry = _write_parts(pair, parts, folder, task.workers)
    facts, places = lockers.store(files_of(task.target, task.path), folder)
    weights = {name: facts_of(folder / name) for name in _weight_files(folder)}
    entry = entry.model_copy(update={"weights": weights, "files": facts, "places": places})
    sizes = part_bytes(entry, folder)
    entry = entry.model_copy(
        update={
            "parts": tuple(
                part.model_copy(update={"bytes": size}) for part, size in zip(entry.parts, sizes, strict=True)
            )
        }
    )
    task.target.check_unchanged()
    with member(entry) as opened:
        pair = Pair(target, task.reference, task.base, entry)
        return measured(entry, pair, opened, task.workers, lambda name: count(name, target.info(name).bytes))


def _write_parts(pair: Pair, parts: list[PartOptions], folder: Path, workers: int) -> DomainEntry:
    tensors = dict(pair.entry.tensors)
    for kind, write in WRITERS.items():
        names = {name: parts[each.part] for name, each in tensors.items() if each.kind == kind}
        more: Any = {}
        if names or (kind == "own" and any(rows.count("own") for rows in pair.rows.values())):
            more = write(pair, names, folder, workers)
        for name, facts in more.items():
            tensors[name] = tensors[name].model_copy(update=dict(facts))
    if not (folder / LOW_RANK_FOLDER).exists():  # all layers equal those of the reference
        for name, each in tensors.items():
            if each.kind == "low_rank":
                tensors[name] = each.model_copy(update={"kind": "shared"})
    return pair.entry.model_copy(update={"tensors": tensors})


def _weight_files(folder: Path) -> list[str]:
    found = [name for name in sorted(PART_FILES) if (folder / name).is_file()]
    adapter = [f"{LOW_RANK_FOLDER}/{name}" for name in (ADAPTER_CONFIG, ADAPTER_FILE)]
    return found + [name for name in adapter if (folder / name).is_file()]


def part_bytes(entry: DomainEntry, folder: Path) -> list[int]:
    """The bytes of each part of a domain: of what the files hold of its tensors."""
    sizes = [0] * len(entry.parts)
    for name in entry.weights:
        if not name.endswith(".safetensors"):
            continue
        for tensor, about in read_header(folder / name).items():
            owner = _owner(tensor, entry)
            if owner is not None:
                sizes[entry.tensors[owner].part] += about.end - about.start
    return sizes


def _owner(tensor: str, entry: DomainEntry) -> str | None:
    """The domain's tensor that a tensor in a file belongs to."""
    if tensor in entry.tensors:
        return tensor
    plain = tensor.rpartition(":")[0]
    if plain in entry.tensors:
        return plain
    module = tensor.removeprefix(ADAPTER_PREFIX).partition(".lora_")[0]
    return f"{module}.weight" if f"{module}.weight" in entry.tensors else None
