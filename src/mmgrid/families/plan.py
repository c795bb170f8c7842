"""Decides how each tensor of a domain is written: as the recipe says, where the tensor has what that needs.

- A tensor that equals its reference bit for bit takes no bytes, unless the recipe gives it the part `own`.
- A tensor that the reference lacks, or has in another shape, is stored as it is.
- Whole numbers, and float64, are stored as they are, or exactly.
- A head that equals the embeddings beside it is their twin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mmgrid.families.pair import same_bytes
from mmgrid.families.parts import PartChoice, PartOptions
from mmgrid.families.tokens import token_rows
from mmgrid.merging.engine.extraction import is_linear
from mmgrid.merging.models.family.file import DomainEntry, Kind, PartEntry, TensorEntry, TokenRows
from mmgrid.merging.models.family.readers import finite_kinds
from mmgrid.merging.models.source import Source
from mmgrid.merging.models.tensors import TensorInfo
from mmgrid.merging.models.ties import implied
from mmgrid.merging.models.token_tensors import tied_pairs


@dataclass
class _Planner:
    """Plans the tensors of one domain. rows: those of its token tables, if they are elsewhere in the reference."""

    choice: PartChoice
    target: Source
    reference: Source
    base: Source | None
    rows: TokenRows | None
    parts: list[PartOptions] = field(default_factory=list)
    tensors: dict[str, TensorEntry] = field(default_factory=dict)

    def plan(self) -> None:
        tied = implied(self.reference)
        twins = tied_pairs(self.target)
        for name in sorted(self.target, key=lambda name: (name in twins, name)):
            info = self.target.info(name)
            wanted = self.choice.of(name)
            if wanted not in self.parts:
                self.parts.append(wanted)
            about = {"part": self.parts.index(wanted), "dtype": info.dtype, "shape": info.shape}
            first = twins.get(name)
            if first in self.tensors and same_bytes(self.target, name, self.target, str(first)):
                self.tensors[name] = TensorEntry(kind="twin", like=first, **about)
                continue
            like = name if name in self.reference else tied.get(name)
            kind = self._kind(name, info, wanted, like)
            named = like if like != name and kind not in ("own", "low_rank") else None
            self.tensors[name] = TensorEntry(kind=kind, like=named, **about)

    def _kind(self, name: str, info: TensorInfo, wanted: PartOptions, like: str | None) -> Kind:
        if wanted.kind == "own":
            return "own"
        in_rows = self.rows is not None and name in self.rows.tensors
        there = self.reference.info(like) if like is not None else None
        fits = there is not None and (there.shape == info.shape or in_rows)
        if not fits or like is None or there is None:
            return "exact" if wanted.kind == "exact" else "own"
        if not in_rows and same_bytes(self.target, name, self.reference, like):
            return "shared"
        if wanted.kind == "exact":
            return "exact"
        if not (finite_kinds(info.dtype) and finite_kinds(there.dtype)):
            return "own"
        if wanted.kind == "shared":
            return "shared"
        if wanted.kind == "low_rank":
            if not in_rows and is_linear(self.target, name):
                return "low_rank"
            return "shared" if wanted.vectors == "shared" or len(info.shape) > 1 else "own"
        if len(info.shape) < 2 and wanted.vectors == "own":
            return "own"
        if wanted.kind == "mask" and not self._in_base(name, info, in_rows):
            return "own"
        return wanted.kind

    def _in_base(self, name: str, info: TensorInfo, in_rows: bool) -> bool:
        assert self.base is not None
        if name not in self.base:
            return False
        below = self.base.info(name)
        return finite_kinds(below.dtype) and (below.shape == info.shape or in_rows)


def plan_domain(
    choice: PartChoice, target: Source, reference: Source, base: Source | None, *, folder: str, after: str | None
) -> tuple[DomainEntry, list[PartOptions]]:
    """What happens to each tensor of a domain, and the options of its parts.

    Args:
        target: the domain's checkpoint.
        reference: the shared model, or the checkpoint before it in a chain.
        base: θ₀, if a part is a mask.
        folder: of its parts, relative to the family's.
        after: the domain of the reference, in a chain.

    Raises:
        MergeError: a checkpoint's declaration is damaged.
    """
    rows = token_rows(target, reference, base)
    planner = _Planner(choice, target, reference, base, rows)
    planner.plan()
    parts = tuple(
        PartEntry(kind=part.kind, options=part.model_dump(mode="json", exclude={"kind"})) for part in planner.parts
    )
    own = None if rows is None else {name for name in rows.tensors if planner.tensors[name].kind not in ("own", "twin")}
    kept = None if not own or rows is None else rows.model_copy(update={"tensors": tuple(sorted(own))})
    entry = DomainEntry(folder=folder, after=after, parts=parts, tensors=planner.tensors, tokens=kept)
    return entry, planner.parts
