"""The checkpoint of one domain of a family, as named tensors: what merging, expanding and loading read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mmgrid.files import HubName
from mmgrid.merging.arrays.buffers import take
from mmgrid.merging.arrays.floats import STORAGE, Floats, widen
from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.closing import Closing
from mmgrid.merging.models.family.facts import check_facts, check_size, same_sample
from mmgrid.merging.models.family.file import (
    FILE_OF_KIND,
    LOW_RANK_FOLDER,
    DomainEntry,
    FamilyFile,
    ModelPlace,
    PartEntry,
    TensorEntry,
)
from mmgrid.merging.models.family.place import MemberPlace, family_of, is_family
from mmgrid.merging.models.family.readers import (
    DeltaReader,
    ExactReader,
    MaskReader,
    PartFile,
    as_type,
    rounded,
)
from mmgrid.merging.models.family.rows import RowMap, read_spans
from mmgrid.merging.models.hub import found
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.quantised import open_model
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.stamps import check_stamp, stamp_of
from mmgrid.merging.models.tensors import TensorInfo


def open_member(
    path: Path, domain: str | None = None, *, shared: Path | None = None, base: Path | None = None
) -> FamilyMember:
    """Open a domain's checkpoint: by the family's folder and the domain, or by the folder of its parts alone.

    shared, base: see `FamilyMember`.

    Raises:
        MergeError: there is no such family or domain, or files are missing or damaged.
    """
    place = family_of(path)
    if place is None:
        raise MergeError(f"{path}: is no family of mmgrid: it has no family.json")
    family = FamilyFile.read(place.family)
    name = family.domain(domain or place.domain, path)
    return FamilyMember(place.family, family, name, shared=shared or place.shared, base=base or place.base)


class FamilyMember(Closing):
    """The tensors of one domain's checkpoint, as `Source`. Threads may share it.

    Args:
        folder: the family's.
        family: the content of its `family.json`.
        domain: a name in it.
        shared, base: the folders of these models, if they are not where the family says.
        under: the families that are being opened as changes of this one.

    Raises:
        MergeError: a file is missing, damaged, or another one than when the family was written.
    """

    def __init__(
        self,
        folder: Path,
        family: FamilyFile,
        domain: str,
        *,
        shared: Path | None = None,
        base: Path | None = None,
        under: tuple[Path, ...] = (),
    ) -> None:
        self.family_folder, self.family, self.domain = folder, family, domain
        self._under = (*under, folder.resolve())
        self.entry: DomainEntry = family.domains[domain]
        self.path = folder / self.entry.folder
        self._place = MemberPlace(folder.absolute(), domain, shared, base)
        self._closing = contextlib.ExitStack()
        self._temporary: Path | None = None
        self._digests: dict[Path, str] = {}
        with contextlib.ExitStack() as opening:
            self._open(opening, shared, base)
            self._closing = opening.pop_all()
        self.stamps = [stamp_of(file) for file in self.files]

    # ---- what a source offers ----------------------------------------------------------------------------------

    @property
    def companions(self) -> Path:
        """A folder with config, tokenizer and declarations; a temporary one, if they lie in several."""
        return self.checkpoint() if self.entry.places else self.path

    def checkpoint(self) -> Path:
        """A folder that stands for the domain's checkpoint: with its files, and a note where the weights are.

        Unless the family's folder is that already, it is a temporary one, which ends with `close`.
        """
        if self.entry.folder == ".":
            return self.path
        if self._temporary is None:
            self._temporary = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="mmgrid-")))
            self.copy_files(self._temporary)
            self._place.write(self._temporary)
        return self._temporary

    @property
    def files(self) -> list[Path]:
        """All files that the tensors depend on."""
        before = self._before.files if self._before is not None else []
        return list(dict.fromkeys([*self.weights, *self._shared_files, *before]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.entry.tensors)

    def __len__(self) -> int:
        return len(self.entry.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.entry.tensors

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without reading it."""
        entry = self.entry.tensors[name]
        return TensorInfo(entry.dtype, entry.shape)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) of a tensor in row-major order, stored as in `floats.STORAGE`."""
        entry = self.entry.tensors[name]
        if entry.kind == "twin":
            return self.read(str(entry.like), start, stop)
        rows = self._rows.get(name)
        if rows is None:
            return self._part(name, entry, start, stop)
        pieces = list(rows.pieces(start, stop))
        if len(pieces) == 1:
            return self._piece(name, entry, pieces[0].how, pieces[0].place, stop - start)
        found, done = take(stop - start, STORAGE[entry.dtype]), 0
        for piece in pieces:
            found[done : done + piece.length] = self._piece(name, entry, piece.how, piece.place, piece.length)
            done += piece.length
        return found

    def check_unchanged(self) -> None:
        """Check that nobody has written to the files since they were opened.

        Raises:
            MergeError: somebody has.
        """
        for file, stamp in zip(self.files, self.stamps, strict=True):
            check_stamp(file, stamp)

    def close(self) -> None:
        self._closing.close()
        self._temporary = None

    def digests(self) -> dict[Path, str]:
        """The BLAKE3 digest that each of the files had when the family was written."""
        found: dict[Path, str] = {}
        for below in (self._before, self._shared):
            found |= below.digests() if isinstance(below, FamilyMember) else {}
        return found | self._digests

    # ---- the domain's other files ------------------------------------------------------------------------------

    def file(self, name: str) -> Path:
        """Where one of the domain's other files lies."""
        return self.family_folder / self.entry.places.get(name, self.entry.folder) / name

    def copy_files(self, folder: Path) -> None:
        """Copy the domain's other files, byte for byte.

        Raises:
            MergeError: one is missing, or of another size than when the family was written.
        """
        for name, facts in self.entry.files.items():
            check_size(self.file(name), facts)
            shutil.copyfile(self.file(name), folder / name)

    # ---- opening -----------------------------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack, shared: Path | None, below: Path | None) -> None:
        family, entry = self.family, self.entry
        used = {each.kind for each in entry.tensors.values()}
        self._rows = row_maps(entry)
        self._before = None
        if entry.after is not None:
            self._before = stack.enter_context(
                FamilyMember(self.family_folder, family, entry.after, shared=shared, base=below)
            )
        place = self._model_place(family.shared, shared)
        self._shared = stack.enter_context(self._open_reference(place))
        self._shared_files = [*self._shared.files]
        self._base: Source | None = None
        if "mask" in used:
            if family.base is None:
                raise MergeError(f"{self.family_folder}: names no base, which masks need; write the family again")
            self._base = stack.enter_context(open_model(self._model_place(family.base, below)))
            self._shared_files += self._base.files
        self.weights = [self.path / name for name in entry.weights]
        for file, facts in zip(self.weights, entry.weights.values(), strict=True):
            check_facts(file, facts)
            self._digests[file] = facts.blake3
        opened = {kind: PartFile(self.path / file) for kind, file in FILE_OF_KIND.items() if file in entry.weights}
        for each in opened.values():
            stack.callback(each.folder.close)
        lacking = sorted((used & FILE_OF_KIND.keys()) - opened.keys())
        if lacking:
            raise MergeError(
                f"{self.path}: lacks {listing(FILE_OF_KIND[kind] for kind in lacking)}; write the family again"
            )
        self._own = opened.get("own")
        self._adapter: Source | None = None
        if "low_rank" in used:
            self._adapter = stack.enter_context(LoraFolder(self.path / LOW_RANK_FOLDER, place))
        self._readers: dict[str, DeltaReader | MaskReader | ExactReader] = {}
        if "delta" in opened:
            self._readers["delta"] = DeltaReader(opened["delta"], self._reference)
        if "mask" in opened:
            self._readers["mask"] = MaskReader(opened["mask"], self._reference, self._base_values)
        if "exact" in opened:
            self._readers["exact"] = ExactReader(opened["exact"], self._stored_reference)
        self._check_tensors()

    def _model_place(self, model: ModelPlace, instead: Path | None) -> Path:
        """The folder of a model that parts build on, checked by the content of its files."""
        folder = instead or self.family_folder / model.path
        name = HubName.parse(model.path)
        if instead is None and name is not None and name.is_pinned and not folder.exists():
            folder = found(Path(model.path))
        for name, facts in model.files.items():
            file = folder / name
            self._digests[file] = facts.blake3
            if not file.is_file():
                raise MergeError(
                    f"{self.family_folder}: is written as changes of the model in {folder}, which lacks {name}; put it "
                    "there, or name its folder (--shared, or --base for what masks build on)"
                )
            if file.stat().st_size != facts.bytes or not same_sample(file, facts):
                raise MergeError(
                    f"{file}: is another file than when {self.family_folder} was written as changes of it; name the folder "
                    "of the same model (--shared), or write the family again"
                )
        return folder

    def _open_reference(self, place: Path) -> Source:
        """The shared model: a plain checkpoint, or one that is itself stored as a difference."""
        if not is_family(place):
            return open_model(place)
        if place.resolve() in self._under:
            raise MergeError(f"{place}: is written as changes of itself; copy or write it again")
        below = FamilyFile.read(place)
        return FamilyMember(place, below, below.domain(None, place), under=self._under)

    def _check_tensors(self) -> None:
        """Check types and shapes of everything that is read."""
        for name, entry in self.entry.tensors.items():
            part = self.entry.parts[entry.part]
            if name in self._rows and self._own is not None and (count := self._rows[name].count("own")):
                self._own.check(name, entry.dtype, count * self._rows[name].width)
            if entry.kind == "own":
                assert self._own is not None
                self._own.check(name, entry.dtype, self.info(name).size)
            elif entry.kind in self._readers:
                try:
                    self._readers[entry.kind].check(name, part, self._coded_shape(name))
                except (KeyError, TypeError) as error:
                    raise MergeError(f"{self.path}: {name}: its part lacks {error}; write the family again") from error
            if entry.kind in ("shared", "delta", "low_rank", "mask") or entry.difference:
                self._check_reference(name, entry, self._source_of(entry), "at")
            if entry.kind == "mask" and self._base is not None:
                self._check_reference(name, entry, self._base, "base")

    def _check_reference(self, name: str, entry: TensorEntry, source: Source, of: Literal["at", "base"]) -> None:
        like = entry.like or name
        there = source.info(like).shape if like in source else None
        rows = self._rows.get(name)
        fits = there == entry.shape
        if rows is not None:
            fits = there is not None and there[1:] == entry.shape[1:] and rows.reach(of) <= there[0]
        if not fits:
            has = "lacks it" if there is None else f"has {list(there)}"
            raise MergeError(
                f"{self.family_folder}: tensor {like}: is written as a change of {list(entry.shape)}, and {source.path} {has}; "
                "is it the right model?"
            )

    # ---- reading -----------------------------------------------------------------------------------------------

    def _coded_shape(self, name: str) -> tuple[int, ...]:
        """The shape of what a tensor's part has of it."""
        shape, rows = self.entry.tensors[name].shape, self._rows.get(name)
        return shape if rows is None else (rows.count("part"), *shape[1:])

    def _piece(self, name: str, entry: TensorEntry, how: str, place: int, length: int) -> np.ndarray:
        if how == "own":
            assert self._own is not None
            return self._own.folder.read(name, place, place + length)
        if how == "shared":
            like = entry.like or name
            stored = self._shared.read(like, place, place + length)
            return as_type(stored, self._shared.info(like), entry.dtype)
        return self._part(name, entry, place, place + length)

    def _part(self, name: str, entry: TensorEntry, start: int, stop: int) -> np.ndarray:
        """Elements [start, stop) of what a tensor's part has of it."""
        if start == stop:
            return take(0, STORAGE[entry.dtype])
        if entry.kind == "own":
            assert self._own is not None
            return self._own.folder.read(name, start, stop)
        if entry.kind == "shared":
            return self._stored_reference(name, start, stop)
        if entry.kind == "low_rank":
            assert self._adapter is not None
            info = self._adapter.info(name)
            return rounded(widen(self._adapter.read(name, start, stop), info.dtype), entry.dtype)
        part: PartEntry = self.entry.parts[entry.part]
        return self._readers[entry.kind].read(name, entry, part, self._coded_shape(name), start, stop)

    def _source_of(self, entry: TensorEntry) -> Source:
        """The model that a tensor is a change of; masks and updates of low rank are always changes of the shared one."""
        if self._before is not None and entry.kind in ("delta", "exact", "shared"):
            return self._before
        return self._shared

    def _reference(self, name: str, start: int, stop: int) -> Floats:
        source = self._source_of(self.entry.tensors[name])
        return widen(self._rows_of(source, name, start, stop), source.info(self._like(name)).dtype)

    def _base_values(self, name: str, start: int, stop: int) -> Floats:
        assert self._base is not None
        stored = self._rows_of(self._base, name, start, stop, base=True)
        return widen(stored, self._base.info(self._like(name)).dtype)

    def _stored_reference(self, name: str, start: int, stop: int) -> np.ndarray:
        entry = self.entry.tensors[name]
        source = self._source_of(entry)
        return as_type(self._rows_of(source, name, start, stop), source.info(self._like(name)), entry.dtype)

    def _like(self, name: str) -> str:
        return self.entry.tensors[name].like or name

    def _rows_of(self, source: Source, name: str, start: int, stop: int, *, base: bool = False) -> np.ndarray:
        """Elements that a tensor's part refers to, in a model that has its rows in other places."""
        rows, like = self._rows.get(name), self._like(name)
        if rows is None:
            return source.read(like, start, stop)
        return read_spans(source, like, rows.spans(start, stop, "base" if base else "at"))


def row_maps(entry: DomainEntry) -> dict[str, RowMap]:
    """Tensor → where its rows are, for the token tables of a domain whose vocabulary is its own."""
    tokens = entry.tokens
    names = () if tokens is None else tokens.tensors
    return {name: RowMap.of(tokens.rows, entry.tensors[name].shape) for name in names if tokens is not None}
