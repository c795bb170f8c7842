import math

import numpy as np
import polars as pl
import pytest

from mmgrid.evaluation import CHANGES_SCHEMA, DEFAULT_METRICS, RESULTS_SCHEMA, change_rows, result_rows

NAME = {"paradigm": "semb", "domain": "toys", "model": "phase2"}


def test_one_row_per_group_and_metric_in_percent():
    ranks, active = np.array([0, 4, 30, -1]), np.array([True, True, False, False])
    table = result_rows(ranks, active, **NAME, seed=3)
    assert table.schema == RESULTS_SCHEMA
    assert table.height == 3 * len(DEFAULT_METRICS)
    recall = table.filter(pl.col("metric") == "recall@5")
    assert dict(zip(recall["group"], recall["value"], strict=True)) == {
        "all": 50.0,
        "active": 100.0,
        "non_active": 0.0,
    }
    assert recall["n_users"].to_list() == [4, 2, 2]
    assert table["seed"].unique().to_list() == [3]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_a_merge_names_its_sources():
    table = result_rows(
        np.array([1]),
        np.array([True]),
        paradigm="semb",
        domain="toys",
        model="toys+beauty",
        sources=["toys/phase2", "beauty/phase2"],
        merge="linear",
        parameter=0.5,
        metrics=["mrr"],
    )
    assert table.row(0, named=True) | {"low": 0, "high": 0} == {
        "paradigm": "semb",
        "domain": "toys",
        "model": "toys+beauty",
        "sources": "toys/phase2+beauty/phase2",
        "merge": "linear",
        "parameter": 0.5,
        "group": "all",
        "metric": "mrr",
        "value": 50.0,
        "low": 0,
        "high": 0,
        "n_users": 1,
        "seed": 0,
    }


def test_a_group_without_users_is_nan():
    table = result_rows(np.array([1, 2]), np.array([True, True]), **NAME, metrics=["recall@10"])
    empty = table.filter(pl.col("group") == "non_active").row(0, named=True)
    assert empty["n_users"] == 0
    assert all(math.isnan(empty[column]) for column in ("value", "low", "high"))


def test_changes_against_a_reference_on_the_same_users():
    draw = np.random.default_rng(0)
    reference = draw.integers(0, 60, size=800)
    better = np.maximum(0, reference - draw.integers(0, 20, size=800))
    active = draw.random(800) < 0.5
    table = change_rows(better, reference, active, **(NAME | {"model": "m"}), reference="phase2")
    assert table.schema == CHANGES_SCHEMA
    row = table.filter((pl.col("group") == "all") & (pl.col("metric") == "ndcg@10")).row(0, named=True)
    value = {
        name: result_rows(ranks, active, **NAME).filter((pl.col("group") == "all") & (pl.col("metric") == "ndcg@10"))[
            "value"
        ][0]
        for name, ranks in [("better", better), ("reference", reference)]
    }
    assert row["difference"] == pytest.approx(value["better"] - value["reference"])
    assert row["relative"] == pytest.approx(100 * (value["better"] / value["reference"] - 1))
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert 0 < row["relative_low"] < row["relative"] < row["relative_high"]
    assert row["p_permutation"] < 0.01


def test_a_change_from_zero_has_no_percentage():
    table = change_rows(
        np.array([0, 50]),
        np.array([90, 90]),
        np.array([True, True]),
        **NAME,
        reference="b",
        metrics=["recall@5"],
    )
    first = table.row(0, named=True)
    assert first["difference"] == 50.0
    assert math.isnan(first["relative"])
    assert math.isnan(first["relative_high"])


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="one entry per test user"):
        result_rows(np.array([1]), np.array([True, False]), **NAME)
    with pytest.raises(ValueError, match="sequence of names"):
        result_rows(np.array([1]), np.array([True]), **NAME, sources="toys")
