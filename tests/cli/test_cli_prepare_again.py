"""data prepare into a folder that exists: an earlier output is replaced as a whole, everything else is refused."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kits.tiny_grid import Answer, bytes_below, mmgrid, write_raw_grid

TABLES = {"interactions.parquet", "items.parquet"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_raw_grid(folder)
    return folder / "raw"


def _prepare(raw: Path, out: Path, *options: str) -> Answer:
    files = ("--ratings", raw / "garden.csv.gz", "--items", raw / "meta_garden.jsonl.gz")
    return mmgrid("data", "prepare", *files, "--out", out, *options)


def test_an_earlier_output_is_replaced_as_a_whole(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "there" / "garden"
    assert _prepare(raw, out, "--min-interactions", "9").code == 0
    before = bytes_below(tmp_path)
    assert _prepare(raw, out).code == 0
    after = bytes_below(tmp_path)
    assert after.keys() == before.keys() == {f"there/garden/{name}" for name in TABLES}
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("failed: disk quota exceeded")]
)
def test_an_end_between_the_two_files_leaves_the_earlier_ones(
    raw: Path, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _prepare(raw, tmp_path / "out", "--min-interactions", "9").code == 0
    before = bytes_below(tmp_path)

    write = pl.DataFrame.write_parquet

    def fail(self: pl.DataFrame, file: Path, **options: Any) -> None:
        if file.name == "items.parquet":
            raise error
        write(self, file, **options)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    answer = _prepare(raw, tmp_path / "out")
    assert answer.code != 0
    assert bytes_below(tmp_path) == before
    if not isinstance(error, KeyboardInterrupt):
        assert "Nothing that was published has been changed" in answer.err
    new = _prepare(raw, tmp_path / "new")
    assert new.code != 0
    assert bytes_below(tmp_path) == before


def test_other_folders_are_refused_and_unchanged(raw: Path, tmp_path: Path) -> None:
    assert _prepare(raw, tmp_path / "mixed").code == 0
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    for folder in ("photos", "tables", "torn", "half"):
        (tmp_path / folder).mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"dear")
    for name in TABLES:
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "tables" / name)
    (tmp_path / "torn" / "interactions.parquet").write_bytes(b"PAR1")
    (tmp_path / "half" / "items.parquet").write_bytes(b"PAR1")
    (tmp_path / "file").write_text("mine")
    before = bytes_below(tmp_path)
    for folder, says in (
        ("mixed", "holds notes.txt; the prepared data take the place of the whole folder"),
        ("photos", "holds me.png; "),
        ("tables", "its interactions.parquet was not written by `mmgrid data prepare`; "),
        ("torn", "its interactions.parquet cannot be read ("),
        ("half", "its interactions.parquet cannot be read ("),
        ("file", "is a file; name a folder"),
    ):
        answer = _prepare(raw, tmp_path / folder)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith(f"mmgrid: {tmp_path / folder}: {says}"), answer.err
        assert answer.err.count("\n") == 1
    assert bytes_below(tmp_path) == before


def test_the_folder_of_the_input_is_refused(raw: Path, tmp_path: Path) -> None:
    assert _prepare(raw, tmp_path / "in").code == 0
    before = bytes_below(tmp_path)
    tables = (tmp_path / "in" / "interactions.parquet", "--items", tmp_path / "in" / "items.parquet")
    answer = mmgrid("data", "prepare", "--ratings", *tables, "--out", tmp_path / "in")
    assert answer.code == 1
    assert answer.err.startswith(f"mmgrid: {tmp_path / 'in'}: holds {tmp_path / 'in' / 'interactions.parquet'}, which")
    assert bytes_below(tmp_path) == before
