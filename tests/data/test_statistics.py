"""Statistics and catalogues of a domain that can be counted by hand."""

import json
from datetime import date

import polars as pl
import pytest

from mmgrid.data import Calendar, catalogue_at, filter_interactions, interactions_by_month, statistics
from mmgrid.data.calendar import DAY_MS, milliseconds
from mmgrid.data.errors import DataError
from mmgrid.data.monthly import by_month, gap_names, gaps, shared_titles

CALENDAR = Calendar.from_dates(
    {
        "pretrain": ["2020-01-01", "2020-03-01"],
        "phase1": ["2020-03-01", "2020-04-01"],
        "phase2": ["2020-04-01", "2020-05-01"],
        "test": ["2020-05-01", "2020-06-01"],
    }
)
ROWS = [
    ("a", "x", "2020-01-01"),
    ("a", "y", "2020-01-11"),
    ("a", "z", "2020-04-10"),
    ("a", "w", "2020-05-02"),
    ("b", "x", "2020-01-21"),  # x is 20 days old
    ("b", "y", "2020-03-01"),  # y is 50 days old
    ("b", "z", "2020-05-03"),
]


@pytest.fixture
def corpus(make_raw):
    return filter_interactions(make_raw([(u, i, milliseconds(day)) for u, i, day in ROWS]), min_interactions=1).corpus


def test_statistics_by_hand(corpus):
    result = statistics(corpus, CALENDAR)
    assert result.as_dict() == {
        "domain": "made",
        "users": 2,
        "items": 4,
        "test_items": 2,
        "interactions": {"pretrain": 3, "phase1": 1, "phase2": 1, "test": 2},
        "test_users": 2,
        "active": 1,
        "non_active": 1,
        "active_ratio": 0.5,
        "gap_days": pytest.approx((0 + 0 + 0 + 20 + 50) / 5),
    }


def test_a_domain_without_test_users_has_no_ratio(corpus):
    early = statistics(corpus.before(CALENDAR.t2), CALENDAR)
    assert (early.test_users, early.active_ratio) == (0, None)
    assert statistics(corpus.before(0), CALENDAR).gap_days is None


def test_months_without_interactions_are_listed(corpus):
    table = interactions_by_month(corpus)
    assert table["month"].to_list() == [date(2020, month, 1) for month in range(1, 6)]
    assert table["interactions"].to_list() == [3, 0, 1, 1, 2]


def test_an_open_catalogue_holds_what_was_seen(corpus):
    names = lambda items: items.ids[items.candidates].tolist()  # noqa: E731
    assert names(catalogue_at(corpus, "closed", CALENDAR.t0)) == ["w", "x", "y", "z"]
    assert names(catalogue_at(corpus, "open", CALENDAR.t0)) == ["x", "y"]
    assert names(catalogue_at(corpus, "open", CALENDAR.t2)) == ["x", "y", "z"]
    assert len(catalogue_at(corpus, "open", CALENDAR.t0)) == 4  # rows do not change
    fresh = lambda kind, *times: catalogue_at(corpus, kind, *times).new.tolist()  # noqa: E731
    assert fresh("open", CALENDAR.t2, CALENDAR.t0) == [3], "z"
    assert fresh("open", CALENDAR.t2, CALENDAR.pretrain.start) == [1, 2, 3]
    assert fresh("open", CALENDAR.t2) == fresh("closed", CALENDAR.t2, CALENDAR.t0) == []
    with pytest.raises(DataError, match="no item has an interaction before 2019-12-31"):
        catalogue_at(corpus, "open", CALENDAR.pretrain.start - DAY_MS)
    with pytest.raises(ValueError, match="catalogue 'ajar'"):
        catalogue_at(corpus, "ajar", 0)


def test_domains_by_month(corpus):
    found = by_month(corpus)
    assert found["month"].to_list() == [date(2020, month, 1) for month in range(1, 6)]
    assert found["interactions"].to_list() == [3, 0, 1, 1, 2]
    assert found["users"].to_list() == [2, 0, 1, 1, 2]
    assert found["items"].to_list() == [2, 0, 1, 1, 2]
    assert found["new_items"].to_list() == [1.0, None, 0.0, 1.0, 0.5]
    assert found.select("month", "interactions").equals(interactions_by_month(corpus))
    assert by_month(corpus.before(0)).is_empty()


def test_ages_of_chosen_items(corpus):
    assert dict(zip(gap_names(), (7 * gaps(corpus)).round().tolist(), strict=True)) == {
        "0–1 d": 4,  # w, x, y and z are new once
        "1–7 d": 0,
        "7–30 d": 2,  # x after 20 days, z after 23
        "30–90 d": 1,  # y after 50
        "90–365 d": 0,
        "365–1095 d": 0,
        "1095 d or more": 0,
    }
    assert gaps(corpus.before(0)).tolist() == [0] * 7


def test_titles_of_two_domains(make_raw):
    one = filter_interactions(make_raw([("u", "a", 1), ("u", "b", 2)]), min_interactions=1).corpus
    other = filter_interactions(make_raw([("u", "b", 1), ("u", "c", 2), ("u", "d", 3)]), min_interactions=1).corpus
    assert shared_titles({"y": other, "x": one}).rows() == [("x", "y", 1, 0.5, pytest.approx(1 / 3))]


def test_blocks_show_values_from_zero():
    from mmgrid.cli.data_pictures import blocks

    assert blocks([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert blocks([0, 0]) == "▁▁"
    assert blocks([1] * 50 + [3] * 50, width=4) == "▃▃██"
    assert blocks([]) == ""


def test_months_without_interactions_are_dots(make_raw):
    """They are neither few interactions nor a small share of new items, and do not lower the mean of their neighbours."""
    from mmgrid.cli.data_pictures import blocks, month_rows

    assert blocks([8, None, 0, 4]) == "█·▁▅"
    assert blocks([1, None, None, None, 0.5, 0.5], width=3) == "█·▅"
    month = 31 * 86_400_000
    raw = make_raw([("u", "a", 0), ("u", "b", 3 * month), ("v", "a", 3 * month), ("v", "b", 3 * month + 1)])
    rows = month_rows({"x": filter_interactions(raw, min_interactions=1).corpus})
    assert [(row[1], row[3], row[5]) for row in rows] == [
        ("interactions", "▃··█", 3),
        ("users", "▅··█", 2),
        ("items", "▅··█", 2),
        ("new items, percent", "█··▅", 100),
    ]


def test_the_months_fit_into_the_terminal(make_raw):
    from mmgrid.cli.data_pictures import month_rows

    month = 31 * 86_400_000
    raw = make_raw([("u", f"i{place}", place * month) for place in range(60)])
    corpora = {"Movies_and_TV": filter_interactions(raw, min_interactions=1).corpus}
    for terminal in (80, 200):
        rows = [("domain", "", "from", "", "until", "most"), *month_rows(corpora, terminal)]
        wide = sum(max(len(str(row[column])) for row in rows) + 2 for column in range(6)) - 2
        assert wide <= terminal


def test_a_domain_of_one_month_is_seen_in_the_figure():
    from mmgrid.reporting.figures.timeline import timeline_figure

    row = {"month": date(2022, 1, 1), "interactions": 3, "users": 2, "items": 2, "new_items": 1.0}
    one = pl.DataFrame([{"domain": "x"} | row])
    two = pl.DataFrame([{"domain": "x"} | row, {"domain": "x"} | row | {"month": date(2022, 2, 1)}])
    points = []
    for months in (one, two):
        figure = timeline_figure(months, {}, ["x"])
        assert figure is not None
        points.append('"point": true' in json.dumps(figure.spec))
    assert points == [True, False]


def test_a_domain_without_test_users_does_not_end_the_statistics_of_the_others(tmp_path):
    from kits.tiny_grid import mmgrid

    days = {"good": ["2020-01-05", "2020-03-05", "2020-04-05", "2020-05-05"], "old": ["2020-01-05", "2020-01-06"]}
    for domain, own in days.items():
        rows = "".join(f"u{user},i{place},{day}\n" for user in range(3) for place, day in enumerate(own))
        (tmp_path / f"{domain}.csv").write_text("user_id,item_id,timestamp\n" + rows)
    phases = "".join(f'{name} = ["{start}", "{end}"]\n' for name, (start, end) in CALENDAR.as_dates().items())
    data = '[data]\nformat = "csv"\nroot = "."\ndomains = ["old", "good"]\nmin_interactions = 1\n'
    (tmp_path / "g.toml").write_text(f'name = "g"\n{data}[paradigms.sasrec]\n[phases]\n{phases}')
    answer = mmgrid("data", "stats", tmp_path / "g.toml", "--json")
    assert answer.code == 1
    assert "old: no test users" in answer.err
    assert [row["domain"] for row in answer.json] == ["good"]
    shown = mmgrid("data", "stats", tmp_path / "g.toml").out
    assert "█" in shown
    assert "By month" in shown
