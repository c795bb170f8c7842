"""Facts of a domain's change, counted by hand."""

import pytest

from mmgrid.data import Phase, filter_interactions
from mmgrid.data.calendar import milliseconds
from mmgrid.data.turnover import likeness_to_year_before, new_item_share, return_rate

SPRING = Phase("phase1", milliseconds("2021-04-01"), milliseconds("2021-07-01"))
SUMMER = Phase("phase2", milliseconds("2021-07-01"), milliseconds("2021-10-01"))
ROWS = [
    ("a", "x", "2020-08-01"),
    ("e", "x", "2020-09-01"),
    ("b", "y", "2020-09-29"),
    ("b", "w", "2020-05-01"),  # before the summer of the year before
    # spring: a, b and c
    ("a", "y", "2021-04-01"),
    ("b", "x", "2021-05-01"),
    ("c", "z", "2021-06-30"),
    # summer: a returns twice, d is new
    ("d", "x", "2021-07-01"),
    ("a", "v", "2021-08-01"),
    ("d", "v", "2021-08-02"),
    ("a", "z", "2021-09-30"),
    ("c", "u", "2021-10-01"),  # after summer
]


@pytest.fixture
def corpus(make_raw):
    return filter_interactions(make_raw([(u, i, milliseconds(day)) for u, i, day in ROWS]), min_interactions=1).corpus


def test_one_of_three_users_returns(corpus):
    assert return_rate(corpus, SPRING, SUMMER) == pytest.approx(1 / 3)


def test_half_of_the_interactions_have_an_item_that_nobody_had_before(corpus):
    """v is new, both times; x and z were there before."""
    assert new_item_share(corpus, SUMMER) == 2 / 4
    assert new_item_share(corpus, SPRING) == 1 / 3  # z is new then


def test_the_likeness_is_the_cosine_of_the_counts(corpus):
    """Summer has x 1, v 2, z 1; that of the year before x 2, y 1."""
    assert likeness_to_year_before(corpus, SUMMER) == pytest.approx(2 / (6**0.5 * 5**0.5))


def test_the_same_items_in_the_same_shares_are_alike(make_raw):
    rows = [("a", "x", "2020-08-01"), ("a", "y", "2020-08-02")] + 3 * [("b", i, "2021-08-01") for i in "xy"]
    found = filter_interactions(make_raw([(u, i, milliseconds(day)) for u, i, day in rows]), min_interactions=1).corpus
    assert likeness_to_year_before(found, SUMMER) == pytest.approx(1)


def test_phases_without_interactions_have_no_facts(corpus):
    empty = corpus.before(0)
    assert return_rate(empty, SPRING, SUMMER) is None
    assert new_item_share(empty, SUMMER) is None
    assert likeness_to_year_before(empty, SUMMER) is None
    assert (
        likeness_to_year_before(corpus, Phase("phase1", milliseconds("2023-07-01"), milliseconds("2023-08-01"))) is None
    )
    assert return_rate(corpus.before(SUMMER.start), SPRING, SUMMER) == 0
