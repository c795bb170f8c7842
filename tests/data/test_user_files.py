"""Histories in the forms in which tools write lists of ids."""

import json

import polars as pl
import pytest

from mmgrid.data import DataError
from mmgrid.data.user_files import read_users

WANTED = [["1", "2", "3"], ["4"], []]


def histories(path):
    return [history for block in read_users(path).histories(2) for history in block["history"].to_list()]


@pytest.mark.parametrize(
    "written",
    [
        ("[1, 2, 3]", "[4]", "[]"),
        ("[1.0, 2.0, 3.0, NaN]", "[4.0]", "[null]"),
        ("[1.0, 2.0, 3.0, nan]", "[4.0]", "[nan]"),
        ("[1 2 3]", "[4]", "[]"),
        ("[1. 2. 3.]", "[4.]", "[]"),
        ("(1, 2, 3)", "(4,)", "()"),
        ('["1", 2, "3"]', '["4"]', "[]"),
        ("['1', 2, '3']", "['4']", "[]"),
        ("['1' '2' '3']", "['4']", "[]"),
        ("1, 2 3", "4", ""),
    ],
)
def test_lists_that_were_written_as_text(tmp_path, written):
    pl.DataFrame({"user_id": ["a", "b", "c"], "history": written}).write_csv(tmp_path / "u.csv")
    assert histories(tmp_path / "u.csv") == WANTED


def test_texts_keep_their_zeros_and_signs(tmp_path):
    written = ["[007, 1e5, -x]", '["007", "a b"]', "[B1, B2]"]
    pl.DataFrame({"user_id": ["a", "b", "c"], "history": written}).write_csv(tmp_path / "u.csv")
    assert histories(tmp_path / "u.csv") == [["007", "1e5", "-x"], ["007", "a b"], ["B1", "B2"]]


@pytest.mark.parametrize("values", [[[1, 2, 3], [4], []], [[1, "2", 3], ["4"], []], [[1.0, 2, 3, None], [4], []]])
def test_lists_in_json_lines(tmp_path, values):
    rows = [json.dumps({"user_id": user, "history": value}) for user, value in enumerate(values)]
    (tmp_path / "u.jsonl").write_text("\n".join(rows))
    assert histories(tmp_path / "u.jsonl") == WANTED


@pytest.mark.parametrize("inner", [pl.Int64, pl.Float64, pl.String])
def test_lists_in_parquet(tmp_path, inner):
    values = [[None if item is None else str(item) for item in row] for row in ([1, 2, None, 3], [4], [])]
    table = pl.DataFrame({"user_id": [1, 2, 3], "history": values}).with_columns(pl.col("history").cast(pl.List(inner)))
    table.write_parquet(tmp_path / "u.parquet")
    assert histories(tmp_path / "u.parquet") == WANTED


@pytest.mark.parametrize("wrong", ["[[1], 2]", "[true]", '[{"item": 1}]', "[1.5, 2]"])
def test_what_is_no_list_of_ids_names_its_line(tmp_path, wrong):
    (tmp_path / "u.csv").write_text(f'user_id,history\na,"[1, 2]"\nb,"{wrong.replace(chr(34), chr(34) * 2)}"\n')
    with pytest.raises(DataError, match=r"u\.csv:3: history is .*; expected a list of ids"):
        histories(tmp_path / "u.csv")
    pl.DataFrame({"user_id": ["a", "b"], "history": [[1.0], [1.5]]}).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"u\.parquet: row 2: history is \[1\.5\]; expected ids"):
        histories(tmp_path / "u.parquet")


@pytest.mark.parametrize("history", ["[1, 2", "[[1 2] [3 4]]", "[" * 5000 + "]" * 5000, '{"a": 1}', "(1, 2"])
def test_lists_without_an_end_and_lists_of_lists_are_no_ids(tmp_path, history):
    pl.DataFrame({"user_id": ["u"], "history": [history]}).write_csv(tmp_path / "u.csv")
    with pytest.raises(DataError, match=r"u\.csv:2: history is .*; expected a list of ids"):
        list(read_users(tmp_path / "u.csv").histories(10))


def test_a_history_that_is_missing_is_empty_and_ids_of_lists_stay_whole(tmp_path):
    (tmp_path / "u.csv").write_text("user_id,history\nu,nan\nv,None\n")
    (found,) = read_users(tmp_path / "u.csv").histories(10)
    assert found["history"].to_list() == [[], []]
    pl.DataFrame({"user_id": ["u"], "history": [["a\nb", "c d"]]}).write_parquet(tmp_path / "u.parquet")
    (found,) = read_users(tmp_path / "u.parquet").histories(10)
    assert found["history"].to_list() == [["a\nb", "c d"]]
    pl.DataFrame({"user_id": ["u"], "history": [[True]]}).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match="column history holds lists of Boolean; expected lists of ids"):
        list(read_users(tmp_path / "u.parquet").histories(10))


def test_a_line_of_json_without_a_history(tmp_path):
    """As an empty field of CSV: the user is new."""
    (tmp_path / "u.jsonl").write_text(
        '{"user_id": 1, "history": null}\n{"user_id": 2}\n{"user_id": 3, "history": ["a"]}\n'
    )
    (table,) = read_users(tmp_path / "u.jsonl").histories(9)
    assert table.rows() == [("1", []), ("2", []), ("3", ["a"])]
    (tmp_path / "u.jsonl").write_text('{"user_id": 1, "history": ["a"]}\n{"history": ["a"]}\n')
    with pytest.raises(DataError, match=":2: user_id is missing"):
        list(read_users(tmp_path / "u.jsonl").histories(9))
