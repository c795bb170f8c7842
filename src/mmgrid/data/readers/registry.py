"""Which reader reads which format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mmgrid.data.raw import RawDomain
from mmgrid.data.readers import amazon2023, parquet


class Reader(Protocol):
    """A module that reads one format."""

    @staticmethod
    def sources(root: Path, domain: str) -> list[Path]:
        """The raw files that the domain is read from, so that a caller can digest them."""
        ...

    @staticmethod
    def read(root: Path, domain: str) -> RawDomain:
        """The domain's raw tables."""
        ...


READERS: dict[str, Reader] = {"amazon2023": amazon2023, "parquet": parquet}
