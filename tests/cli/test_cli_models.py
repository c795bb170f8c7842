"""recommend and evaluate: a checkpoint alone gives the same results as the grid."""

import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kits.tiny_grid import Built, bytes_below, mmgrid


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


@pytest.fixture(scope="module")
def histories(corpus: Path) -> pl.DataFrame:
    """Users with histories of several lengths; one with an item that nobody sells, one with nothing else."""
    table = pl.read_parquet(corpus / "interactions.parquet").sort("user_id", "timestamp")
    users = table.group_by("user_id", maintain_order=True).agg(pl.col("item_id").alias("history"))[:9]
    more = pl.DataFrame({"user_id": ["odd", "gone"], "history": [[users["history"][0][0], "nowhere"], ["nowhere"]]})
    return pl.concat([users, more])


@pytest.mark.parametrize("paradigm", ["semb", "sasrec"])
def test_recommending_for_the_users_of_a_file(
    built: Built, corpus: Path, histories: pl.DataFrame, paradigm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmgrid.paradigms import many_users

    model = ("recommend", built.folder(f"checkpoint/{paradigm}/garden/phase2"), "--domain-dir", corpus, "-k", "5")
    histories.write_parquet(tmp_path / "by_user.parquet")
    texts = histories.with_columns(pl.col("history").list.join(" "))
    texts.write_csv(tmp_path / "by_user.csv")
    rows = histories.explode("history").rename({"history": "item_id"})
    rows.write_ndjson(tmp_path / "rows.jsonl")
    timed = rows.with_columns(timestamp=1_660_000_000 - pl.int_range(pl.len()))
    timed.reverse().sample(fraction=1.0, shuffle=True, seed=1).write_csv(tmp_path / "rows.csv")
    expected = None
    for name in ("by_user.parquet", "by_user.csv", "rows.jsonl"):
        said = mmgrid(*model, "--users", tmp_path / name, "-o", tmp_path / "best.parquet", "--json").json
        assert (said["users"], said["unknown_items"], said["without_history"]) == (11, 2, 1)
        best = pl.read_parquet(tmp_path / "best.parquet")
        assert expected is None or best.equals(expected)
        expected = best
    assert best["user_id"].to_list() == histories["user_id"].to_list()
    assert best.schema == {"user_id": pl.String, "items": pl.List(pl.String), "scores": pl.List(pl.Float32)}
    assert best.row(-1) == ("gone", [], [])
    for user, items, scores in best[:2].iter_rows():
        own = histories.filter(user_id=user)["history"][0].to_list()
        alone = mmgrid(*model, "--history", ",".join(own), "--json").json["items"]
        assert items == [one["item_id"] for one in alone]
        assert scores == pytest.approx([one["score"] for one in alone], abs=1e-5)
    mmgrid(*model, "--users", tmp_path / "rows.csv", "-o", tmp_path / "by_time.parquet")
    reversed_users = histories.with_columns(pl.col("history").list.reverse())
    reversed_users.write_parquet(tmp_path / "by_user.parquet")
    mmgrid(*model, "--users", tmp_path / "by_user.parquet", "-o", tmp_path / "best.parquet")
    by_time = pl.read_parquet(tmp_path / "by_time.parquet").sort("user_id")
    assert by_time["items"].equals(pl.read_parquet(tmp_path / "best.parquet").sort("user_id")["items"])

    # A run that ends in its third block goes on there; another one of the same name begins anew.
    monkeypatch.setattr(many_users, "EMBEDDING_BLOCK", 4)
    blocks: list[int] = []
    made = many_users._histories

    def dies(rows: pl.Series, kept: Any) -> Any:
        blocks.append(len(kept))
        if len(blocks) == 3:
            raise OSError("the power is gone")
        return made(rows, kept)

    monkeypatch.setattr(many_users, "_histories", dies)
    again = (*model, "--users", tmp_path / "by_user.parquet", "-o", tmp_path / "again.parquet", "--json")
    assert mmgrid(*again).code == 1
    assert not (tmp_path / "again.parquet").exists()
    assert mmgrid(*again).json["resumed"] == 8
    assert blocks == [4, 4, 2, 2]
    names = {path.name for path in tmp_path.iterdir()}
    assert not [name for name in names if name.endswith(".parts")]
    whole, parts = pl.read_parquet(tmp_path / "best.parquet"), pl.read_parquet(tmp_path / "again.parquet")
    assert parts["items"].equals(whole["items"])


def test_what_would_be_lost_is_not_replaced(
    built: Built, corpus: Path, histories: pl.DataFrame, tmp_path: Path
) -> None:
    model = (built.folder("checkpoint/sasrec/garden/phase2"), "--domain-dir", corpus)
    users, items, mine = tmp_path / "u.parquet", tmp_path / "i.parquet", tmp_path / "mine.parquet"
    histories.write_parquet(users)
    shutil.copy(corpus / "items.parquet", items)
    mine.write_bytes(b"precious")
    other = tmp_path / "best.parquet.parts"
    other.mkdir()
    (other / "mine.txt").write_text("precious")
    before = bytes_below(tmp_path)
    for command, said in (
        (("recommend", *model, "--users", users, "-o", users), "u.parquet: is the file that is read"),
        (("embed", *model, "--users", users, "-o", users), "u.parquet: is the file that is read"),
        (("embed", *model, "--items", items, "-o", items), "i.parquet: is the file that is read"),
        (("embed", *model, "--items", items, "-o", mine), "no table with the columns item_id, vector"),
        (("recommend", *model, "--users", users, "-o", items), "no table with the columns user_id, items, scores"),
        (
            ("recommend", *model, "--users", users, "-o", tmp_path / "best.parquet"),
            "best.parquet.parts: holds mine.txt",
        ),
    ):
        answer = mmgrid(*command)
        assert answer.code == 1
        assert said in answer.err
        assert bytes_below(tmp_path) == before


@pytest.mark.parametrize("paradigm", ["semb", "sasrec"])
def test_vectors_give_the_scores(
    built: Built, corpus: Path, histories: pl.DataFrame, paradigm: str, tmp_path: Path
) -> None:
    model = (built.folder(f"checkpoint/{paradigm}/garden/phase2"), "--domain-dir", corpus)
    histories.write_parquet(tmp_path / "u.parquet")
    mmgrid("recommend", *model, "-k", "5", "--users", tmp_path / "u.parquet", "-o", tmp_path / "best.parquet")
    mmgrid("embed", *model, "--users", tmp_path / "u.parquet", "-o", tmp_path / "users.parquet")
    said = mmgrid("embed", *model, "--items", corpus / "items.parquet", "-o", tmp_path / "items.parquet", "--json").json
    items, users = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("items", "users"))
    assert items["item_id"].to_list() == pl.read_parquet(corpus / "items.parquet")["item_id"].sort().to_list()
    assert said == {
        "file": str(tmp_path / "items.parquet"),
        "items": len(items),
        "width": items["vector"].dtype.shape[0],
    }
    assert users["vector"].is_null().to_list() == [False] * 10 + [True]
    place = {item: row for row, item in enumerate(items["item_id"])}
    vectors = items["vector"].to_numpy()
    for user, best in zip(
        users["vector"].to_list()[:10], pl.read_parquet(tmp_path / "best.parquet").rows(), strict=False
    ):
        found = [float(vectors[place[item]] @ user) for item in best[1]]
        assert found == pytest.approx(best[2], abs=1e-4)
    new = pl.DataFrame({"item_id": ["new"], "title": ["A quite new rake"]})
    new.write_csv(tmp_path / "new.csv")
    answer = mmgrid("embed", *model, "--items", tmp_path / "new.csv", "-o", tmp_path / "new.parquet")
    if paradigm == "semb":
        assert pl.read_parquet(tmp_path / "new.parquet")["item_id"].to_list() == ["new"]
    else:
        assert answer.code == 1
        assert "'new': not among the items that this SASRec was trained with" in answer.err


def test_recommending_with_a_merge_that_is_not_written(
    built: Built, corpus: Path, histories: pl.DataFrame, tmp_path: Path
) -> None:
    models = [built.folder(f"checkpoint/semb/garden/{phase}") for phase in ("phase1", "phase2")]
    sources = "".join(f"  - {{path: {folder}, name: {folder.parent.name}}}\n" for folder in models)
    (tmp_path / "r.yml").write_text(f"method: linear\nsources:\n{sources}")
    assert mmgrid("merge", tmp_path / "r.yml", tmp_path / "merged").code == 0
    histories.write_parquet(tmp_path / "u.parquet")
    for name in ("r.yml", "merged"):
        more = ("--domain-dir", corpus, "--users", tmp_path / "u.parquet", "-o", tmp_path / f"{name}.parquet")
        answer = mmgrid("recommend", tmp_path / name, *more)
        assert answer.code == 0, answer.err
    unwritten, written = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("r.yml", "merged"))
    assert unwritten.equals(written)


def test_the_data_of_a_folder_are_those_of_the_grid(built: Built, tmp_path: Path) -> None:
    """With `--grid`, the domain that a folder or a recipe was trained on, or `--domain`, is one of the grid."""
    one, other = (built.folder(f"checkpoint/semb/{domain}/phase2") for domain in ("garden", "kitchen"))
    (tmp_path / "r.yml").write_text(
        f"method: linear\nsources: [{{name: garden, path: {one}}}, {{name: kitchen, path: {other}}}]\n"
    )
    grid = ("--grid", built.file, "--store", built.root, "--json")
    kitchen = ("--domain-dir", built.folder("corpus/kitchen"), "--json")
    assert mmgrid("evaluate", other, *grid).json == mmgrid("evaluate", other, *kitchen).json
    merged = mmgrid("evaluate", tmp_path / "r.yml", "--domain", "kitchen", *grid)
    assert _rows(merged.json) == _rows(mmgrid("evaluate", tmp_path / "r.yml", *kitchen).json)
    undecided = mmgrid("evaluate", tmp_path / "r.yml", *grid)
    assert undecided.code == 2
    assert "is a merge of garden and kitchen; choose one" in undecided.err


def test_batches_that_cannot_be_run(built: Built, corpus: Path, tmp_path: Path) -> None:
    model = (built.folder("checkpoint/sasrec/garden/phase2"), "--domain-dir", corpus)
    (tmp_path / "u.csv").write_text("user,item\na,b\n")
    out = ("-o", tmp_path / "x.parquet")
    assert (
        "its columns are user, item; histories need"
        in mmgrid("recommend", *model, "--users", tmp_path / "u.csv", *out).err
    )
    assert (
        "is written as parquet; name it x.parquet"
        in mmgrid("recommend", *model, "--users", tmp_path / "u.csv", "-o", tmp_path / "x.csv").err
    )
    for arguments in (("recommend", *model), ("recommend", *model, "--users", "u"), ("embed", *model, *out)):
        assert mmgrid(*arguments).code == 2


def test_what_a_batch_leaves_to_others(
    built: Built, corpus: Path, histories: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that is read, files of others in its folder, and parts that a loss of power has emptied."""
    from mmgrid.paradigms import many_users

    model = ("recommend", built.folder("checkpoint/sasrec/garden/phase2"), "--domain-dir", corpus)
    users, out = tmp_path / "u.parquet", tmp_path / "best.parquet"
    histories.write_parquet(users)
    (tmp_path / "link.parquet").symlink_to(users)
    for same in (users, tmp_path / "link.parquet"):
        assert "is the file that is read; name another one" in mmgrid(*model, "--users", users, "-o", same).err
    vectors = ("embed", *model[1:], "--items", users, "-o", users)
    assert "is the file that is read" in mmgrid(*vectors).err
    assert pl.read_parquet(users).equals(histories)

    parts = tmp_path / "best.parquet.parts"
    parts.write_text("mine")
    assert f"{parts}: is a file" in mmgrid(*model, "--users", users, "-o", out).err
    parts.unlink()
    parts.mkdir()
    (parts / "thesis.odt").write_text("mine")
    assert "holds thesis.odt, which no batch has written" in mmgrid(*model, "--users", users, "-o", out).err
    (parts / "thesis.odt").unlink()

    monkeypatch.setattr(many_users, "EMBEDDING_BLOCK", 3)
    assert mmgrid(*model, "--users", users, "-o", out).code == 0
    whole = pl.read_parquet(out)
    made, blocks = many_users._histories, []

    def dies(rows: pl.Series, kept: Any) -> Any:
        blocks.append(len(kept))
        if len(blocks) == 4:
            raise OSError("the power is gone")
        return made(rows, kept)

    monkeypatch.setattr(many_users, "_histories", dies)
    assert mmgrid(*model, "--users", users, "-o", out).code == 1
    first, second, third = sorted(parts.glob("*.parquet"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-9])
    pl.read_parquet(third)[:1].write_parquet(third)
    assert mmgrid(*model, "--users", users, "-o", out, "--json").json["resumed"] == 0
    assert pl.read_parquet(out).equals(whole)
    assert not parts.exists()


def test_users_of_whom_no_item_is_known(built: Built, corpus: Path, tmp_path: Path) -> None:
    """Users of another domain, or ids that another tool has written: no file of empty lists."""
    model = (built.folder("checkpoint/semb/garden/phase2"), "--domain-dir", corpus)
    item = pl.read_parquet(corpus / "items.parquet")["item_id"][0]
    (tmp_path / "u.csv").write_text(f"user_id,history\na,\nb,{item}|{item}\n")
    for command in ("recommend", "embed"):
        answer = mmgrid(command, *model, "--users", tmp_path / "u.csv", "-o", tmp_path / "o.parquet")
        assert answer.code == 1
        assert f"none of its 1 items is in the catalogue: one is '{item}|{item}' there, and 'B0" in answer.err
        assert [path.name for path in tmp_path.iterdir()] == ["u.csv"]
    (tmp_path / "u.csv").write_text("user_id,history\na,\nb,\n")  # new users
    assert mmgrid("recommend", *model, "--users", tmp_path / "u.csv", "-o", tmp_path / "o.parquet").code == 0


def test_vectors_of_items_by_their_ids_need_no_titles(built: Built, corpus: Path, tmp_path: Path) -> None:
    items = pl.read_parquet(corpus / "items.parquet").select("item_id").sort("item_id")
    items.write_csv(tmp_path / "ids.csv")
    asked = ("--domain-dir", corpus, "--items", tmp_path / "ids.csv", "-o", tmp_path / "v.parquet")
    assert mmgrid("embed", built.folder("checkpoint/sasrec/garden/phase2"), *asked).code == 0
    assert pl.read_parquet(tmp_path / "v.parquet")["item_id"].equals(items["item_id"])
    assert "column title missing" in mmgrid("embed", built.folder("checkpoint/semb/garden/phase2"), *asked).err


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
