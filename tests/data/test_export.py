"""What is exported is the same corpus when it is read again, of tiny data and of real data."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmgrid.data import READERS, Corpus, DataError
from mmgrid.data.export import EXPORT_FORMATS, export

TIME = 1_660_000_000_123


def corpus(titles: list[str], descriptions: list[str], times: list[int]) -> Corpus:
    ids = [f'i"{n}' if n else "a\tb" for n in range(len(titles))]
    interactions = {
        "user_id": [f"u{n % 2}" for n in range(len(times))],
        "item_id": ids[: len(times)],
        "timestamp": times,
    }
    items = pl.DataFrame({"item_id": ids, "title": titles, "description": descriptions})
    return Corpus.from_tables("shop", pl.DataFrame(interactions), items)


def same(one: Corpus, other: Corpus) -> bool:
    arrays = ("user_ids", "users", "items", "timestamps")
    texts = (one.catalogue.titles, one.catalogue.descriptions) == (other.catalogue.titles, other.catalogue.descriptions)
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    return texts and equal and np.array_equal(one.catalogue.ids, other.catalogue.ids)


def read_again(folder: Path, to: str, name: str) -> Corpus:
    raw = READERS[to].read(folder, name)
    return Corpus.from_tables(name, raw.interactions, raw.items)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_a_round_trip_of_difficult_texts(tmp_path, to):
    titles = ['One, "the first"', "5\" pipe; 'x'", "Käse\twith tab", "[Deluxe]", "1.50"]
    made = corpus(
        titles, ["two\nlines", "", "\r\nx".strip(), "a\r\nb", "None left"], [TIME, TIME + 5, TIME, TIME - 123, TIME]
    )
    files = export([made], tmp_path / "out", to)
    assert all(file.is_file() for file in files)
    assert same(read_again(tmp_path / "out", to, "shop"), made)
    with pytest.raises(DataError, match="out: exists already"):
        export([made], tmp_path / "out", to)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_a_round_trip_of_real_data(tmp_path, amazon14, to):
    raw = READERS["parquet"].read(amazon14, "beauty")
    few = raw.interactions.filter(pl.col("user_id").is_in(raw.interactions["user_id"].unique().sort()[:300].implode()))
    items = raw.items.join(few, on="item_id", how="semi")
    made = Corpus.from_tables("beauty", few, items)
    export([made], tmp_path / "out", to)
    assert same(read_again(tmp_path / "out", to, "beauty"), made)


@pytest.mark.parametrize("to", ["recbole", "csv"])
def test_what_a_format_cannot_keep_is_an_error_and_leaves_nothing(tmp_path, to):
    made = corpus(["One", "['a', 'b']"], ["", ""], [TIME, TIME])
    with pytest.raises(DataError, match=rf"shop: {to} cannot keep item 'i\"1' .*--to parquet"):
        export([made], tmp_path / "out", to)
    assert not any(tmp_path.iterdir())
    early = corpus(["One"], [""], [5])
    with pytest.raises(DataError, match="near 1970"):
        export([early], tmp_path / "out", to)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "a/b", "..", ".hidden", "a\x1bb"])
def test_the_name_of_a_domain_chooses_no_other_folder(tmp_path, to, name):
    """A prepared domain declares its own name, in a file that may come from anywhere."""
    items = pl.DataFrame({"item_id": ["a"], "title": ["A"], "description": [""]})
    rows = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1000]})
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="a name that becomes part of a path must not"):
        export([Corpus.from_tables(name, rows, items)], tmp_path / "there" / "out", to)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
