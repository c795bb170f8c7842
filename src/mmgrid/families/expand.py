"""Writes one domain of a family as a plain checkpoint, run by run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from mmgrid.families.models import runs_of
from mmgrid.files import blake3_file, clear_disk_errors, write_json
from mmgrid.merging.arrays.buffers import frame
from mmgrid.merging.arrays.chunks import Chunk
from mmgrid.merging.arrays.parallel import default_workers, for_each
from mmgrid.merging.engine.progress import MergeProgress
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.digests import Hashing
from mmgrid.merging.models.family.member import FamilyMember, open_member
from mmgrid.merging.models.family.place import EXPANSION_FILE
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.weight_files import WEIGHTS_FILE
from mmgrid.merging.output.folder import check_free, check_outside, clear, working


@dataclass(frozen=True)
class ExpandReport:
    """A checkpoint that was written.

    Attributes:
        out: its folder. domain: which one it is.
        tensors: their number. bytes_written: of its weights.
        error: ‖θ − θ̂‖ / ‖θ − reference‖ of the part that loses most; 0 if it is the domain's checkpoint bit for bit.
    """

    out: Path
    domain: str
    tensors: int
    bytes_written: int
    error: float
    seconds: float


def expand(
    family: str | Path,
    out: str | Path,
    *,
    domain: str | None = None,
    shared: str | Path | None = None,
    base: str | Path | None = None,
    workers: int | None = None,
    progress: MergeProgress | None = None,
    digests: bool = True,
) -> ExpandReport:
    """Write the checkpoint of one domain: `model.safetensors`, and the domain's other files byte for byte.

    `expansion.json` beside them says what the weights were put together from, and how exactly.

    Args:
        family: its folder, or the folder of one of its parts.
        out: the new folder; must not exist, or be empty. It appears complete or not at all.
        domain: of the family; may be left out if there is one.
        shared, base: the folders of these models, if they are not where the family says.
        workers: number of threads; does not change the result. Default: one per core.
        progress: called after each tensor with bytes written, bytes in all, and the tensor's name.
        digests: check the digests of all files that are read. They are cached by path, size and time.

    Raises:
        MergeError: there is no such family or domain, or a file is missing or damaged.
        DiskFull, NotWritableError: the output cannot be written.
    """
    clock, workers = time.monotonic(), workers or default_workers()
    target = Path(out).absolute()
    places = {"shared": None if shared is None else Path(shared), "base": None if base is None else Path(base)}
    with open_member(Path(family), domain, **places) as member:
        check_outside(target, [member.family_folder, *(path for path in places.values() if path is not None)])
        check_free(target)
        with clear_disk_errors(target, remedy="give another output folder"), working(target, EXPANSION_FILE) as work:
            clear(work)
            with Hashing(member.files if digests else [], workers, ["blake3"]) as hashing:
                if digests:
                    hashing.start()
                size = write_weights(member, work / WEIGHTS_FILE, workers, progress)
                if digests:
                    check_digests(member, hashing)
            member.check_unchanged()
            member.copy_files(work)
            if digests:
                _check_files(member, work)
            write_json(work / EXPANSION_FILE, _record(member))
        parts = member.entry.parts
        error = max((part.error for part in parts), default=0.0)
        return ExpandReport(target, member.domain, len(member), size, error, time.monotonic() - clock)


def write_weights(member: FamilyMember, file: Path, workers: int, progress: MergeProgress | None = None) -> int:
    """Write the tensors of a domain to a new safetensors file; returns their bytes."""
    infos = {name: member.info(name) for name in member}
    counter = _Counter(infos, progress)
    with TensorWriter(file, infos) as writer:

        def copy(chunk: Chunk) -> None:
            with frame():
                writer.write(chunk.tensor, chunk.start, member.read(chunk.tensor, chunk.start, chunk.stop))
            counter.add(chunk)

        for_each(runs_of(member), copy, workers)
    return counter.total


class _Counter:
    """Counts bytes that are written. Threads may share it."""

    def __init__(self, infos: dict[str, TensorInfo], progress: MergeProgress | None) -> None:
        self.total = sum(info.bytes for info in infos.values())
        self._width = {name: info.bytes // info.size if info.size else 0 for name, info in infos.items()}
        self._progress, self._done, self._adding = progress, 0, Lock()

    def add(self, chunk: Chunk) -> None:
        if self._progress is None:
            return
        with self._adding:
            self._done += (chunk.stop - chunk.start) * self._width[chunk.tensor]
            self._progress(self._done, self.total, chunk.tensor)


def check_digests(member: FamilyMember, hashing: Hashing) -> None:
    """Compare the files that a domain is read from with their digests in `family.json`.

    Raises:
        MergeError: a file is another one.
    """
    for file, digest in member.digests().items():
        found = hashing.of([file])[file.name]["blake3"]
        if found != digest:
            raise MergeError(
                f"{file}: is damaged: its digest is {found[:8]}…, and was {digest[:8]}… when the family was written; copy "
                "or write the family again"
            )


def _check_files(member: FamilyMember, folder: Path) -> None:
    for name, facts in member.entry.files.items():
        if blake3_file(folder / name) != facts.blake3:
            raise MergeError(f"{member.file(name)}: is damaged, or was changed; copy or write the family again")


def _record(member: FamilyMember) -> dict[str, object]:
    return {
        "family": member.family_folder.name,
        "domain": member.domain,
        "parts": [part.model_dump(mode="json") for part in member.entry.parts],
    }
