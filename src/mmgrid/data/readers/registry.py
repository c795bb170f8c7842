"""The readers by format name."""

from pathlib import Path
from typing import Protocol

from mmgrid.data.raw import RawDomain
from mmgrid.data.readers import amazon2023, parquet


class Reader(Protocol):
    """A reader of one format: a module with these two functions."""

    @staticmethod
    def sources(root: Path, domain: str) -> list[Path]:
        """The raw files of the domain, so that a caller can compute their digests."""
        ...

    @staticmethod
    def read(root: Path, domain: str) -> RawDomain:
        """The domain's raw tables."""
        ...


READERS: dict[str, Reader] = {"amazon2023": amazon2023, "parquet": parquet}
