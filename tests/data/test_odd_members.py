"""Odd members of each kind of file, value and text: each is read as it is meant, or refused with its reason and place."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from decimal import Decimal
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgrid.data import DataError, read_files
from mmgrid.data.readers import TableOptions, lines, quoting
from mmgrid.data.readers.unpacking import zstd

T = 1_660_000_000_000
LOG = f"user_id,item_id,timestamp\nu,B0,{T}\nv,B1,{T + 1}\n"
ROWS = [("u", "B0", T), ("v", "B1", T + 1)]
ITEMS = "item_id,title,description\nB0,Zero,a\nB1,One,b\n"


@pytest.fixture
def read(tmp_path):
    """Reads a log and items: contents of files, by default good ones."""

    def read(log=("r.csv", LOG), items=("i.csv", ITEMS), **options):
        for name, content in (log, items):
            data = content.encode() if isinstance(content, str) else content
            data.write_parquet(tmp_path / name) if isinstance(data, pl.DataFrame) else (tmp_path / name).write_bytes(
                data
            )
        return read_files(tmp_path / log[0], tmp_path / items[0], "shop", TableOptions(**options))

    return read


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", data)
    return buffer.getvalue()


def parquet(data):
    buffer = io.BytesIO()
    pl.read_csv(data).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "pack", "message"),
    [
        ("r.csv", gzip.compress, r"r\.csv: is in gzip format; name it r\.csv\.gz"),
        ("r.csv.zst", gzip.compress, r"is in gzip format; name it r\.csv\.gz"),
        ("r.csv.gz", zstd.compress, r"is in zstd format; name it r\.csv\.zst"),
        ("r.csv.gz", lambda data: gzip.compress(gzip.compress(data)), "packed once more; unpack it first"),
        ("r.csv", zipped, "is in zip .*; unpack it"),
        ("r.jsonl.gz", bz2.compress, "is in bzip2 format; unpack it"),
        ("r.parquet", lzma.compress, "is in xz format; unpack it"),
        ("r.parquet", gzip.compress, "is in gzip format; unpack it"),
        ("r.csv", parquet, r"is in parquet format; let its name end with \.parquet"),
        ("r.csv.gz", lambda data: data, r"not a gzip file.*name it without \.gz"),
        ("r.jsonl", lambda data: json.dumps([{"user_id": "u"}], indent=1).encode(), "is a list of objects in JSON"),
    ],
)
def test_files_of_another_kind_than_their_name(read, name, pack, message):
    with pytest.raises(DataError, match=message):
        read(log=(name, pack(LOG.encode())))


@pytest.mark.parametrize("word", ["GGUF", "GGUF_file", "lmgg", "PAR1", "%PDF-file", "BZh9", f"{'x' * 257}ustar"])
def test_the_first_word_of_a_table_may_be_the_sign_of_another_format(read, word):
    for mark in ",\t":
        log = "\n".join(f"{word if at == 0 else at},{line}" for at, line in enumerate(LOG.splitlines()))
        assert read(log=("r.csv", log.replace(",", mark).encode())).interactions.rows() == ROWS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.csv", LOG.encode("utf-16")),
        ("r.csv", LOG.encode("utf-32")),
        ("r.csv", b"\xef\xbb\xbf" + LOG.replace("\n", "\r\n").encode()),
        ("r.csv", LOG.replace(",", "\t").encode()),
        ("r.csv.gz", gzip.compress(LOG[:40].encode()) + gzip.compress(LOG[40:].encode()) + b"\0" * 9),
        ("r.csv.zst", zstd.compress(LOG[:40].encode()) + zstd.compress(LOG[40:].encode())),
    ],
    ids=["utf-16", "utf-32", "mark and CRLF", "tabs", "members of gzip", "frames of zstd"],  # gzip holds the time
)
def test_files_in_several_parts_and_encodings(read, name, data):
    assert read(log=(name, data)).interactions.rows() == ROWS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"say \\"hi\\", x"', None),
        ('"say \\"hi\\""', None),
        ('"a"b"c"', None),
        ('"a" b', None),
        ('"C:\\"', "C:\\"),
        ('5" pipe', '5" pipe'),
        ('"a ""b"" c, ""d"""', 'a "b" c, "d"'),
        ('"x ,""y"" z"', 'x ,"y" z'),
        ('"a\nb"', "a\nb"),
    ],
)
def test_quotes_in_text_files_are_never_dropped(read, value, text):
    items = ("i.csv", f"item_id,description,title\nB0,{value},Zero\nB1,b,One\n")
    if text is None:
        with pytest.raises(DataError, match=r"i\.csv:2: the row .*double a quote that belongs to the text"):
            read(items=items)
        raw = read(items=items, skip_bad_lines=True)
        assert (raw.items.rows(), raw.repairs["bad_lines"]) == ([("B1", "One", "b")], 1)
    else:
        assert read(items=items).items.rows() == [("B0", "Zero", text), ("B1", "One", "b")]


@pytest.mark.parametrize(
    "quoted", ['"Best rake\tx\nB2\t"Two" it is\ty', '"Best rake\tx\nB2\tTwo"\ty', '"Best" rake\tx']
)
def test_quotes_between_tabs_never_swallow_rows(read, quoted):
    items = ("i.tsv", f'item_id\ttitle\tdescription\nB0\t{quoted}\nB1\t"One\nor two"\tb\n')
    with pytest.raises(DataError, match=r"i\.tsv:2: the row .*double a quote that belongs to the text"):
        read(items=items)
    raw = read(items=items, skip_bad_lines=True)
    assert raw.items.rows() == [("B1", "One\nor two", "b")]


@given(data=st.text('a",\n\r\t', max_size=14), separator=st.sampled_from(",\t"))
def test_rows_end_where_they_do_value_by_value(data, separator):
    whole = quoting.end_of_rows(data.encode(), separator)
    with mock.patch.object(quoting, "_rows", return_value=re.compile(rb"(?!)")):
        assert quoting.end_of_rows(data.encode(), separator) == whole


@pytest.mark.parametrize("block", [16, 64, 1 << 20])
def test_rows_of_quoted_values_whatever_the_block(read, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    texts = ["a", "b\nc", 'd ""e"" f', "g,h", "", "i\n,\n", 'j\r\n""', ',""k""']
    rows = "".join(f'"B{n % 2}","x{n}","{text}"\n' for n, text in enumerate(texts))
    log = "".join(f'"u{n}","B{n % 2}","{T + n}"\n' for n in range(40))
    raw = read(
        log=("r.csv", '"user_id","item_id","timestamp"\n' + log), items=("i.csv", "item_id,title,description\n" + rows)
    )
    assert raw.interactions["timestamp"].to_list() == [T + n for n in range(40)]
    assert raw.items.rows() == [("B0", "x0", "a"), ("B1", "x1", "b\nc")]
    assert raw.repairs == {"repeated_items": 6}


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (pl.Series([Decimal("7.00"), Decimal("8.00")], dtype=pl.Decimal(9, 2)), ["7", "8"]),
        (
            pl.Series([Decimal("7.00"), Decimal("8.50")], dtype=pl.Decimal(9, 2)),
            r"row 2: user_id is 8\.50; expected an id",
        ),
        ([7.0, 8.5], r"row 2: user_id is 8\.5; expected an id"),
        ([7.0, 2.0**53], "row 2: user_id is 9007199254740992.0, a fraction so large that it has lost digits"),
        ([float("inf"), 1.0], "row 1: user_id is inf"),
        ([7.0, float("nan")], "row 2: user_id is missing"),
        (pl.Series(["u", "v"], dtype=pl.Categorical), ["u", "v"]),
        (["u", "nan"], "row 2: user_id is nan, as tools write a missing one"),
        ([True, False], "column user_id holds Boolean"),
    ],
)
def test_ids_of_odd_types(read, ids, found):
    table = pl.DataFrame({"user_id": ids, "item_id": ["B0", "B1"], "timestamp": [T, T + 1]})
    if isinstance(found, list):
        assert read(log=("r.parquet", table)).interactions["user_id"].to_list() == found
    else:
        with pytest.raises(DataError, match=found):
            read(log=("r.parquet", table))


@pytest.mark.parametrize("value", ["true", "1.5", '["B0"]', '{"a": 1}', "1e300", "NaN", '"NULL"', '"\\\\N"'])
@pytest.mark.parametrize("table", ["log", "items"])
def test_ids_of_json_are_texts_or_whole_numbers(read, value, table):
    odd = f'{{"user_id": "u", "item_id": {value}, "timestamp": {T}, "title": "x"}}\n'
    good = odd.replace(value, '"B0"')
    with pytest.raises(DataError, match=r"x\.jsonl:2: item_id is "):
        read(**{table: ("x.jsonl", good + odd)})
    raw = read(**{table: ("x.jsonl", good + odd)}, skip_bad_lines=True)
    assert raw.repairs["bad_lines"] == 1


@pytest.mark.parametrize(
    ("there", "here", "why"),
    [
        ("B0 ", "B0", "has spaces around it"),
        ("b0", "B0", "Capital letters count"),
        ("007", "7", "took ids for numbers"),
    ],
)
def test_why_ids_do_not_meet(read, there, here, why):
    with pytest.raises(DataError, match=why):
        read(
            log=("r.csv", f"user_id,item_id,timestamp\nu,{there},{T}\n"), items=("i.csv", f"item_id,title\n{here},x\n")
        )


@pytest.mark.parametrize(
    ("time", "found"),
    [
        ("2022-08-08t23:06:40z", T),
        ("2022-08-08T21:06:40-02:00", T),
        ("1950-01-01", -631_152_000_000),
        ("2022-08-08 23:06:40 EST", "or a date such as .* any other form is declared"),
        ("-5", "is -5, which is near 1970"),
        ("1e300", r"is 1e\+300, which lies far outside of our time"),
    ],
)
def test_odd_times(read, time, found):
    log = ("r.csv", f"user_id,item_id,timestamp\nu,B0,{time}\n")
    if isinstance(found, int):
        assert read(log=log).interactions["timestamp"].to_list() == [found]
    else:
        with pytest.raises(DataError, match=rf"r\.csv:2: timestamp {found}" if found.startswith("is") else found):
            read(log=log)


@pytest.mark.parametrize(
    ("text", "mended", "kinds"),
    [
        ("['a', None, 'b']", "a\nb", {"lists": 1}),
        ("[None, nan]", "", {"lists": 1}),
        ('["x", null, "nan"]', "x", {"lists": 1}),
        ("['a' nan]", "a", {"lists": 1}),
        ("[nan]", "", {"no text": 1}),
        ("[None of these]", "[None of these]", {}),
        ("[nano]", "[nano]", {}),
        ("a\x85b\x9fc\x1bd", "a b c d", {"control characters": 1}),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_texts_that_are_partly_none(read, text, mended, kinds, kind):
    table = pl.DataFrame({"item_id": ["B0"], "title": ["T"], "description": [text]})
    content = table.write_csv() if kind == "csv" else json.dumps(table.rows(named=True)[0], ensure_ascii=False) + "\n"
    raw = read(items=(f"i.{kind}", content))
    assert (raw.items["description"][0], raw.repairs.get("texts", {})) == (mended, kinds)
