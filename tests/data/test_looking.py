"""What is guessed about files that nobody described, and phases that leave something to train and to test."""

import numpy as np
import polars as pl
import pytest

from mmgrid.data import Corpus, DataError, RawDomain
from mmgrid.data.export import export
from mmgrid.data.looking import look
from mmgrid.data.planning import plan_phases
from mmgrid.data.raw import INTERACTIONS
from mmgrid.data.readers import READERS
from mmgrid.data.readers.guessing import guess_column

START = 1_640_995_200  # 2022-01-01
DAY = 86_400


def log(users: int = 40, length: int = 8, days: int = 300) -> pl.DataFrame:
    """Each user takes items evenly over the days, in a rhythm of their own."""
    rows = [
        (f"u{user}", (user + place) % 10, START + (place * days // length + user % 9) * DAY)
        for user in range(users)
        for place in range(length)
    ]
    return pl.DataFrame(rows, schema=["uid", "iid", "ts"], orient="row")


GOODS = pl.DataFrame({"iid": range(10), "name": [f"Item {n}" for n in range(10)], "detail_desc": ["x"] * 10})


@pytest.mark.parametrize(
    ("name", "role", "guess"),
    [
        ("UserID", "user", "UserID"),
        ("visitor-id", "user", "visitor-id"),
        ("asin", "item", "asin"),
        ("movieId", "item", "movieId"),
        ("t_dat", "time", "t_dat"),
        ("prod_name", "title", "prod_name"),
        ("price", "item", None),
        ("category", "domain", None),
    ],
)
def test_a_column_is_known_by_its_name(name, role, guess):
    assert guess_column(["x", name], role) == guess


def test_one_file_for_each_domain_and_one_for_the_items(tmp_path):
    for domain in ("garden", "kitchen"):
        log().write_csv(tmp_path / f"{domain}.csv", separator=";")
    GOODS.write_csv(tmp_path / "goods.csv")
    (tmp_path / "two words.csv").write_text("x\n")
    found = look(tmp_path)
    assert (found.format, found.root, found.domains) == ("csv", tmp_path, ("garden", "kitchen"))
    assert found.options.items == "goods.csv"
    assert dict(found.named) == {
        "user": "uid",
        "item": "iid",
        "time": "ts",
        "title": "name",
        "description": "detail_desc",
    }
    assert found.left_out == ("two words.csv",)
    assert found.has_texts
    assert len(found.read("garden").items) == 10
    alone = look(tmp_path / "kitchen.csv")
    assert (alone.domains, alone.options.interactions, alone.left_out) == (("kitchen",), None, ())


def test_a_column_that_names_the_domains_and_one_that_is_known_by_its_values(tmp_path):
    both = pl.concat([log().with_columns(shop=pl.lit(shop)) for shop in ("A & B", "games")])
    both.rename({"ts": "moment"}).write_parquet(tmp_path / "all clicks.parquet")
    found = look(tmp_path / "all clicks.parquet")
    assert found.domains == ("A---B", "games")
    assert (found.options.interactions, found.options.columns.domain) == ("all clicks.parquet", "shop")
    assert found.named["time"] == "moment"
    assert not found.has_texts
    assert len(found.read("games").interactions) == len(log())
    log().rename({"uid": "a"}).write_csv(tmp_path / "x.csv")
    with pytest.raises(DataError, match="cannot tell which column is the user; it has a, iid, ts.*--column user=NAME"):
        look(tmp_path / "x.csv")
    assert look(tmp_path / "x.csv", {"user": "a"}).options.columns.user == "a"


def test_what_was_exported_is_found_again(tmp_path):
    interactions = log().select(user_id="uid", item_id=pl.col("iid").cast(pl.String), timestamp=pl.col("ts") * 1000)
    items = GOODS.select(item_id=pl.col("iid").cast(pl.String), title="name", description="detail_desc")
    corpus = Corpus.from_tables("shop", interactions, items)
    for to in ("recbole", "csv", "parquet"):
        export([corpus], tmp_path / to, to)
        for place in (tmp_path / to, tmp_path / to / "shop"):
            found = look(place)
            assert (found.format, found.root, found.domains) == (to, tmp_path / to, ("shop",))
            assert found.options.identity() == {}
    with pytest.raises(DataError, match="holds no table with columns for user and item"):
        look(tmp_path)


def raw(table: pl.DataFrame) -> RawDomain:
    interactions = table.select(pl.col("uid"), pl.col("iid").cast(pl.String), pl.col("ts") * 1000)
    named = pl.DataFrame(interactions.rows(), schema=INTERACTIONS, orient="row")
    items = named.select("item_id", title="item_id", description=pl.lit("")).unique("item_id")
    return RawDomain("shop", named, items)


def test_phases_are_tenths_of_the_time_and_of_the_interactions_where_time_is_uneven():
    plan = plan_phases([raw(log())])
    assert (plan.of_time, plan.min_interactions) == (True, 5)
    lengths = {phase.end - phase.start for phase in plan.calendar.phases[1:]}
    assert len(lengths) == 1
    late = log(1, 6).with_columns(ts=pl.col("ts") + 3000 * DAY, uid=pl.lit("late"))  # one user, years later
    uneven = plan_phases([raw(pl.concat([log(), late]))])
    assert not uneven.of_time
    assert uneven.test_users[0] > 1


def test_a_smaller_minimum_where_users_have_few_interactions():
    plan = plan_phases([raw(log(length=4))])
    assert plan.min_interactions == 3
    hours = plan_phases([raw(log().with_columns(ts=START + (pl.col("ts") - START) // 200))])
    assert np.diff([phase.start for phase in hours.calendar.phases]).min() < DAY * 1000
    with pytest.raises(DataError, match="within a few hours"):
        plan_phases([raw(log().with_columns(ts=pl.lit(START)))])
    with pytest.raises(DataError, match="no phases were found .*shop"):
        plan_phases([raw(log(length=1))])


def test_a_folder_with_many_other_files_is_not_searched_for_each(tmp_path, monkeypatch):
    log().write_csv(tmp_path / "garden.csv")
    log().write_csv(tmp_path / "-rf.csv")  # would be an option on a command line
    for number in range(200):
        (tmp_path / f"note{number}.txt").touch()
    asked = []
    sources = READERS["csv"].__class__.sources
    monkeypatch.setattr(
        READERS["csv"].__class__, "sources", lambda *args, **named: asked.append(args[2]) or sources(*args, **named)
    )
    found = look(tmp_path)
    assert (found.domains, found.left_out) == (("garden",), ("-rf.csv",))
    assert len(asked) < 20
