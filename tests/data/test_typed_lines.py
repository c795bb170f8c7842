"""JSON lines that are parsed in the fast ways give what the careful way gives; what is of another form is left to it."""

import json

import polars as pl
import pytest

from mmgrid.data import DataError, filter_interactions, read_files
from mmgrid.data.readers import PreparationOptions, TableOptions, json_lines, lines
from mmgrid.data.readers.json_values import PARAGRAPHS
from mmgrid.data.readers.typed_lines import TypedLines
from mmgrid.machine import beside

SCHEMA = {"a": pl.String, "t": pl.Int64, "d": PARAGRAPHS}
TAKEN = [
    b'{"a":"x","t":1,"d":["p","q"],"z":{"more":[1.5e3,null,true]}}\n{"t":-2,"a":"\xc3\xa9\\n\\ud83d\\ude00"}\n',
    b'{"a":"","t":0,"d":[]}\n{"a":"x","t":1,"d":null}\n{"a":"x","t":1,"d":["",""]}',
    b'{"\\u0061":"x","t":1,"z":123456789012345678901234567890}',
    b'{"a":"x","t":1}\n',
    b'{"a":"x","t":1}\r\n{"a":"y","t":2}\r\n',
]
LEFT = [
    *(b'{"a":"x","t":%s}' % time for time in (b"1.5", b'"1"', b"true", b"null", b"9223372036854775808")),
    *(b'{"a":%s,"t":1}' % name for name in (b"5", b"null", b'["x"]', b'"\\ud800"', b'"\xff"', b'"a\x01"')),
    *(b'{"a":"x","t":1,"d":%s}' % parts for parts in (b'"text"', b'["p",null]', b"[1]", b'{"p":1}')),
    *(b'{"a":"x","t":1,"z":%s}' % rest for rest in (b'"\xff"', b"01", b"[1,]", b'"\\q"', b"NaN", b"[" * 2000)),
    b'{"a":"x","t":1}{"a":"y","t":2}\n',
    b'{"a":"x","t":1} {"a":"y","t":2}\n{"a":"z",\n"t":3}\n',
    b'{"a":"x",\n"t":1}',
    b'{"a":"x","t":1}\n\n{"a":"y","t":2}\n',
    b'{"a":"x","t":1}{"a":"y","t":2}\r\n\r\n{"a":"z","t":3}',
    b'{"a":"x","t":1}\n[1]\n',
    b'{"a":"x","t":1}\n{"a":',
]


@pytest.mark.parametrize("data", TAKEN)
def test_lines_of_the_expected_types(data):
    table = TypedLines(SCHEMA, ["a", "t"]).table(data)
    assert table is not None
    assert table.schema == {"a": pl.String, "t": pl.Int64, "d": pl.String}
    careful = pl.read_ndjson(data, schema=SCHEMA)
    assert table.equals(careful.with_columns(pl.col("d").list.join("\n").fill_null("")))


@pytest.mark.parametrize("data", LEFT)
def test_lines_of_another_form_are_left_to_the_careful_way(data):
    assert TypedLines(SCHEMA, ["a", "t"]).table(data) is None


ITEMS = [
    '{"parent_asin": "B0", "title": "Ze\\u0000ro \\u007f", "description": [" <b>one</b>", "two &amp; three "]}',
    '{"parent_asin": "B1", "title": "NaN", "description": []}',
    '{"parent_asin": "B1", "title": "One\x7f", "description": ["[\'x\', \'y\']"]}',
    '{"parent_asin": "B9", "title": "not chosen", "description": ["\\u0001"]}',
]


NUMBER = '{"parent_asin": "B3", "title": 5, "description": "text"}\n'
FOREIGN = '{"parent_asin": "B3", "title": 5.0, "description": ["text", NaN]}\n'


def slower_ways(monkeypatch):
    """The fast ways refuse, one after the other."""
    for way in ("table", "table_of_any"):
        monkeypatch.setattr(json_lines.TypedLines, way, lambda self, data: None)
        yield


@pytest.mark.parametrize("odd", ["", NUMBER, FOREIGN])
def test_all_ways_mend_and_count_the_same(tmp_path, monkeypatch, odd):
    log = tmp_path / "log.csv"
    log.write_text("user_id,parent_asin,timestamp\n" + "".join(f"u,B{n},166000000000{n}\n" for n in range(4)))
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(ITEMS) + "\n" + odd)
    fast = read_files(log, items, "shop")
    assert fast.items.rows()[:2] == [("B0", "Ze ro", "one\ntwo & three"), ("B1", "One", "x\ny")]
    assert fast.items.rows()[2:] == ([("B3", "5", "text")] if odd else [])
    assert fast.repairs["texts"]["control characters"] == 2
    for _ in slower_ways(monkeypatch):
        careful = read_files(log, items, "shop")
        assert fast.items.equals(careful.items)
        assert fast.repairs == careful.repairs


@pytest.mark.parametrize("odd", ["", NUMBER, FOREIGN])
def test_of_a_repeated_key_the_last_value_counts(tmp_path, monkeypatch, odd):
    log, items = tmp_path / "log.csv", tmp_path / "items.jsonl"
    log.write_text("user_id,parent_asin,timestamp\nu,B1,1660000000000\n")
    line = '{"parent_asin": "B0", "title": "x", "parent_asin": "B1", "title": "y", "description": ["p"], "description": []}'
    items.write_text(f"{line}\n{odd}")
    assert read_files(log, items, "shop").items.rows() == [("B1", "y", "")]
    for _ in slower_ways(monkeypatch):
        assert read_files(log, items, "shop").items.rows() == [("B1", "y", "")]


def test_values_of_any_types_as_line_by_line(tmp_path, monkeypatch):
    values = [
        "1.50",
        "1e2",
        "1e22",
        "-0",
        "123456789012345678901234567890",
        "true",
        '""',
        '"é"',
        '[1,null,"x"]',
        '{"b":1,"b":[2]}',
        "null",
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"a": "x", "t": {value}, "d": {value}, "z": {value}}}\n' for value in values))

    def rows():
        (piece,) = json_lines.read_items(path, "a", "t", ["d"], ["z"])
        return piece.frame.rows(named=True)

    fast = rows()
    assert [row["t"] for row in fast[:5]] == ["1.5", "100", "1e+22", "0", "123456789012345678901234567890"]
    for _ in slower_ways(monkeypatch):
        assert rows() == fast


@pytest.mark.parametrize("block", [600, 1 << 20])
def test_lines_of_items_that_nobody_took_are_not_parsed_whole(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    monkeypatch.setattr(beside, "available_cores", lambda: 1)  # else some are parsed before the log is read
    log, items = tmp_path / "log.csv", tmp_path / "items.jsonl"
    log.write_text("user_id,parent_asin,timestamp\n" + "".join(f"u,{n},1660000000000\n" for n in (3, 40, 41)))
    made = [{"parent_asin": str(n), "title": f"Title {n}", "description": [f"<i>{n}</i>"]} for n in range(90)]
    made[41]["parent_asin"] = "41.0"
    made[50] |= {"title": None, "description": 5}  # nobody took it
    texts = [json.dumps(item) for item in made]
    parsed: list[int] = []
    table = TypedLines.table
    monkeypatch.setattr(TypedLines, "table", lambda self, data: (parsed.append(len(data)), table(self, data))[1])

    def read():
        items.write_text("\n".join(texts) + "\n")
        return read_files(log, items, "shop")

    raw = read()
    assert raw.items.rows() == [(str(n), f"Title {n}", str(n)) for n in (3, 40, 41)]
    assert raw.repairs == {"texts": {"html": 3}}
    if block > 600:
        _sample, whole, chosen = parsed
        assert chosen < whole / 10
    for broken, message in (('""', "parent_asin is missing"), ('"\\u0000"', "zero byte"), ("null", "is missing")):
        texts[60] = f'{{"parent_asin": {broken}}}'
        with pytest.raises(DataError, match=rf"items\.jsonl:61: .*{message}"):
            read()
    texts[60] = '{"parent_asin": "7", "title": }'
    with pytest.raises(DataError, match=r"items\.jsonl:61: broken JSON"):
        read()


def test_descriptions_of_items_that_preparation_drops_are_not_kept(tmp_path):
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    rows = [(user, item) for user in range(4) for item in range(6) if (user + item) % 4]
    times = "".join(f"u{user},B{item},{1_660_000_000 + place}\n" for place, (user, item) in enumerate(rows))
    log.write_text("user_id,item_id,timestamp\n" + times + "u9,rare,1660000000\n")
    texts = "".join(f"B{item},Title {item},<i>About</i> {item}\n" for item in range(6))
    items.write_text("item_id,title,description\n" + texts + "rare,Rare,<i>About</i> it\n")
    whole = read_files(log, items, "shop", TableOptions())
    lean = read_files(log, items, "shop", PreparationOptions(min_interactions=3))
    assert dict(whole.items.select("item_id", "description").rows())["rare"] == "About it"
    assert dict(lean.items.select("item_id", "description").rows())["rare"] == ""
    assert lean.repairs == whole.repairs
    one, other = (filter_interactions(raw, min_interactions=3).corpus for raw in (whole, lean))
    assert one.catalogue.table().equals(other.catalogue.table())
    assert one.interactions_table().equals(other.interactions_table())
    assert "rare" not in one.catalogue.ids
    with pytest.raises(DataError, match="no interactions are left"):
        filter_interactions(lean, min_interactions=9)


@pytest.mark.parametrize(
    ("unit", "times", "first", "since"),
    [
        (None, ["1660000000", " 1660000001", "1660000002.0"], "2022-08-08 23:06:40", [0, 1, 2]),
        ("s", ['"1660000000"', "+1660000001", "01660000002"], "2022-08-08 23:06:40", [0, 1, 2]),
        ("%d%m%Y", ["09082022", "10082022", "01092022"], "2022-08-09 00:00:00", [0, 86_400, 23 * 86_400]),
    ],
)
def test_times_of_text_files_whichever_way_they_are_parsed(tmp_path, unit, times, first, since):
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"u,B,{time}\n" for time in times))
    items.write_text("item_id,title\nB,Title\n")
    found = read_files(log, items, "shop", TableOptions(time_unit=unit)).interactions["timestamp"]
    assert str(found.cast(pl.Datetime("ms"))[0]) == first
    assert (found - found[0]).to_list() == [1000 * seconds for seconds in since]
