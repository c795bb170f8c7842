"""What was written: the bytes of a family beside those of plain checkpoints, and what each part loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmgrid.merging.models.family.file import DomainEntry, PartEntry
from mmgrid.merging.models.tensors import TensorInfo


@dataclass(frozen=True)
class DomainReport:
    """One domain of a family.

    Attributes:
        parts: kinds, options, bytes and errors.
        bytes: of its parts' files. file_bytes: of its other files that only it has.
        plain_bytes: of its weights as a plain checkpoint.
    """

    parts: tuple[PartEntry, ...]
    bytes: int
    file_bytes: int
    plain_bytes: int


@dataclass(frozen=True)
class FamilyReport:
    """A family that was written.

    Attributes:
        out: its folder.
        domains: by name.
        shared_bytes: of the shared model's weights, and of the base's, as far as they lie in the family.
        notes: remarks on anything unexpected.
    """

    out: Path
    domains: Mapping[str, DomainReport]
    shared_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Of all weights in the family."""
        return self.shared_bytes + sum(domain.bytes for domain in self.domains.values())

    @property
    def plain_bytes(self) -> int:
        """Of the weights of all domains as plain checkpoints."""
        return sum(domain.plain_bytes for domain in self.domains.values())


def report_of(entry: DomainEntry) -> DomainReport:
    """What was written of a domain."""
    own = sum(facts.bytes for name, facts in entry.files.items() if name not in entry.places)
    weights = sum(facts.bytes for facts in entry.weights.values())
    return DomainReport(entry.parts, weights, own, plain_bytes_of(entry))


def plain_bytes_of(entry: DomainEntry) -> int:
    """The bytes of a domain's tensors as a plain checkpoint."""
    return sum(TensorInfo(each.dtype, each.shape).bytes for each in entry.tensors.values())
