"""Small domains, written by hand or random, and real ones if MMGRID_DATA has them."""

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from mmgrid.data import Calendar, Phase, RawDomain
from mmgrid.data.raw import INTERACTIONS


@pytest.fixture(scope="session")
def calendar() -> Calendar:
    """Ten-millisecond phases after a long pretrain: [0, 100), [100, 110), [110, 120), [120, 130)."""
    return Calendar(
        Phase("pretrain", 0, 100), Phase("phase1", 100, 110), Phase("phase2", 110, 120), Phase("test", 120, 130)
    )


@pytest.fixture(scope="session")
def make_raw() -> Callable[..., RawDomain]:
    """A raw domain of (user, item, timestamp) rows; every item has a title unless specified."""

    def make(
        rows: list[tuple[str, str, int]], untitled: tuple[str, ...] = (), *, unfiltered: bool = False
    ) -> RawDomain:
        ids = sorted({item for _, item, _ in rows})
        items = pl.DataFrame(
            {
                "item_id": ids,
                "title": ["" if item in untitled else f"Title {item}" for item in ids],
                "description": [""] * len(ids),
            },
            schema=dict.fromkeys(["item_id", "title", "description"], pl.String),
        )
        return RawDomain("made", pl.DataFrame(rows, schema=INTERACTIONS, orient="row"), items, unfiltered)

    return make


def _real(name: str) -> Path:
    root = os.environ.get("MMGRID_DATA")
    if not root:
        pytest.skip("MMGRID_DATA is not set: it names the folder with the development data")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there (MMGRID_DATA)")
    return folder


@pytest.fixture(scope="session")
def amazon14() -> Path:
    return _real("amazon14")


@pytest.fixture(scope="session")
def amazon23_sample() -> Path:
    return _real("amazon23_sample")
