"""`corpus/<domain>`: the prepared interactions and items of a domain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.data import (
    READERS,
    Calendar,
    Corpus,
    RawDomain,
    held_out_users,
    interactions_by_month,
    joined,
    prepare,
    read_files,
    statistics,
)
from mmgrid.data.held_out import Target
from mmgrid.data.readers import TableOptions
from mmgrid.data.synthetic import World, write_world

RAW_FOLDER = "raw"  # raw files of the synthetic world, kept next to the corpus


def prepare_corpus(
    raw: RawDomain, folder: Path, calendar: Calendar, *, target: Target, **options: Any
) -> Mapping[str, Any]:
    """Prepare a raw domain into `folder`, with its statistics. options: those of `mmgrid.data.prepare`."""
    prepared = prepare(raw, calendar, **options)
    del raw
    # Fail now if the domain has no test users, not after its models have been trained.
    held_out_users(prepared.corpus, calendar, target)
    prepared.corpus.save(folder)
    interactions_by_month(prepared.corpus).write_parquet(folder / "months.parquet")
    return prepared.summary() | _sizes(prepared.corpus, calendar)


def join_corpora(folders: Mapping[str, Path], name: str, folder: Path, calendar: Calendar) -> Mapping[str, Any]:
    """Write the corpora of several domains as one into `folder`, with its statistics."""
    corpus = joined({domain: Corpus.load(own) for domain, own in folders.items()}, name)
    corpus.save(folder)
    interactions_by_month(corpus).write_parquet(folder / "months.parquet")
    counts = {"users": corpus.n_users, "items": len(corpus.catalogue), "interactions": len(corpus)}
    return counts | _sizes(corpus, calendar)


def synthetic_raw(world: World, domain: str, folder: Path) -> RawDomain:
    """A domain of the synthetic world, written as raw files below `folder` and read back like real data."""
    raw = folder / RAW_FOLDER
    raw.mkdir()
    write_world(world, domain, raw)
    ratings, items = READERS["amazon2023"].sources(raw, domain)
    return read_files(ratings, items, domain, TableOptions(time_unit="ms"), future=True)


def _sizes(corpus: Corpus, calendar: Calendar) -> dict[str, Any]:
    """The statistics of a corpus, and the mean length of its items' texts."""
    items, n = corpus.catalogue, max(len(corpus.catalogue), 1)
    characters = {"title": sum(map(len, items.titles)) / n, "description": sum(map(len, items.descriptions)) / n}
    return {"statistics": statistics(corpus, calendar).as_dict(), "characters": characters}
