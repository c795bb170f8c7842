"""Files that are read at the same time give what they give one after the other, and name the first bad one."""

import itertools
import json
from threading import Event, current_thread

import polars as pl
import pytest

from mmgrid.data import READERS, DataError
from mmgrid.data.readers import TableOptions, lines, side_by_side
from mmgrid.data.readers.side_by_side import GivenUp, in_order

T = 1_660_000_000
SHARDS = 5


@pytest.fixture(params=[1, 4])
def cores(request, monkeypatch):
    monkeypatch.setattr(side_by_side, "available_cores", lambda: request.param)
    return request.param


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Shards of unlike length, some rows of which are bad; items that return in a later one, with and without titles."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 200)
    rows = 0
    for shard in range(SHARDS):
        many = 40 * (SHARDS - shard)
        made = [f"u{row % 7},B{row % 11},{T + row}" if row % 3 else f"u{row},,{T}" for row in range(rows, rows + many)]
        (tmp_path / f"log-{shard}.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(made) + "\n")
        rows += many
        items = [{"item_id": f"B{n}", "title": f"<b>{shard}</b>" if n % SHARDS <= shard else ""} for n in range(12)]
        (tmp_path / f"items-{shard}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return tmp_path


def read(folder, **more):
    options = TableOptions(interactions="log-*.csv", items="items-*.jsonl", **more)
    return READERS["csv"].read(folder, "shop", options)


def test_rows_items_and_repairs_in_the_order_of_files(folder, cores):
    raw = read(folder, skip_bad_lines=True)
    good = [row for row in range(40 * 15) if row % 3]
    assert raw.interactions["timestamp"].to_list() == [1000 * (T + row) for row in good]
    assert raw.interactions["user_id"].to_list() == [f"u{row % 7}" for row in good]
    assert sorted(raw.items.select("item_id", "title").rows()) == sorted((f"B{n}", str(n % SHARDS)) for n in range(11))
    assert raw.repairs["repeated_items"] == 11 * (SHARDS - 1)
    assert raw.repairs["texts"] == {"html": sum(n % SHARDS <= shard for n in range(11) for shard in range(SHARDS))}
    assert raw.repairs["bad_lines"] == 200
    listed = [text.split(": ")[0] for text in raw.repairs["listed"]]
    assert len(listed) == 100
    assert listed[0] == f"{folder}/log-0.csv:2"
    assert listed[-1].startswith(f"{folder}/log-1.csv:")


def test_the_first_bad_file_is_named(folder, cores):
    for shard in range(SHARDS):
        path = folder / f"log-{shard}.csv"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if ",," not in line))
    with (folder / "log-1.csv").open("a") as file:
        file.write(f",B1,{T}\n")  # its last row, and the first one of a shorter file
    (folder / "log-4.csv").write_text(f"user_id,item_id,timestamp\n,B1,{T}\n")
    with pytest.raises(DataError, match=r"log-1\.csv:\d+: user_id is missing"):
        read(folder)
    (folder / "log-1.csv").write_text(f"user_id,item_id,timestamp\nu,B1,{T}\n")
    with pytest.raises(DataError, match=r"log-4\.csv:2: user_id is missing"):
        read(folder)
    (folder / "log-4.csv").unlink()
    for shard in (2, 3):
        (folder / f"items-{shard}.jsonl").write_text('{"item_id": "B1", "title": }\n')
    with pytest.raises(DataError, match=r"items-2\.jsonl:1: broken JSON"):
        read(folder)


def test_shards_of_parquet(tmp_path, cores):
    tables = [pl.DataFrame({"user_id": [f"u{n}"], "item_id": ["B0"], "timestamp": [T + n]}) for n in range(SHARDS)]
    (tmp_path / "shop").mkdir()
    for place, table in enumerate(tables):
        table.write_parquet(tmp_path / f"shop/train-0000{place}-of-0000{SHARDS}.parquet")
    raw = READERS["datasets"].read(tmp_path, "shop")
    assert raw.interactions["user_id"].to_list() == [f"u{n}" for n in range(SHARDS)]


def test_files_after_a_bad_one_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "available_cores", lambda: 3)
    begun, failed = Event(), Event()
    ended = []

    def one(path, turn):
        if path.name == "0":
            assert failed.wait(60)
            raise DataError("the first")
        if path.name == "1":
            assert begun.wait(60)
            failed.set()
            raise DataError("the second")
        try:
            for _ in turn.while_mine(itertools.count()):
                begun.set()
        except GivenUp:
            ended.append(path.name)
            raise

    with pytest.raises(DataError, match="the first"):
        in_order(one, [tmp_path / str(n) for n in range(9)])
    assert sorted(ended) == [str(n) for n in range(2, 9)]


def test_json_lines_are_read_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "available_cores", lambda: 3)
    threads = in_order(lambda path, turn: current_thread(), [tmp_path / f"{n}.jsonl.gz" for n in range(3)])
    assert threads == [current_thread()] * 3
