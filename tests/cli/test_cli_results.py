"""results, report and data stats show the same numbers, and all of them."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kits.tiny_grid import Built, mmgrid, named

COLUMNS = [
    "paradigm",
    "domain",
    "model",
    "sources",
    "merge",
    "parameter",
    "group",
    "metric",
    "value",
    "low",
    "high",
    "n_users",
    "seed",
]
METRICS = {"recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr"}
GROUPS = {"all", "active", "non_active"}


@pytest.fixture(scope="module")
def rows(built: Built) -> list[dict[str, Any]]:
    return mmgrid("results", built.file, "--store", built.root, "--json").json


@pytest.fixture(scope="module")
def page(built: Built, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    answer = mmgrid("report", built.file, "--store", built.root, "--out", out, "--no-figures", "--json")
    assert answer.code == 0
    assert answer.json == {"report": str(out), "bytes": out.stat().st_size, "figures": []}
    return out.read_text()


def test_the_rows_are_those_of_the_architecture(rows: list[dict[str, Any]], built: Built) -> None:
    assert [list(row) for row in rows] == [COLUMNS] * len(rows)
    keys = [tuple(row[name] for name in ("paradigm", "domain", "model", "group", "metric", "seed")) for row in rows]
    assert len(set(keys)) == len(keys)
    models = {("semb", model) for model in ("pretrain", "phase1", "phase2", "linear=garden+kitchen")}
    models |= {("sasrec", model) for model in ("pretrain", "phase1", "phase2", "all")}
    models |= {("baseline", model) for model in ("popularity", "random")}
    assert {key[:5] for key in keys} == {
        (paradigm, domain, model, group, metric)
        for paradigm, model in models
        for domain in ("garden", "kitchen")
        for group in GROUPS
        for metric in METRICS
    }


def test_values_are_percent_with_an_interval_around_them(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 100
        merged = row["model"] == "linear=garden+kitchen"
        assert (row["sources"], row["merge"]) == (("garden+kitchen", "linear") if merged else ("", ""))
        assert row["parameter"] == (0.5 if merged else None)
        assert row["seed"] == 0
    of = {(row["domain"], row["group"]): row["n_users"] for row in rows}
    for domain in ("garden", "kitchen"):
        assert of[domain, "all"] == of[domain, "active"] + of[domain, "non_active"] > 10


def test_the_table_shows_the_main_metrics_of_a_group(built: Built, rows: list[dict[str, Any]]) -> None:
    for group in GROUPS:
        text = mmgrid("results", built.file, "--store", built.root, "--group", group).out
        table = re.findall(r"^(garden|kitchen) +(\w+) +(\S+) +([\d.]+) ([\d.]+)–([\d.]+) ", text, re.MULTILINE)
        assert len(table) == 20
        wanted = {
            (row["domain"], row["paradigm"], row["model"]): tuple(
                f"{row[name]:.{1 if row[name] >= 9.995 else 2}f}" for name in ("value", "low", "high")
            )
            for row in rows
            if (row["group"], row["metric"]) == (group, "recall@10")
        }
        assert {tuple(line[:3]): tuple(line[3:]) for line in table} == wanted
        assert "…" not in text
        of_models, of_merges = text.split("\nMerges, ")
        assert max(map(len, of_models.splitlines())) < 80
        assert "linear=garden+kitchen" in of_merges
    wrong = mmgrid("results", built.file, "--store", built.root, "--group", "everybody")
    assert wrong.code == 2
    assert "everybody: must be one of all, active, non_active" in wrong.err
    of_merges = ("results", built.file, "--store", built.root, "--merges")
    assert (
        "recall@5: what merges keep is measured by ndcg@10, ndcg@20" in mmgrid(*of_merges, "--metric", "recall@5").err
    )
    several = mmgrid(*of_merges, "--metric", "ndcg@20", "--metric", "recall@20").out
    assert [name for name in ("ndcg@10", "ndcg@20", "recall@20") if name in several] == ["ndcg@20", "recall@20"]


def test_the_table_shows_the_chosen_metrics(built: Built, rows: list[dict[str, Any]]) -> None:
    arguments = ("results", built.file, "--store", built.root)
    asked = mmgrid(*arguments, "--metric", "mrr", "--metric", "ndcg@20").out.splitlines()
    assert asked[1].split() == ["domain", "paradigm", "model", "mrr", "ndcg@20", "users"]
    (row,) = (
        row
        for row in rows
        if (row["domain"], row["model"], row["group"], row["metric"]) == ("garden", "popularity", "all", "mrr")
    )
    (line,) = (line for line in asked if line.startswith("garden") and " popularity " in line)
    assert line.split()[3] == f"{row['value']:.{1 if row['value'] >= 9.995 else 2}f}"
    wrong = mmgrid(*arguments, "--metric", "ndgc@20")
    assert wrong.code == 2
    assert "ndgc@20: must be one of recall@5, recall@10, " in wrong.err


def test_results_follow_from_the_stored_ranks(built: Built, rows: list[dict[str, Any]]) -> None:
    ranks = pl.read_parquet(built.folder("evaluation/semb/kitchen/phase2") / "ranks.parquet")
    assert ranks.columns == ["user_id", "target", "active", "rank"]
    active = ranks.filter("active")["rank"]
    gain = sum(1 / math.log2(rank + 2) for rank in active if 0 <= rank < 20) / len(active)
    (row,) = (
        row
        for row in rows
        if (row["paradigm"], row["domain"], row["model"]) == ("semb", "kitchen", "phase2")
        and (row["group"], row["metric"]) == ("active", "ndcg@20")
    )
    assert row["value"] == pytest.approx(100 * gain, rel=1e-12)
    assert row["n_users"] == len(active)


def _payload(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_report_contains_the_numbers_of_the_results(page: str, rows: list[dict[str, Any]]) -> None:
    """The rows of Table 2, with their intervals, are exactly those of `results --json`."""
    table = pl.read_csv(_payload(page)["exports"]["table-2"]["csv"].encode())
    trained = {"to t0": "pretrain", "to t1": "phase1", "to t2": "phase2"}
    of = {
        (row["domain"], row["group"], row["metric"], row["paradigm"], row["model"]): row
        for row in rows
        if not row["merge"]
    }
    metrics = [name for name in table.columns if "@" in name and " " not in name]
    assert {"recall@10", "recall@20", "ndcg@10", "ndcg@20"} <= set(metrics)
    seen = set()
    for line in table.to_dicts():
        for metric in metrics:
            found = [
                key
                for key, row in of.items()
                if key[:3] == (line["domain"], line["group"], metric)
                and (row["value"], row["low"], row["high"], row["n_users"])
                == pytest.approx((line[metric], line[f"{metric} low"], line[f"{metric} high"], line["n_users"]))
                and (key[4] == trained.get(line["trained"], key[4]))
            ]
            assert found, (line, metric)
            seen.update(found)
    assert seen == {key for key in of if key[2] in metrics}


def _data(page: str) -> dict[str, dict[str, list[Any]]]:
    """The figures' data sets: name → column → values; the page writes texts that repeat once."""

    def values(column: Any) -> list[Any]:
        return [column["texts"][place] for place in column["places"]] if isinstance(column, dict) else column

    found = _payload(page)["data"]
    return {name: {column: values(given) for column, given in columns.items()} for name, columns in found.items()}


def test_the_figures_contain_the_numbers_of_the_results(page: str, rows: list[dict[str, Any]]) -> None:
    data = _data(page)
    known = {(row["domain"], row["group"], row["metric"], row["value"], row["low"], row["high"]) for row in rows}
    scores = data["scores"]
    names = ("domain", "group", "metric", "value", "low", "high")
    drawn = set(zip(*(scores[name] for name in names), strict=True))
    assert drawn <= known
    merged = {(row["domain"], row["group"], row["metric"]): row["value"] for row in rows if row["merge"]}
    pairs = data["pairs"]
    drawn_pairs = {
        (domain, group, metric): value
        for domain, group, metric, value in zip(
            *(pairs[name] for name in ("domain", "group", "metric", "merged")), strict=True
        )
    }
    # A change against a value of 0 has no percentage, so a figure of changes leaves it out.
    assert drawn_pairs.items() <= merged.items()
    assert len(drawn_pairs) >= len(merged) // 2


def test_the_report_opens_without_a_network_and_shows_every_cell(page: str, built: Built) -> None:
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//""", page)
    assert "default-src &#39;none&#39;" in page
    cells = pl.read_csv(_payload(page)["exports"]["table-cells"]["csv"].encode())
    assert set(cells["name"]) == {cell.name for cell in built.cells}
    assert set(cells["fingerprint"]) == {cell.fingerprint for cell in built.cells}
    losses = _data(page)["losses"]
    curves = set(zip(*(losses[name] for name in ("paradigm", "domain", "phase", "seed")), strict=True))
    assert curves == {(*cell.key, 0) for cell in built.cells if cell.kind == "checkpoint"}


def test_statistics_are_those_of_the_corpora(built: Built, page: str) -> None:
    found = mmgrid("data", "stats", built.file, "--store", built.root, "--json").json
    assert [row["domain"] for row in found] == ["garden", "kitchen"]
    for row in found:
        folder = built.folder(f"corpus/{row['domain']}")
        interactions = pl.read_parquet(folder / "interactions.parquet")
        assert row["users"] == interactions["user_id"].n_unique()
        assert row["items"] == len(pl.read_parquet(folder / "items.parquet"))
        assert row["pretrain"] + row["phase1"] + row["phase2"] + row["test"] == len(interactions)
        assert row["test_users"] == row["active"] + row["non_active"]
        assert row["test_users"] == len(
            pl.read_parquet(built.folder(f"evaluation/baseline/{row['domain']}/random") / "ranks.parquet")
        )
    exported = pl.read_csv(_payload(page)["exports"]["table-1"]["csv"].encode()).to_dicts()
    assert [{name: line[name] for name in found[0]} for line in exported] == [pytest.approx(row) for row in found]
    text = mmgrid("data", "stats", built.file, "--store", built.root).out
    assert re.search(rf"^garden +{found[0]['users']} ", text, re.MULTILINE)


def test_results_and_report_of_an_empty_store_say_where_they_looked(built: Built, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for command in (("results",), ("report", "-o", tmp_path / "empty.html"), ("results", "--study", "temporal")):
        arguments = (command[0], built.file, "--store", root, *command[1:])
        root.exists() and shutil.rmtree(root)
        missing = mmgrid(*arguments)
        assert (missing.code, missing.out) == (1, "")
        assert missing.err.startswith(f"mmgrid: {root}: no such store; `mmgrid run GRID` creates one")
        assert not root.exists()
        assert mmgrid("plan", built.file, "--store", root).code == 0
        empty = mmgrid(*arguments)
        assert (empty.code, empty.out) == (1, "")
        assert re.match(
            rf"mmgrid: {root}: no(thing|) .*of {built.file} is built in this store. `mmgrid run ", empty.err
        )
        assert empty.err.count("\n") == 1
    assert not (tmp_path / "empty.html").exists()


def test_a_report_takes_the_place_of_no_grid_and_no_folder(copied: Built, tmp_path: Path) -> None:
    text = copied.file.read_text()
    for out, said in ((copied.file, "is the file that is read"), (tmp_path, "is a folder; name a file")):
        answer = mmgrid("report", copied.file, "--store", copied.root, "-o", out)
        assert answer.code == 1
        assert said in answer.err
    assert copied.file.read_text() == text


def test_a_report_of_a_half_built_grid(copied: Built, tmp_path: Path) -> None:
    for name in ("corpus/kitchen", "evaluation/semb/garden/phase2", "checkpoint/sasrec/garden/all"):
        copied.store.remove(named(copied.cells, name).address)
    answer = mmgrid("report", copied.file, "--store", copied.root, "-o", tmp_path / "half.html")
    assert (answer.code, answer.err) == (0, "")
    cells = pl.read_csv(_payload((tmp_path / "half.html").read_text())["exports"]["table-cells"]["csv"].encode())
    assert len(cells.filter(pl.col("state") == "missing")) == 3
