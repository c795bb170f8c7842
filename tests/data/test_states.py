"""Files in any state: each is read, or mended as documented, or refused with its place and a remedy."""

import gzip
import json
import os
import pickle
from collections import Counter
from datetime import datetime

import polars as pl
import pytest

from mmgrid.data import DataError, filter_interactions, read_files
from mmgrid.data.readers import TableOptions, delimited, json_lines, lines, tables, unpacking

T = 1_660_000_000_000
LOG = "user_id,item_id,timestamp\n" + "".join(f"u{n},B{n % 2},{T + n}\n" for n in range(4))
ITEMS = "item_id,title,description\nB0,Zero,a\nB1,One,b\n"


@pytest.fixture
def files(tmp_path):
    return write(tmp_path, "r.csv", LOG), write(tmp_path, "i.csv", ITEMS)


def write(folder, name, content):
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    packed = {".gz": gzip.compress, ".zst": unpacking.zstd.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(data))
    return path


def read(ratings, items, **options):
    return read_files(ratings, items, "shop", TableOptions(**options))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS.*git lfs pull"),
        ("<!DOCTYPE html><html><title>Sign in</title>", "is a web page"),
        ("Entry not found", "error message of a server"),
        (b"\0" * 600, "holds only zeros"),
        ("<<<<<<< HEAD\nuser_id,item_id,timestamp\n", "conflict of Git"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst", ".jsonl", ".parquet"])
def test_files_that_are_something_else(tmp_path, files, content, message, suffix):
    data = content.encode() if isinstance(content, str) else content
    path = tmp_path / f"x{suffix}"
    for plain in (True, False) if suffix.endswith(("gz", "zst")) else (True,):
        path.write_bytes(data) if plain else write(tmp_path, path.name, data)
        for ratings, items in ((path, files[1]), (files[0], path)):
            with pytest.raises(DataError, match=rf"x{suffix}: .*{message}"):
                read(ratings, items)


def test_logs_may_begin_with_the_words_of_servers(tmp_path, files):
    rows = [
        {"message": "bought", "user_id": "u", "item_id": "B0", "timestamp": T + n, "more": "x" * 300} for n in (0, 1)
    ]
    log = write(tmp_path, "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert len(read(log, files[1]).interactions) == 2


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_files_that_may_not_be_read(tmp_path, files, suffix, monkeypatch):
    def refused(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    path = write(tmp_path, f"x{suffix}", LOG)
    if os.geteuid():
        path.chmod(0)
    else:  # root may read everything
        monkeypatch.setattr(type(path), "open", refused)
    with pytest.raises(DataError, match=rf"x{suffix}: cannot be read \(permission denied\); get the right"):
        read(path, files[1])


def test_what_grows_beyond_measure_is_not_unpacked(tmp_path, files, monkeypatch):
    monkeypatch.setattr(unpacking, "_CHECKED_FROM_BYTES", 1 << 16)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1 << 16)
    row = f"u,B0,{T}\n"
    for suffix in (".gz", ".zst"):
        bomb = write(tmp_path, f"bomb.csv{suffix}", "user_id,item_id,timestamp\n" + row * 100_000)
        with pytest.raises(DataError, match=rf"bomb\.csv\{suffix}: grows to \d+ times its size.*unpack it yourself"):
            read(bomb, files[1])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_line_that_is_too_long(tmp_path, files, monkeypatch, suffix, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 1000)
    if suffix == ".csv":
        content = LOG + "x" * 3000 + "\n" + f"u9,B0,{T}\n"
    else:
        rows = [{"user_id": f"u{n}", "item_id": "B0", "timestamp": T, "x": "x" * 3000 * (n == 4)} for n in range(6)]
        content = "\n" + "".join(json.dumps(row) + "\n" for row in rows)
    log = write(tmp_path, f"x{suffix}", content)
    with pytest.raises(DataError, match=rf"x{suffix}:6: the line is longer than"):
        read(log, files[1])
    raw = read(log, files[1], skip_bad_lines=True)
    assert len(raw.interactions) == 5
    assert raw.repairs == {"bad_lines": 1, "listed": [f"{log}:6: the line is too long"]}


BAD_ROWS = [
    ("u9,B0", "2 values for 3 columns|timestamp is missing"),
    ("u9,B0,1,2", "4 values for 3 columns"),
    (f",B0,{T}", "user_id is missing"),
    ("u9,B0,soon", "timestamp is 'soon'"),
    ("u9,B0,0", "timestamp is 0: the year 1970"),
    (b"u9,B\xe4,1660000000000", "is no text in utf-8"),
    (f'u9,"B0,{T}', "cannot be read"),
    (f"u9,B\0,{T}", "holds a zero byte"),
]


@pytest.mark.parametrize("block", [32, 1 << 20])
def test_bad_rows_are_left_out_counted_and_listed(tmp_path, files, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    good = [f"u{n},B{n % 2},{T + n}".encode() for n in range(len(BAD_ROWS) + 1)]
    bad = [row.encode() if isinstance(row, str) else row for row, _ in BAD_ROWS]
    rows = [row for pair in zip(good, [*bad, b""], strict=True) for row in pair]
    log = write(tmp_path, "x.csv", b"user_id,item_id,timestamp\n" + b"\n".join(rows))
    raw = read(log, files[1], skip_bad_lines=True)
    assert raw.interactions["timestamp"].to_list() == [T + n for n in range(len(good))]
    assert raw.repairs["bad_lines"] == len(bad)
    for place, (_, why) in enumerate(BAD_ROWS):
        line = 3 + 2 * place
        (listed,) = [text for text in raw.repairs["listed"] if text.startswith(f"{log}:{line}: ")]
        assert any(part in listed for part in why.split("|")), listed
    with pytest.raises(DataError, match=r"x\.csv:\d+: "):
        read(log, files[1])


@pytest.mark.parametrize("skip", [False, True])
def test_the_clock_never_decides_which_rows_stay(tmp_path, files, skip):
    log = write(tmp_path, "x.csv", LOG + f"u9,B0,{T * 2}\n")
    with pytest.raises(DataError, match=r"x\.csv:6: timestamp is 2075-.* has not come yet"):
        read(log, files[1], skip_bad_lines=skip)
    times = [datetime(2022, 8, 8), datetime(2075, 3, 14)]
    table = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["B0", "B1"], "timestamp": times})
    table.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: row 2: timestamp is 2075-.* has not come yet"):
        read(tmp_path / "x.parquet", files[1], skip_bad_lines=skip)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_bad_rows_are_found_without_reading_again(tmp_path, files, monkeypatch, suffix):
    """Many blocks, each with a bad row, are read once, whatever is listed of them."""
    rows = [{"user_id": f"u{n}", "item_id": "B\0" if n % 2 else "B0", "timestamp": T} for n in range(40)]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    if suffix == ".csv":
        content = "user_id,item_id,timestamp\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    log = write(tmp_path, f"x{suffix}", content)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    begun: list[int] = []
    made = lines.blocks

    def counted(path, block_bytes=None, **more):
        for block in made(path, block_bytes, **more):
            begun.append(block.first_line)
            yield block

    for module in (delimited, json_lines):
        monkeypatch.setattr(module, "blocks", counted)
    raw = read(log, files[1], skip_bad_lines=True)
    assert (len(raw.interactions), raw.repairs["bad_lines"]) == (20, 20)
    first = 1 + (suffix == ".csv")
    assert [text.split(": ")[0] for text in raw.repairs["listed"]] == [f"{log}:{first + n}" for n in range(1, 40, 2)]
    own = [line for line in begun if line > 2 + first]  # the first lines are looked at for the columns
    assert max(Counter(own).values()) == 1


def test_an_error_of_rows_travels_between_processes(tmp_path, files):
    log = write(tmp_path, "x.csv", LOG + f",B0,{T}\n")
    with pytest.raises(DataError) as caught:
        read(log, files[1])
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, DataError)
    assert str(again) == str(caught.value) == f"{log}:6: user_id is missing; fill it in, or remove the row"


def test_parquet_in_pieces_without_batches(tmp_path, files, monkeypatch):
    """Older versions of Polars have no `collect_batches`."""
    monkeypatch.delattr(pl.LazyFrame, "collect_batches", raising=False)
    monkeypatch.setattr(tables, "_ROWS", 3)
    table = pl.DataFrame({"user_id": [f"u{n}" for n in range(7)], "item_id": ["B0"] * 7, "timestamp": range(T, T + 7)})
    table.write_parquet(tmp_path / "x.parquet")
    assert [len(piece.frame) for piece in tables.read(tmp_path / "x.parquet", ["user_id"])] == [3, 3, 1]
    assert read(tmp_path / "x.parquet", files[1]).interactions["timestamp"].to_list() == list(range(T, T + 7))


def test_bad_lines_of_json_and_rows_of_parquet(tmp_path, files):
    rows = [{"user_id": "u", "item_id": "B0", "timestamp": T + n} for n in range(3)]
    bad = ['{"user_id": "u", ', "[1]", '{"item_id": "B0"}', json.dumps(rows[0] | {"timestamp": [1]})]
    log = write(tmp_path, "x.jsonl", "\n".join([json.dumps(rows[0]), *bad, "", *map(json.dumps, rows[1:])]))
    raw = read(log, files[1], skip_bad_lines=True)
    assert len(raw.interactions) == 3
    assert [text.split(": ")[0] for text in raw.repairs["listed"]] == [f"{log}:{line}" for line in (2, 3, 4, 5)]
    table = pl.DataFrame({"user_id": ["u", None, "v"], "item_id": ["B0", "B0", "B1"], "timestamp": [T, T, None]})
    table.write_parquet(tmp_path / "x.parquet")
    raw = read(tmp_path / "x.parquet", files[1], skip_bad_lines=True)
    assert [text.split(": ")[1] for text in raw.repairs["listed"]] == ["row 2", "row 3"]
    assert len(raw.interactions) == 1


def test_each_file_has_its_own_unit_and_only_one(tmp_path):
    from mmgrid.data import READERS

    for place, times in enumerate(([T // 1000, T // 1000 + 1], [T, T + 5], ["2022-08-08", "2022-08-09"])):
        rows = "".join(f"u,B{n},{time}\n" for n, time in enumerate(times))
        write(tmp_path, f"s-{place}.csv", "user_id,item_id,timestamp\n" + rows)
    options = TableOptions(interactions="s-*.csv")
    times = READERS["csv"].read(tmp_path, "s", options).interactions["timestamp"].to_list()
    assert times == [T, T + 1000, T, T + 5, 1659916800000, 1660003200000]
    mixed = [T // 1000, T, T + 1, T // 1000, T + 2, T + 3]  # the first row is one of the few
    rows = "".join(f"u,B{n},{time}\n" for n, time in enumerate(mixed))
    write(tmp_path, "s-1.csv", "user_id,item_id,timestamp\n" + rows)
    for skip in (False, True):
        message = r"s-1\.csv:2: .* \(most rows are milliseconds, but this one looks like seconds\).* \(also line 5\)"
        with pytest.raises(DataError, match=message):
            READERS["csv"].read(tmp_path, "s", options.model_copy(update={"skip_bad_lines": skip}))


@pytest.mark.parametrize("number", [f"{T}", f" {T}", f"{T}.5"])
def test_dates_before_numbers_whichever_way_a_block_is_read(tmp_path, files, monkeypatch, number):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 27)
    log = write(tmp_path, "x.csv", f"user_id,item_id,timestamp\nu,B0,2022-08-08T10:00:00Z\nu,B1,{number}\n")
    message = rf"x\.csv:3: timestamp is {number.strip()}: the rows before are dates; write all times in one form"
    with pytest.raises(DataError, match=message):
        read(log, files[1])


def test_times_of_json_lines_have_all_forms(tmp_path, files):
    forms = [T, float(T), f"{T}", f"{T}.0", T / 1000, "2022-08-08T23:06:40Z"]
    for form in forms:
        row = json.dumps({"user_id": "u", "item_id": "B0", "timestamp": form})
        raw = read(write(tmp_path, "x.jsonl", row + "\n"), files[1])
        assert raw.interactions["timestamp"].to_list() == [T], form


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ("0042", "42", "'0042' there is '42' here.*leading zeros"),
        ("4.2e3", "4200", "'4.2e3' there is '4200' here"),
        ("b7", "B7", "'b7' there is 'B7' here"),
        ("x", "y", "do the two files belong together\\? An item there is 'x', and here 'y'"),
    ],
)
def test_ids_that_do_not_meet(tmp_path, there, here, message):
    log = write(tmp_path, "r.csv", f"user_id,item_id,timestamp\nu,{there},{T}\n")
    items = write(tmp_path, "i.csv", f"item_id,title\n{here},One\n")
    with pytest.raises(DataError, match=message):
        read(log, items)


def test_ids_that_became_fractions_are_whole_numbers_in_text_files(tmp_path):
    log = write(tmp_path, "r.csv", f"user_id,item_id,timestamp\n7.0,100.0,{T}\n8.0,101.0,{T}.0\n")
    items = write(tmp_path, "i.jsonl", '{"item_id": 100.0, "title": "One"}\n{"item_id": "101", "title": "Two"}\n')
    raw = read(log, items)
    assert raw.interactions.rows() == [("7", "100", T), ("8", "101", T)]
    assert raw.items["item_id"].to_list() == ["100", "101"]


TEXTS = [
    ("nan", ""),
    ("None", ""),
    ("<NA>", ""),
    ("NA", ""),
    ("N/A", ""),
    ("#N/A", ""),
    ("\\N", ""),
    ("NA beer", "NA beer"),
    ("[]", ""),
    ("['x', 'y']", "x\ny"),
    ("[nan]", ""),
    ("Salt &amp; pepper<br>for two", "Salt & pepper\nfor two"),
    ("<p>One</p><p>Two &#39;x&#39;</p>", "One\nTwo 'x'"),
    ("<script>var a = 1;</script>Rake", "Rake"),
    ("a\x00b\x07c", "a b c"),
    ("5 < 6 & 7 > 3 <3", "5 < 6 & 7 > 3 <3"),
    ("None left", "None left"),
    ("AT&T; R&D", "AT&T; R&D"),
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_that_are_no_texts(tmp_path, kind):
    ids = [f"B{n}" for n in range(len(TEXTS))]
    table = pl.DataFrame({"item_id": ids, "title": "T", "description": [text for text, _ in TEXTS]})
    log = pl.DataFrame({"user_id": "u", "item_id": ids, "timestamp": T})
    log.write_csv(tmp_path / "r.csv")
    path = tmp_path / f"i.{kind}"
    {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}[kind](path)
    raw = read(tmp_path / "r.csv", path)
    assert raw.items.sort(pl.col("item_id").str.slice(1).cast(int))["description"].to_list() == [w for _, w in TEXTS]
    assert raw.repairs["texts"] == {"control characters": 1, "html": 3, "lists": 2, "no text": 8}
    prepared = filter_interactions(raw, min_interactions=1)
    assert prepared.summary()["repairs"] == raw.repairs
    prepared.corpus.save(tmp_path / "shop")  # what was prepared here is read as it is
    again = read(tmp_path / "shop/interactions.parquet", tmp_path / "shop/items.parquet")
    assert "repairs" not in filter_interactions(again, min_interactions=1).summary()


def test_repeated_items_are_counted(tmp_path, files):
    items = write(tmp_path, "i.csv", "item_id,title\nB0,\nB0,Zero\nB0,Other\nB1,One\nB9,Nobody's\nB9,Nobody's\n")
    raw = read(files[0], items)
    assert raw.items.rows() == [("B0", "Zero", ""), ("B1", "One", "")]
    assert raw.repairs == {"repeated_items": 2}


def test_halves_of_characters_in_json(tmp_path, files):
    items = write(
        tmp_path, "i.jsonl", '{"item_id": "B0", "title": "a\\ud800b", "description": ["\\ud83d\\ude00", NaN]}\n'
    )
    assert read(files[0], items).items.rows() == [("B0", "a?b", "😀")]
