"""Raw tables of a grid: keys of [data], what is part of the identity, and grids whose items have no texts."""

from pathlib import Path

import pytest

from mmgrid.files import sha256_file
from mmgrid.grid.cells.sources import Sources
from mmgrid.grid.file.load import Grid, GridError, load_grid

TEXT = """\
name = "shops"
[data]
format = "csv"
root = "."
domains = ["garden", "kitchen"]
[phases]
pretrain = ["2017-07-01", "2022-07-01"]
phase1   = ["2022-07-01", "2022-10-01"]
phase2   = ["2022-10-01", "2023-01-01"]
test     = ["2023-01-01", "2023-04-01"]
[backbone]
kind = "tiny"
[paradigms.sasrec]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for domain in ("garden", "kitchen"):
        (tmp_path / f"{domain}.csv").write_text("user_id,item_id,timestamp\nu,B1,1660000000\n")
    (tmp_path / "grid.toml").write_text(TEXT)
    return tmp_path / "grid.toml"


def recipe(grid: Grid) -> dict:
    return dict(Sources(grid, sha256_file, 0).corpora["garden"].recipe)


def test_only_what_changes_the_reading_is_part_of_a_corpus(file):
    usual = recipe(load_grid(file))
    assert not {"columns", "time_unit", "encoding", "min_rating"} & usual.keys()
    assert list(usual["files"]) == ["garden.csv"]
    named = {"data.columns": {"user": "user_id", "time": "timestamp"}, "data.interactions": "{domain}.csv"}
    assert recipe(load_grid(file, named)) == usual
    changed = recipe(load_grid(file, {"data.columns": {"user": "item_id"}, "data.time_unit": "s"}))
    assert changed == usual | {"columns": {"user": "item_id"}, "time_unit": "s"}


def test_items_without_texts_are_for_paradigms_that_read_none(file):
    assert recipe(load_grid(file))
    with pytest.raises(GridError, match=r"grid\.toml: data: the items of garden have no texts: .* semb reads titles"):
        recipe(load_grid(file, {"paradigms.semb": {}}))
    pooled = {"paradigm": "pooled", "domain": "garden", "phase": "pretrain", "path": "x"}
    with pytest.raises(GridError, match="pooled reads titles"):
        recipe(load_grid(file, {"checkpoints": [pooled]}))
    (file.parent / "items.csv").write_text("item_id,title\nB1,One\n")
    assert list(recipe(load_grid(file, {"paradigms.semb": {}}))["files"]) == ["garden.csv", "items.csv"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('data.columns={usr="uid"}', "data.columns.usr: unknown key; did you mean user?"),
        ("data.columns={user=3}", "data.columns.user: should be a text (it is 3)"),
        ("data.columns={description=3}", "data.columns.description: should be a list (it is 3)"),
        ('data.time_unit="sec"', "data.time_unit: 'sec' is unknown; known are s, ms, us, ns and forms of dates"),
        ('data.encoding="utf9"', "data.encoding: 'utf9' is unknown"),
        ('data.interactions="../x.csv"', "data.interactions: '../x.csv' is no path below root"),
        ('data.items="{name}.csv"', "data.items: '{name}.csv': {name} is unknown; {domain} stands for the domain"),
        ('data.interactions="all.csv"', "data: interactions: 'all.csv' holds all domains; name the column"),
        (
            'data={format="amazon2023", root=".", domains=["a"], time_unit="s"}',
            "data: time_unit: format 'amazon2023' does not take this key; remove it",
        ),
    ],
)
def test_a_wrong_key_is_one_line(file, setting, says):
    with pytest.raises(GridError) as error:
        load_grid(file, [setting])
    assert str(error.value).startswith(f"{file}: {says}")
    assert "\n" not in str(error.value)
