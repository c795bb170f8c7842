"""The place of a run of elements in the model, to which its random numbers belong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The position of a run: elements [start, start + n) of a tensor of `shape`, in row-major order."""

    source: str
    tensor: str
    start: int
    shape: tuple[int, ...]
    depth: float  # from 0, the first layer, to 1, the last
    seed: int
    stage: int  # index of the stage, so that two stages draw different numbers

    @property
    def row(self) -> int:
        """Elements per row, the size of the last dimension; a vector is one row."""
        return self.shape[-1] if self.shape else 1
