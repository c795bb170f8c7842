"""Vectors from a user's parquet file: sorted into the order of the items, with an error for every mistake."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmgrid.data.errors import DataError
from mmgrid.semantic_ids.vector_table import read_vectors

IDS = np.array(["a", "b", "c"])


def _write(folder: Path, ids: list[Any], vectors: list[Any], kind: Any = None) -> Path:
    path = folder / "vectors.parquet"
    kind = kind or pl.List(pl.Float32)
    pl.DataFrame({"item_id": ids, "vector": vectors}, schema_overrides={"vector": kind}).write_parquet(path)
    return path


@pytest.mark.parametrize("kind", [pl.List(pl.Float32), pl.List(pl.Float64), pl.Array(pl.Float32, 2), pl.List(pl.Int64)])
def test_rows_are_sorted_into_the_order_of_the_items(tmp_path: Path, kind: Any) -> None:
    path = _write(tmp_path, ["c", "x", "a", "b"], [[5, 6], [0, 0], [1, 2], [3, 4]], kind)
    vectors = read_vectors(path, IDS)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    vectors += 1  # the caller may change it


def test_the_name_of_a_file_is_no_pattern(tmp_path: Path) -> None:
    for folder, value in (("v[1]*", 1), ("v1x", 2)):
        (tmp_path / folder).mkdir()
        _write(tmp_path / folder, ["a", "b", "c"], [[value]] * 3)
    assert set(read_vectors(tmp_path / "v[1]*" / "vectors.parquet", IDS).ravel()) == {1}


def test_whole_numbers_are_valid_ids(tmp_path: Path) -> None:
    path = _write(tmp_path, [20, 3], [[1.0], [2.0]])
    assert read_vectors(path, np.array(["20", "3"])).tolist() == [[1], [2]]


def test_no_items_give_an_empty_table(tmp_path: Path) -> None:
    assert read_vectors(_write(tmp_path, ["a"], [[1.0]]), np.array([], np.str_)).shape[0] == 0


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a"], [[1.0]], "2 of 3 items have no row, such as 'b': embed these items as well"),
        (["a", "b", "c", "b"], [[1.0]] * 4, "1 of 3 items have several rows, such as 'b': keep one row each"),
        (["a", "b", "c"], [[1.0], None, [1.0]], "1 of 3 items have no vector, such as 'b'"),
        (["a", "b", "c"], [[1.0, 2], [1.0], [3, 4.0]], "another width than 2, such as 'b' with 1"),
        (["a", "b", "c"], [[], [], []], "all vectors are empty"),
        (["a", "b", "c"], [[1.0], [float("nan")], [float("inf")]], "2 of 3 items have a null, NaN .* such as 'b'"),
        (["a", "b", "c"], [[1.0], [1.0], [None]], "1 of 3 items have a null, NaN or infinity .* such as 'c'"),
        (["a", "b", None], [[1.0]] * 3, "1 of 3 items have no row, such as 'c'"),
    ],
)
def test_errors_count_the_items_and_name_one(tmp_path: Path, ids: list, vectors: list, message: str) -> None:
    path = _write(tmp_path, ids, vectors)
    with pytest.raises(DataError, match=message) as caught:
        read_vectors(path, IDS)
    assert str(path) in str(caught.value)


def test_numbers_too_large_for_float32_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, ["a", "b", "c"], [[1.0], [1e300], [1.0]], pl.List(pl.Float64))
    with pytest.raises(DataError, match="infinity .* such as 'b'"):
        read_vectors(path, IDS)


def test_errors_in_other_items_do_not_matter(tmp_path: Path) -> None:
    path = _write(tmp_path, ["a", "b", "c", "x", "x"], [[1.0], [2.0], [3.0], [float("nan"), 1], None])
    assert read_vectors(path, IDS).shape == (3, 1)


def test_a_file_of_another_form_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vectors.parquet"
    with pytest.raises(DataError, match="no such file; expected a parquet file with the columns item_id and vector"):
        read_vectors(path, IDS)
    path.write_bytes(b"item_id,vector\n")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_vectors(path, IDS)
    pl.DataFrame({"id": ["a"], "vector": [[1.0]]}).write_parquet(path)
    with pytest.raises(DataError, match="no column 'item_id'; it has id, vector"):
        read_vectors(path, IDS)
    pl.DataFrame({"item_id": ["a"], "vector": ["1 2"]}).write_parquet(path)
    with pytest.raises(DataError, match="column 'vector' is String; expected a list or array of numbers"):
        read_vectors(path, IDS)
    pl.DataFrame({"item_id": [1.5], "vector": [[1.0]]}).write_parquet(path)
    with pytest.raises(DataError, match="column 'item_id' is Float64; expected text"):
        read_vectors(path, IDS)
