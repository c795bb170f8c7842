"""The order of the preparation steps, by hand where it matters, and invariants on random domains."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import DataError, filter_interactions, prepare
from mmgrid.data.preparation import k_core

ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.integers(-20, 150)), min_size=1, max_size=80
)


def kept(preparation) -> list[tuple[str, str, int]]:
    corpus = preparation.corpus
    ids = corpus.user_ids[corpus.users], corpus.catalogue.ids[corpus.items]
    return [(str(u), str(i), int(t)) for u, i, t in zip(*ids, corpus.timestamps, strict=True)]


def by_hand(rows, untitled, start, end, k, official):
    """The steps in plain Python, one per line."""
    rows = list({(u, i): (u, i, t) for u, i, t in sorted(rows, key=lambda row: row[2], reverse=True)}.values())
    rows = [row for row in rows if row[1] not in untitled]
    users, items = Counter(u for u, _, _ in rows), Counter(i for _, i, _ in rows)
    rows = [row for row in rows if start <= row[2] and (official or row[2] < end)]
    rows = [row for row in rows if users[row[0]] >= k and items[row[1]] >= k]
    left = Counter(u for u, _, _ in rows)
    return {row for row in rows if left[row[0]] >= k and row[2] < end}


@settings(deadline=None)
@given(
    rows=ROWS,
    untitled=st.sets(st.sampled_from("uvwxyz"), max_size=2),
    k=st.integers(1, 4),
    official=st.booleans(),
)
def test_preparation_equals_the_steps_in_plain_python(make_raw, calendar, rows, untitled, k, official):
    expected = by_hand(rows, untitled, 0, 130, k, official)
    raw, compat = make_raw(rows, tuple(untitled)), "official" if official else None
    if not expected:
        with pytest.raises(DataError, match=r"no interactions are left|has a title"):
            prepare(raw, calendar, min_interactions=k, compat=compat)
        return
    preparation = prepare(raw, calendar, min_interactions=k, compat=compat)
    result = kept(preparation)
    assert set(result) == expected
    assert len(result) == len(expected)
    assert set(preparation.corpus.catalogue.ids.tolist()) == {item for _, item, _ in expected}
    assert sum(step.interactions for step in preparation.dropped) == len(rows) - len(result)
    assert sum(step.users for step in preparation.dropped) == len({u for u, _, _ in rows}) - preparation.corpus.n_users


@settings(deadline=None)
@given(rows=ROWS, k=st.integers(1, 3))
def test_the_core_of_a_core_is_itself(make_raw, rows, k):
    unfiltered = make_raw(rows, unfiltered=True)
    try:
        once = filter_interactions(unfiltered, min_interactions=k)
    except DataError:
        return
    again = filter_interactions(make_raw(kept(once)), min_interactions=k)
    assert kept(again) == kept(once)
    assert not any(step.interactions for step in again.dropped)
    users, items = once.corpus.users, once.corpus.items
    assert k_core(users, items, k).all()


def test_the_minimum_is_counted_over_the_whole_file(make_raw, calendar):
    # One of the two interactions with item x is after the calendar: it counts, but is dropped.
    rows = [
        ("a", "x", 1),
        ("a", "y", 2),
        ("b", "y", 3),
        ("b", "z", 4),
        ("c", "z", 5),
        ("c", "y", 6),
        ("d", "x", 200),
    ]
    rows += [("d", "y", 201)]
    result = kept(prepare(make_raw(rows), calendar, min_interactions=2))
    assert ("a", "x", 1) in result
    assert all(t < 130 for _, _, t in result)


def test_phases_are_half_open(make_raw, calendar):
    rows = [("a", "x", -1), ("a", "y", 0), ("a", "z", 129), ("a", "w", 130)]
    assert [t for _, _, t in kept(prepare(make_raw(rows), calendar, min_interactions=1))] == [0, 129]
    assert len(kept(filter_interactions(make_raw(rows), min_interactions=1))) == 4
    assert len(kept(filter_interactions(make_raw(rows), min_interactions=1, end=129))) == 2


def test_the_earliest_of_repeated_rows_stays(make_raw):
    rows = [("a", "x", 9), ("a", "y", 5), ("a", "x", 3), ("a", "x", 3)]
    preparation = filter_interactions(make_raw(rows), min_interactions=1)
    assert kept(preparation) == [("a", "x", 3), ("a", "y", 5)]
    assert next(step for step in preparation.dropped if "repeated" in step.step).interactions == 2


def test_ties_keep_file_order(make_raw):
    rows = [("a", "z", 5), ("a", "x", 5), ("a", "y", 5), ("a", "w", 4)]
    assert [item for _, item, _ in kept(filter_interactions(make_raw(rows), min_interactions=1))] == [
        "w",
        "z",
        "x",
        "y",
    ]


def test_official_counts_rows_that_it_drops(make_raw, calendar):
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "z", 300)]
    rows += [(user, item, 50) for user in "bcd" for item in "xyz"]
    ours = {u for u, _, _ in kept(prepare(make_raw(rows), calendar, min_interactions=3))}
    official = {u for u, _, _ in kept(prepare(make_raw(rows), calendar, min_interactions=3, compat="official"))}
    assert official - ours == {"a"}


def test_a_sample_of_users_is_nested_and_keeps_the_catalogue(make_raw, calendar):
    rows = [(f"user{u}", f"item{i}", 10 * i + u % 7) for u in range(30) for i in range(10)]
    raw = make_raw(rows)
    whole = prepare(raw, calendar)
    samples = [prepare(raw, calendar, max_users=size, seed=1).corpus for size in (5, 12, 99)]
    assert [sample.n_users for sample in samples] == [5, 12, 30]
    assert set(samples[0].user_ids.tolist()) < set(samples[1].user_ids.tolist())
    assert all(len(sample.catalogue) == len(whole.corpus.catalogue) == 10 for sample in samples)
    assert set(prepare(raw, calendar, max_users=5, seed=2).corpus.user_ids) != set(samples[0].user_ids)


def test_the_items_with_most_interactions_are_kept_and_users_with_too_few_of_them_are_not(make_raw, calendar):
    rows = [(f"user{u}", f"item{i}", 10 * i + u % 7) for u in range(12) for i in range(5)]
    rows += [("late", f"item{i}", i) for i in (0, 5, 6)] + [
        (f"user{u}", f"item{i}", 90) for u in range(4) for i in (5, 6)
    ]
    raw = make_raw(rows)
    assert len(prepare(raw, calendar, min_interactions=3, max_items=7).corpus) == len(rows)
    preparation = prepare(raw, calendar, min_interactions=3, max_items=6)
    assert set(preparation.corpus.catalogue.ids.tolist()) == {f"item{i}" for i in range(6)}  # 5 comes before 6
    assert "late" not in preparation.corpus.user_ids
    assert [step.interactions for step in preparation.dropped][-2:] == [5, 2]
    with pytest.raises(ValueError, match="max_items 0"):
        prepare(raw, calendar, max_items=0)


def test_items_without_a_title_are_dropped_and_counted(make_raw, calendar):
    rows = [(user, item, 5) for user in "ab" for item in "xyz"]
    preparation = prepare(make_raw(rows, untitled=("y",)), calendar, min_interactions=1)
    assert preparation.untitled_items == 1
    assert preparation.corpus.catalogue.ids.tolist() == ["x", "z"]
    assert preparation.summary()["interactions"] == 4
    with pytest.raises(DataError, match="made: none of its 3 items has a title"):
        prepare(make_raw(rows, untitled=("x", "y", "z")), calendar)


def test_an_empty_result_is_an_error_that_lists_the_steps(make_raw, calendar):
    rows = [("a", "x", 500), ("a", "y", 501), ("b", "x", -7)]
    with pytest.raises(DataError, match=r"before 1970-01-01: 1; at or after 1970-01-01T00:00:00\.130: 2"):
        prepare(make_raw(rows), calendar, min_interactions=1)


def test_invalid_arguments_are_refused(make_raw, calendar):
    raw = make_raw([("a", "x", 1)])
    with pytest.raises(ValueError, match="min_interactions 0"):
        prepare(raw, calendar, min_interactions=0)
    with pytest.raises(ValueError, match="compat 'offical'"):
        prepare(raw, calendar, compat="offical")
