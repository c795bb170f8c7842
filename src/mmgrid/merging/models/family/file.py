"""`family.json`: what a family consists of, and where the parts of each domain are.

A family is a folder:

    family.json           this file, written last
    shared/               a plain checkpoint, which may also lie elsewhere
    base/                 θ₀, only where a domain has masks; it may lie elsewhere, too
    parts/<domain>/       the parts of a domain, one safetensors file (or PEFT adapter) per kind, and its own files

A checkpoint that is stored as a difference is a family of one domain whose part is the folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmgrid.files import inside
from mmgrid.merging.arrays.floats import STORAGE
from mmgrid.merging.errors import MergeError, nearest, problem_of
from mmgrid.merging.models.family.checksum import checksum_of
from mmgrid.merging.models.family.place import FAMILY_FILE, PARTS_FOLDER
from mmgrid.merging.models.file_kinds import impostor

SHARED_FOLDER, BASE_FOLDER = "shared", "base"
SCHEMA, VERSION = "mmgrid family", 1
LOW_RANK_FOLDER = "low_rank"
FILE_OF_KIND = {kind: f"{kind}.safetensors" for kind in ("own", "mask", "delta", "exact")}
PART_FILES = frozenset(FILE_OF_KIND.values())
# A twin is a copy of another tensor of its model, such as a head that is stored beside equal embeddings.
Kind = Literal["shared", "own", "mask", "low_rank", "delta", "exact", "twin"]
Whole = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFacts(_Entry):
    """A file's size and BLAKE3 digest (hex); `content` is the digest of a sample of it, see `content_names`."""

    bytes: Whole
    blake3: str
    content: str | None = None


class ModelPlace(_Entry):
    """A model that parts build on.

    Attributes:
        path: its folder, relative to the family's, or its name on the Hub with a commit.
        files: the files of its weights.
    """

    path: str
    files: dict[str, FileFacts]


class PartEntry(_Entry):
    """What one rule of the recipe made of some of a domain's tensors.

    Attributes:
        kind: of the part.
        options: of the kind, such as `bits`.
        tensors: their number. parameters: their elements.
        bytes: what the part takes on disk.
        error: ‖θ − θ̂‖ / ‖θ − reference‖ over its tensors that are not stored exactly; of masks the reference is the base.
        worst: the tensor with the largest such error, and the error; None if nothing is lost.
    """

    kind: Kind
    options: dict[str, Any] = {}
    tensors: Whole = 0
    parameters: Whole = 0
    bytes: Whole = 0
    error: float = 0.0
    worst: tuple[str, float] | None = None


class TensorEntry(_Entry):
    """One tensor of a domain's checkpoint.

    Attributes:
        kind: how it is written. part: the number of its part.
        dtype, shape: by torch's name of the type.
        like: the tensor that it is a difference from, or a twin of, if that has another name.
        difference: for `exact`: whether the compressed bytes are a difference.
    """

    kind: Kind
    part: Whole
    dtype: str
    shape: tuple[Whole, ...]
    like: str | None = None
    difference: bool = False


class RowsEntry(_Entry):
    """Rows [start, stop) of a domain's token tables.

    Attributes:
        how: "part": written as its tensor's kind says, as a difference from rows of the shared model; "shared": those
            rows as they are; "own": stored with the domain.
        at: the first of those rows in the shared model. base: in the base.
    """

    start: Whole
    stop: Whole
    how: Literal["part", "shared", "own"]
    at: Whole = 0
    base: Whole = 0


class TokenRows(_Entry):
    """The rows of a domain's token tables, for a domain whose vocabulary is another one than that of the shared model."""

    tensors: tuple[str, ...]
    rows: tuple[RowsEntry, ...]


class DomainEntry(_Entry):
    """One domain, or one phase of a chain.

    Attributes:
        folder: of its parts and files, relative to the family's.
        after: the domain whose checkpoint its differences are taken from; None for the shared model.
        weights: the files of its parts, by their path below `folder`.
        files: its other files by name: config, tokenizer, declarations. They come back byte for byte.
        places: name of a file → the folder in which an equal one already lies, relative to the family's: the shared
            model's or another domain's.
    """

    folder: str
    after: str | None = None
    parts: tuple[PartEntry, ...]
    tensors: dict[str, TensorEntry]
    tokens: TokenRows | None = None
    weights: dict[str, FileFacts] = {}
    files: dict[str, FileFacts] = {}
    places: dict[str, str] = {}


class FamilyFile(_Entry):
    """The content of `family.json`.

    Attributes:
        checksum: see `checksum_of`; families of early versions have none.
    """

    schema_: Literal["mmgrid family"] = Field(default=SCHEMA, alias="schema")
    version: Literal[1] = VERSION
    mmgrid: str = ""
    shared: ModelPlace
    base: ModelPlace | None = None
    domains: dict[str, DomainEntry] = Field(min_length=1)
    recipe: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    checksum: str | None = None

    @classmethod
    def read(cls, folder: Path) -> FamilyFile:
        """The `family.json` of a folder.

        Raises:
            MergeError: it is missing, damaged, of a newer version, or names files outside of the folder.
        """
        file = folder / FAMILY_FILE
        if problem := impostor(file):
            raise MergeError(f"{file}: {problem}")
        try:
            value = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise MergeError(f"{folder}: is no family: it has no {FAMILY_FILE}") from None
        except (ValueError, RecursionError) as error:
            raise MergeError(f"{file}: is not JSON ({error}), perhaps cut; copy or write the family again") from error
        return cls.of(value, file)

    @classmethod
    def of(cls, value: Any, file: Path) -> FamilyFile:
        """A family from its JSON form; errors begin with `file`."""
        if not isinstance(value, Mapping) or value.get("schema") != SCHEMA:
            raise MergeError(f"{file}: is no family of mmgrid: it lacks `schema: {SCHEMA}`")
        if value.get("version") != VERSION:
            raise MergeError(
                f"{file}: has version {value.get('version')!r} of the format; this mmgrid reads {VERSION}: "
                "use the mmgrid that wrote it, or a newer one"
            )
        try:
            family = cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise MergeError(f"{file}: {place}: {problem_of(first)}; copy or write the family again") from error
        family._check(file)
        try:
            found = checksum_of(value)
        except ValueError as error:
            raise MergeError(
                f"{file}: holds a text that is no Unicode ({error}); copy or write the family again"
            ) from error
        if family.checksum not in (None, found):
            raise MergeError(f"{file}: was changed after it was written, or is damaged; copy or write the family again")
        return family

    def as_json(self) -> dict[str, Any]:
        """The JSON form, with its checksum."""
        value = self.model_dump(mode="json", by_alias=True)
        return value | {"checksum": checksum_of(value)}

    def domain(self, name: str | None, where: Path) -> str:
        """The name of a domain; None means the only one.

        Raises:
            MergeError: there is no such domain, or several; the message lists them.
        """
        known = ", ".join(self.domains)
        if name is None:
            if len(self.domains) > 1:
                raise MergeError(
                    f"{where}: is a family of {known}; say which domain (--domain, or {PARTS_FOLDER}/NAME)"
                )
            return next(iter(self.domains))
        if name not in self.domains:
            raise MergeError(f"{where}: has no domain {name!r}{nearest(name, self.domains)}; it has {known}")
        return name

    def _check(self, file: Path) -> None:
        """Check what the types leave open: places inside the folder, known domains, parts and tensors."""
        seen: set[str] = set()
        for name, domain in self.domains.items():
            where = f"{file}: domain {name!r}"
            if domain.after is not None and domain.after not in seen:
                raise MergeError(f"{where}: follows {domain.after!r}, which is not a domain before it")
            seen.add(name)
            for path in (domain.folder, *domain.places.values(), *domain.weights):
                _check_inside(path, where)
            for own in (*domain.files, *domain.places):
                if own in ("", ".", "..") or set(own) & set("/\\\0"):
                    raise MergeError(f"{where}: {own!r} is not the name of a file")
            for tensor, entry in domain.tensors.items():
                if entry.part >= len(domain.parts):
                    raise MergeError(f"{where}: tensor {tensor}: there is no part {entry.part}")
                if entry.dtype not in STORAGE:
                    raise MergeError(f"{where}: tensor {tensor}: type {entry.dtype!r} is not known")
                first = domain.tensors.get(entry.like or "")
                if entry.kind == "twin" and (first is None or first.kind == "twin" or first.shape != entry.shape):
                    raise MergeError(f"{where}: tensor {tensor}: is a twin of {entry.like!r}, which does not fit")
            _check_rows(domain, where)


def _check_inside(path: str, where: str) -> None:
    try:
        if path != ".":
            inside(Path(), path, allow_links=True)
    except ValueError as error:
        raise MergeError(f"{where}: {error}") from error


def _check_rows(domain: DomainEntry, where: str) -> None:
    if domain.tokens is None:
        return
    end = 0
    for rows in domain.tokens.rows:
        if rows.start != end or rows.stop < rows.start:
            raise MergeError(f"{where}: token rows must follow each other; row {end} does not")
        end = rows.stop
    for name in domain.tokens.tensors:
        entry = domain.tensors.get(name)
        if entry is None or entry.shape[:1] != (end,):
            raise MergeError(f"{where}: tensor {name}: does not have the {end} token rows that are listed")
