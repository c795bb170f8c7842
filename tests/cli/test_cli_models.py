"""recommend and evaluate: a checkpoint alone gives the same results as the grid."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kits.tiny_grid import Built, mmgrid


def _rows(answer_rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("group", "metric", "value", "low", "high", "n_users")) for row in answer_rows]


@pytest.fixture(scope="module")
def corpus(built: Built) -> Path:
    return built.folder("corpus/garden")


@pytest.mark.smoke
@pytest.mark.parametrize("paradigm", ["semb", "sasrec"])
def test_evaluating_a_checkpoint_gives_the_results_of_the_grid(built: Built, corpus: Path, paradigm: str) -> None:
    checkpoint = built.folder(f"checkpoint/{paradigm}/garden/phase2")
    found = mmgrid("evaluate", checkpoint, "--domain-dir", corpus, "--json").json
    known = pl.read_parquet(built.folder(f"evaluation/{paradigm}/garden/phase2") / "rows.parquet").to_dicts()
    assert _rows(found) == [pytest.approx(row) for row in _rows(known)]
    assert {(row["paradigm"], row["domain"], row["model"]) for row in found} == {(paradigm, "garden", "phase2")}


def test_evaluating_prints_the_number_of_users(built: Built, corpus: Path) -> None:
    checkpoint = built.folder("checkpoint/sasrec/garden/phase1")
    arguments = ("evaluate", checkpoint, "--domain-dir", corpus, "--max-users", "9", "--grid", built.file)
    answer = mmgrid(*arguments, "--target", "phase2")
    assert answer.code == 0
    assert re.match(rf"{re.escape(str(checkpoint))} on garden: 9 of \d+ users, percent\n", answer.out)
    assert {row["n_users"] for row in mmgrid(*arguments, "--json").json if row["group"] == "all"} == {9}
    assert mmgrid(*arguments, "--target", "tomorrow").code == 2


@pytest.mark.parametrize("checkpoint", ["semb/garden/phase2", "sasrec/garden/all"])
def test_a_checkpoint_is_not_evaluated_on_its_training_data(built: Built, corpus: Path, checkpoint: str) -> None:
    folder = built.folder(f"checkpoint/{checkpoint}")
    answer = mmgrid("evaluate", folder, "--domain-dir", corpus, "--target", "phase2")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        f"mmgrid: {folder}: was trained on interactions up to 2023-01-01, and phase2 [2022-10-01, 2023-01-01) begins "
        "before that: it would be evaluated on its training data. Use a checkpoint that was trained up to 2022-10-01 at "
        "most, or evaluate it with --target test\n"
    )


def test_a_grid_with_an_earlier_test_phase_does_not_bypass_the_leakage_check(
    built: Built, corpus: Path, tmp_path: Path
) -> None:
    earlier = built.file.read_text().replace('"2022-', '"2021-').replace('"2023-', '"2022-')
    (tmp_path / "earlier.toml").write_text(earlier)
    checkpoint = built.folder("checkpoint/sasrec/garden/pretrain")
    answer = mmgrid("evaluate", checkpoint, "--domain-dir", corpus, "--grid", tmp_path / "earlier.toml")
    assert answer.code == 1
    assert "test [2022-01-01, 2022-04-01) begins before that" in answer.err
    assert answer.err.endswith("or name another grid file (--grid)\n")


@pytest.mark.parametrize("paradigm", ["semb", "sasrec"])
def test_recommending_after_a_history(built: Built, corpus: Path, paradigm: str) -> None:
    items = pl.read_parquet(corpus / "items.parquet")
    history = items["item_id"].to_list()[:3]
    arguments = ("recommend", built.folder(f"checkpoint/{paradigm}/garden/phase2"), "--domain-dir", corpus, "-k", "7")
    joined = mmgrid(*arguments, "--history", ",".join(history), "--json").json
    repeated = mmgrid(*arguments, *(word for item in history for word in ("--history", item)), "--json").json
    assert joined == repeated
    assert joined["history"] == history
    found = joined["items"]
    assert [item["rank"] for item in found] == [1, 2, 3, 4, 5, 6, 7]
    assert not {item["item_id"] for item in found} & set(history)
    assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)
    titles = dict(items.select("item_id", "title").iter_rows())
    assert all(titles[item["item_id"]] == item["title"] for item in found)
    text = mmgrid(*arguments, "--history", ",".join(history)).out
    assert text.startswith("after " + "; ".join(titles[item] for item in history))
    assert all(item["item_id"] in text and item["title"] in text for item in found)


def test_k_above_the_catalogue_size_returns_all_items(built: Built, corpus: Path) -> None:
    items = pl.read_parquet(corpus / "items.parquet")["item_id"].to_list()
    checkpoint = built.folder("checkpoint/semb/garden/phase2")
    arguments = ("recommend", checkpoint, "--domain-dir", corpus, "--history", items[0], "-k", "5000", "--json")
    assert {item["item_id"] for item in mmgrid(*arguments).json["items"]} == set(items[1:])


def test_an_unusable_history_or_checkpoint_is_one_line(built: Built, corpus: Path, tmp_path: Path) -> None:
    checkpoint = built.folder("checkpoint/semb/garden/phase2")
    item = pl.read_parquet(corpus / "items.parquet")["item_id"][0]
    for arguments, says in (
        ((checkpoint, "--domain-dir", corpus, "--history", "B0NEVER"), "--history: B0NEVER is not among the items of "),
        ((checkpoint, "--domain-dir", corpus, "--history", ","), "--history: names no item"),
        ((checkpoint, "--domain-dir", tmp_path, "--history", item), f"{tmp_path}/interactions.parquet: no such file"),
        ((tmp_path, "--domain-dir", corpus, "--history", item), f"{tmp_path}: no checkpoint: its config.json"),
        ((built.folder("backbone/tiny"), "--domain-dir", corpus, "--history", item), "'qwen3' is no recommender"),
    ):
        answer = mmgrid("recommend", *arguments)
        assert (answer.code, answer.out) == (1, ""), arguments
        assert says in answer.err
        assert answer.err.startswith("mmgrid: ")
        assert answer.err.count("\n") == 1


def test_a_model_of_item_ids_refuses_the_items_of_another_domain(built: Built) -> None:
    checkpoint, kitchen = built.folder("checkpoint/sasrec/garden/phase2"), built.folder("corpus/kitchen")
    answer = mmgrid("evaluate", checkpoint, "--domain-dir", kitchen)
    assert answer.code == 1
    assert "mmgrid: this SASRec has" in answer.err
    assert "items" in answer.err


def test_a_model_of_texts_ranks_the_items_of_another_domain(built: Built) -> None:
    checkpoint, kitchen = built.folder("checkpoint/semb/garden/phase2"), built.folder("corpus/kitchen")
    rows = mmgrid("evaluate", checkpoint, "--domain-dir", kitchen, "--json").json
    assert {row["domain"] for row in rows} == {"kitchen"}


def test_a_domain_without_test_users_is_reported(built: Built, corpus: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(corpus / "interactions.parquet")
    table.filter(pl.col("timestamp") < 1_600_000_000_000).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.parquet").write_bytes((corpus / "items.parquet").read_bytes())
    answer = mmgrid("evaluate", built.folder("checkpoint/semb/garden/phase2"), "--domain-dir", tmp_path)
    assert answer.code == 1
    assert ": no test users: no user's last interaction lies in test [2023-01-01, 2023-04-01)" in answer.err
    assert answer.err.count("\n") == 1
