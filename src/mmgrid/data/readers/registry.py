"""The readers by format name: the built-in ones, and those of other packages (entry points `mmgrid.readers`)."""

from pathlib import Path
from typing import Protocol

from mmgrid.data.raw import RawDomain
from mmgrid.data.readers.options import TableOptions
from mmgrid.plugins import Plugins


class Reader(Protocol):
    """A reader of one format: a module or an object with these functions.

    takes: the keys of `TableOptions` that it follows; a grid that sets another one is refused.
    HUB_DATASET: optional: the name of its data on the Hugging Face Hub, for the cards of models trained on them.
    """

    takes: frozenset[str]

    def sources(self, root: Path, domain: str, options: TableOptions = ..., /) -> list[Path]:
        """The raw files of the domain, so that a caller can compute their digests."""
        ...

    def read(self, root: Path, domain: str, options: TableOptions = ..., /) -> RawDomain:
        """The domain's raw tables."""
        ...

    def has_texts(self, root: Path, domain: str, options: TableOptions = ..., /) -> bool:
        """Whether the items have titles; otherwise their ids take the place of titles."""
        ...


def _check(name: str, reader: Reader) -> None:
    missing = [part for part in ("takes", "sources", "read", "has_texts") if not hasattr(reader, part)]
    if missing:
        raise TypeError(f"it lacks {', '.join(missing)}; a reader has takes, sources, read and has_texts")
    unknown = sorted(set(reader.takes) - set(TableOptions.model_fields))
    if unknown:
        raise ValueError(f"takes: {', '.join(unknown)} is no option; known are {', '.join(TableOptions.model_fields)}")


READERS: Plugins[Reader] = Plugins(
    "mmgrid.readers",
    "format",
    _check,
    first=("parquet", "csv", "tsv", "jsonl", "arrow", "recbole", "datasets", "movielens", "amazon2023"),
)
