"""Fingerprints: pinned, independent of order, and an error for values without a unique text."""

import datetime
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import FingerprintError, canonical, fingerprint, recipe_values

# Stores hold these: a change here forks everybody's store. `printf '%s' TEXT | sha256sum` gives the same.
GOLDEN = {
    "{}": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    '{"a":[1,0.5,null,true,"\\u00e9"],"b":{"c":3}}': (
        "403ad2b2a3bd90097543e3a820977f7b8e5a03f217e67fcce64051a0fc82c890"
    ),
}


def test_the_canonical_text_and_its_digest_are_pinned() -> None:
    value = {"b": {"c": 3.0}, "a": (1, 0.5, None, True, "é")}
    empty, full = GOLDEN
    assert canonical({}) == empty
    assert canonical(value) == full
    assert fingerprint({}) == GOLDEN[empty]
    assert fingerprint(value) == GOLDEN[full]


def test_cells_are_pinned() -> None:
    corpus = Cell("corpus", ("books",), {"format": "parquet", "files": {"items.parquet": "ab" * 32}})
    recipe = {"seed": 0, "learning_rate": 1e-4}
    checkpoint = Cell("checkpoint", ("semb", "books", "phase1"), recipe, {"corpus": corpus}, version=2)
    assert corpus.fingerprint == "9b05734d4bb0e6d571c466450a82b00210df9b4e8f9903c4faa60ce766dd9ec2"
    assert checkpoint.fingerprint == "0e9c29b7dc0737aa0dba9cb19cf392e82cb6cf5601f1168350817285ce9f2f48"
    assert checkpoint.address.folder == f"checkpoint/semb/books/phase1/{checkpoint.fingerprint[:8]}"


def test_upstream_counts_with_its_role_and_the_readable_key_does_not() -> None:
    first, second = Cell("corpus", ("a",), {"n": 1}), Cell("corpus", ("a",), {"n": 2})
    merge = {"kind": "merge", "key": ("semb", "x"), "recipe": {"seed": 0}}
    prints = {
        Cell(**merge, upstream={"source:a": first, "source:b": second}).fingerprint,
        Cell(**merge, upstream={"source:a": second, "source:b": first}).fingerprint,
        Cell(**merge, upstream={"source:a": first}).fingerprint,
    }
    assert len(prints) == 3
    assert Cell("corpus", ("a",), {"n": 1}).fingerprint == Cell("corpus", ("b",), {"n": 1}).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": np.float64(0.1)}, {"a": 0.1}),
        ({"a": -0.0}, {"a": 0}),
    ],
)
def test_equal_values_have_the_same_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": 0.1}, {"a": math.nextafter(0.1, 1)}),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
    ],
)
def test_different_values_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        {1, 2},
        b"bytes",
        object(),
        Path("/data"),
        np.int64(3),
        np.zeros(2),
        datetime.date(2022, 7, 1),
        {1: "a key that is not a string"},
        lambda: None,
    ],
    ids=lambda value: f"{type(value).__name__}-{value}" if isinstance(value, float) else type(value).__name__,
)
def test_a_value_without_a_unique_text_raises_and_names_its_place(value: Any) -> None:
    with pytest.raises(FingerprintError, match=r"recipe\.training\.values\[1\]"):
        fingerprint({"training": {"values": [0, value]}})


class _First(BaseModel):
    epochs: int = 3


class _Later(BaseModel):
    epochs: int = 3
    dropout: float = Field(default=0.1, json_schema_extra={"absent_means": 0.0})


def test_a_field_added_later_is_left_out_only_while_it_equals_its_frozen_absent_means() -> None:
    before = fingerprint(recipe_values(_First()))
    assert fingerprint(recipe_values(_Later(dropout=0.0))) == before
    assert fingerprint(recipe_values(_Later())) != before  # the default may have moved on; absent_means does not
    assert fingerprint(recipe_values(_Later(dropout=0.5))) != before


def test_nested_recipes_leave_out_absent_values_too() -> None:
    class Grid(BaseModel):
        inner: BaseModel

    assert recipe_values(Grid(inner=_Later(dropout=0.0))) == recipe_values(Grid(inner=_First()))


def test_another_process_with_another_hash_seed_finds_the_same() -> None:
    code = (
        "from mmgrid.grid.cells.fingerprint import fingerprint\n"
        "print(fingerprint({name: {'x': name, 'y': 0.1} for name in {'a', 'b', 'c', 'd'}}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
