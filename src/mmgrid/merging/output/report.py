"""The report that a merge returns."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        out: the folder that was written.
        sources: name → folder.
        merged: names of the tensors that were computed.
        kept: tensor taken unchanged → why.
        dropped: tensor that is not in the result → why.
        parameters: elements in the merged tensors.
        kept_share: source → tower → layer → share of its task vector left after the stages; empty without stages.
        kept_by_tower: source → tower → this share over all layers.
        bytes_read: bytes of the sources' and bases' tensors, each counted once.
        bytes_written: bytes of the result's tensors.
        seconds: wall time of reading, computing and writing.
        hashing_seconds: wall time of waiting for the sources' digests, which are taken beside the merge.
        notes: remarks on anything unexpected.
        bound: seconds that reading and writing these bytes takes on this machine; None if not measured.
    """

    out: Path
    sources: dict[str, Path]
    merged: tuple[str, ...]
    kept: dict[str, str]
    dropped: dict[str, str]
    parameters: int
    kept_share: dict[str, dict[str, dict[str, float]]]
    kept_by_tower: dict[str, dict[str, float]]
    bytes_read: int
    bytes_written: int
    seconds: float
    hashing_seconds: float
    notes: tuple[str, ...] = ()
    bound: float | None = None

    @property
    def fraction_of_bound(self) -> float | None:
        """Speed of the merge relative to the disk's: 1 is as fast as reading and writing alone."""
        return None if self.bound is None or not self.seconds else self.bound / self.seconds
