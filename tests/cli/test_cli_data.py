"""data prepare: two raw files become a prepared domain, or one clear line."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from kits.tiny_grid import Built, bytes_below, mmgrid


@pytest.fixture(scope="module")
def raw(built: Built) -> Path:
    return built.folder("corpus/garden") / "raw"


def test_preparing_equals_what_a_grid_prepares(built: Built, raw: Path, tmp_path: Path) -> None:
    """The grid's phases begin at --min-date and end at --max-date."""
    files = ("--ratings", raw / "garden.csv.gz", "--items", raw / "meta_garden.jsonl.gz")
    dates = ("--min-date", "2017-07-01", "--max-date", "2023-04-01")
    out = tmp_path / "garden"
    facts = mmgrid("data", "prepare", *files, "--out", out, *dates, "--json").json
    for name in ("interactions.parquet", "items.parquet"):
        assert (out / name).read_bytes() == (built.folder("corpus/garden") / name).read_bytes()
    interactions = pl.read_parquet(out / "interactions.parquet")
    assert facts["folder"] == str(out)
    assert facts["interactions"] == len(interactions)
    assert facts["users"] == interactions["user_id"].n_unique()
    with gzip.open(raw / "garden.csv.gz") as stream:
        n_raw = sum(1 for _ in stream) - 1
    assert facts["interactions"] + sum(step["interactions"] for step in facts["dropped"]) == n_raw

    text = mmgrid("data", "prepare", *files, "--out", out, *dates).out
    assert (
        f"{out}: {facts['interactions']:,} interactions of {facts['users']} users with {facts['items']} items" in text
    )
    stricter = mmgrid("data", "prepare", *files, "--out", tmp_path / "less", "--min-interactions", "9", "--json").json
    assert stricter["interactions"] < facts["interactions"]


def test_a_prepared_domain_is_raw_data_again(built: Built, tmp_path: Path) -> None:
    folder = built.folder("corpus/garden")
    files = ("--ratings", folder / "interactions.parquet", "--items", folder / "items.parquet")
    assert mmgrid("data", "prepare", *files, "--out", tmp_path / "garden", "--min-interactions", "1").code == 0
    again = bytes_below(tmp_path / "garden")
    assert again.keys() == {"interactions.parquet", "items.parquet"}
    assert all(data == (folder / name).read_bytes() for name, data in again.items())


def test_unusable_files_are_reported_and_nothing_is_written(raw: Path, tmp_path: Path) -> None:
    ratings, items, out = raw / "garden.csv.gz", raw / "meta_garden.jsonl.gz", tmp_path / "out"
    for arguments, says in (
        (
            ("--ratings", raw / "no.csv.gz", "--items", items),
            f"{raw}/no.csv.gz: no such file; {raw} holds garden.csv.gz",
        ),
        (("--ratings", ratings, "--items", ratings), f"{ratings}: column title missing"),
        (("--ratings", ratings, "--items", items, "--min-date", "2022-7-1"), "'2022-7-1': not a date; write it as"),
        (("--ratings", ratings, "--items", items, "--min-date", "2040-01-01"), "no interactions are left"),
        (("--ratings", ratings, "--items", items, "--min-interactions", "5000"), "no interactions are left"),
    ):
        answer = mmgrid("data", "prepare", *arguments, "--out", out)
        assert (answer.code, answer.out) == (1, ""), arguments
        assert says in answer.err
        assert answer.err.startswith("mmgrid: ")
        assert answer.err.count("\n") == 1
        assert not out.exists()


def test_domains_are_exported_for_other_tools(built: Built, tmp_path: Path) -> None:
    store = ("--store", built.root)
    arguments = ("data", "export", built.file, "--to", "recbole", "--domain", "garden", *store)
    answer = mmgrid(*arguments, "-o", tmp_path / "out")
    assert (answer.code, sorted(path.name for path in (tmp_path / "out/garden").iterdir())) == (
        0,
        ["garden.inter", "garden.item"],
    )
    (tmp_path / "out/garden/garden.user").write_text("user_id:token\n")
    files = ("--ratings", tmp_path / "out/garden/garden.inter", "--items", tmp_path / "out/garden/garden.item")
    assert mmgrid("data", "prepare", *files, "--out", tmp_path / "garden", "--min-interactions", "1").code == 0
    folder = built.folder("corpus/garden")
    assert all(data == (folder / name).read_bytes() for name, data in bytes_below(tmp_path / "garden").items())
    facts = mmgrid("data", "export", folder, "--to", "csv", "-o", tmp_path / "csv", "--json").json
    assert [Path(file).name for file in facts["files"]] == ["interactions.csv", "items.csv"]
    assert "out: exists already" in mmgrid(*arguments, "-o", tmp_path / "out").err
    assert "--domain attic: is not in the grid" in mmgrid(*arguments, "--domain", "attic", "-o", tmp_path / "x").err


def test_a_grid_file_for_ones_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    days = 1_640_995_200
    rows = "".join(f"u{u},{(u + n) % 9},{days + n * 40 * 86400 + u * 3600}\n" for u in range(40) for n in range(8))
    (tmp_path / "shop.csv").write_text(f"uid,iid,ts\n{rows}")
    file = tmp_path / "grid.toml"
    answer = mmgrid("init", file, "--data", "shop.csv", environment={"COLUMNS": "80"})
    assert answer.code == 0
    assert "column uid" in answer.out
    assert max(map(len, answer.out.splitlines()[:-1])) <= 80
    (stats,) = mmgrid("data", "stats", file, "--store", tmp_path / "runs", "--json").json
    assert (stats["users"], stats["items"]) == (40, 9)
    assert stats["test_users"] > 0
    assert "checkpoint" in mmgrid("plan", file, "--store", tmp_path / "runs").out
    assert "exists already" in mmgrid("init", file, "--data", tmp_path / "shop.csv").err
    assert "expected ROLE=NAME" in mmgrid("init", "--force", file, "--data", tmp_path, "--column", "uid").err
    assert "--column: describes the files of --data" in mmgrid("init", tmp_path / "x.toml", "--column", "user=uid").err


def test_files_of_another_tool_are_prepared_by_their_own_names(tmp_path: Path) -> None:
    rows = [f"K{user};{item};{day}.08.2022 10:00;4,5" for user in range(3) for day, item in enumerate("ABC", 1)]
    (tmp_path / "clicks.csv").write_bytes("\r\n".join(["Kunde;Artikel;Datum;Note", *rows, ""]).encode("cp1252"))
    (tmp_path / "goods.txt").write_bytes("A\tGr\xfcn\nB\tBlau\nC\tRot\n".encode("cp1252"))
    files = ("--ratings", tmp_path / "clicks.csv", "--items", tmp_path / "goods.txt", "--min-interactions", "1")
    named = [f"--column={role}={name}" for role, name in (("user", "Kunde"), ("item", "Artikel"), ("time", "Datum"))]
    named += ["--column=id=#1", "--column=title=#2", "--time-unit=%d.%m.%Y %H:%M", "--encoding=cp1252"]
    assert mmgrid("data", "prepare", *files, *named, "--out", tmp_path / "shop", "--json").json["interactions"] == 9
    assert pl.read_parquet(tmp_path / "shop" / "items.parquet")["title"].to_list() == ["Grün", "Blau", "Rot"]
    for wrong, says in (
        ("--column=who=Kunde", "who is unknown; known are user"),
        ("--column=user", "expected ROLE=NAME"),
    ):
        refused = mmgrid("data", "prepare", *files, wrong, "--out", tmp_path / "no")
        assert (refused.code, says in refused.err) == (1, True)
