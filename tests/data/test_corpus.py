"""A corpus is sorted, survives saving and loading, and reads nothing at or after its time limit."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import READERS, Corpus, DataError, LeakageError
from mmgrid.data.raw import INTERACTIONS

ROWS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("uvwxyz"), st.integers(0, 9)), min_size=1, max_size=40
)


def corpus_of(rows) -> Corpus:
    items = pl.DataFrame({"item_id": list("zyxwvu"), "title": list("ZYXWVU"), "description": [""] * 6})
    return Corpus.from_tables("made", pl.DataFrame(rows, schema=INTERACTIONS, orient="row"), items)


def rows_of(corpus: Corpus) -> list[tuple[str, str, int]]:
    ids = corpus.user_ids[corpus.users], corpus.catalogue.ids[corpus.items]
    return [(str(u), str(i), int(t)) for u, i, t in zip(*ids, corpus.timestamps, strict=True)]


def same(one: Corpus, other: Corpus) -> bool:
    return (
        rows_of(one) == rows_of(other) and one.user_ids.tolist() == other.user_ids.tolist() and one.name == other.name
    )


@settings(deadline=None)
@given(rows=ROWS)
def test_rows_are_sorted_by_user_and_time_and_ties_keep_file_order(rows):
    corpus = corpus_of(rows)
    assert rows_of(corpus) == sorted(rows, key=lambda row: (row[0], row[2]))
    assert corpus.catalogue.ids.tolist() == list("uvwxyz")
    assert corpus.catalogue.titles == list("UVWXYZ")
    for user in range(corpus.n_users):
        assert set(corpus.users[corpus.offsets[user] : corpus.offsets[user + 1]].tolist()) == {user}


@settings(deadline=None)
@given(rows=ROWS, end=st.integers(0, 10))
def test_histories_and_before_agree_and_stop_before_the_end(rows, end):
    corpus = corpus_of(rows)
    before, histories = corpus.before(end), corpus.histories(end)
    assert rows_of(before) == [row for row in rows_of(corpus) if row[2] < end]
    assert histories.items.tolist() == before.items.tolist()
    assert corpus.user_ids[histories.users].tolist() == before.user_ids.tolist()
    assert histories.offsets.tolist() == before.offsets.tolist()
    if (corpus.timestamps >= end).any():
        with pytest.raises(LeakageError):
            corpus.histories(10).guard(end)


def test_a_saved_corpus_can_be_loaded_and_read_as_raw_data(tmp_path):
    start = 10**12
    corpus = corpus_of([("b", "v", start + 7), ("a", "z", start), ("a", "u", start), ("c", "v", start + 9)])
    corpus.save(tmp_path / "3fa9c1d2")
    loaded = Corpus.load(tmp_path / "3fa9c1d2")
    assert same(loaded, corpus)
    assert loaded.catalogue.titles == corpus.catalogue.titles
    raw = READERS["parquet"].read(tmp_path, "3fa9c1d2")
    assert raw.interactions.rows() == rows_of(corpus)
    assert raw.items["item_id"].to_list() == ["u", "v", "z"]  # items with an interaction only


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        corpus_of([("b", "v", 7), ("a", "z", 3)]).save(tmp_path / name)
    for file in ("interactions.parquet", "items.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_loading_until_a_time_equals_before(tmp_path):
    corpus = corpus_of([("b", "v", 7), ("a", "z", 3), ("a", "u", 4), ("c", "v", 9)])
    corpus.save(tmp_path)
    for until in (3, 4, 8, 10):
        assert same(Corpus.load(tmp_path, until=until), corpus.before(until))


def test_take_users_keeps_the_catalogue():
    corpus = corpus_of([("b", "v", 7), ("a", "z", 3), ("c", "v", 9)])
    taken = corpus.take_users([0, 2])
    assert rows_of(taken) == [("a", "z", 3), ("c", "v", 9)]
    assert len(taken.catalogue) == 6


def test_a_missing_or_foreign_file_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"interactions\.parquet: no such file"):
        Corpus.load(tmp_path)
    corpus_of([("b", "v", 7)]).save(tmp_path)
    pl.DataFrame({"item_id": ["v"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet: columns title, description missing"):
        Corpus.load(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"interactions\.parquet: not a readable parquet file"):
        Corpus.load(tmp_path)


def test_inconsistent_tables_are_refused():
    items = pl.DataFrame({"item_id": ["v"], "title": ["V"], "description": [""]})
    interactions = pl.DataFrame([("a", "v", 1), ("a", "w", 2)], schema=INTERACTIONS, orient="row")
    with pytest.raises(DataError, match="1 interactions have items that the item table lacks, such as w"):
        Corpus.from_tables("made", interactions, items)
    with pytest.raises(DataError, match="more than once"):
        Corpus.from_tables("made", interactions[:1], pl.concat([items, items]))


def test_invalid_candidates_are_refused():
    items = corpus_of([("b", "v", 7)]).catalogue
    chosen = items.with_candidates([4, 1, 4])
    assert chosen.candidates.tolist() == [1, 4]
    assert np.flatnonzero(chosen.is_candidate()).tolist() == [1, 4]
    assert len(chosen) == 6
    for rows in ([6], [-1]):
        with pytest.raises(ValueError, match="candidates"):
            items.with_candidates(rows)
