"""Tables of other tools: named columns, forms of time, ids and texts, compressed and encoded files, several domains."""

import gzip
import json
import re
from datetime import UTC, datetime

import polars as pl
import pytest

from mmgrid.data import READERS, DataError
from mmgrid.data.looking import look
from mmgrid.data.readers import Columns, TableOptions, lines
from mmgrid.data.readers.datasets_folder import splits
from mmgrid.data.readers.mending import listed
from mmgrid.data.readers.unpacking import zstd

SECOND = 1_660_000_000
ROWS = [("u1", "B1", SECOND * 1000), ("u1", "B2", SECOND * 1000 + 5000), ("u2", "B1", SECOND * 1000 + 1000)]
NAMED = TableOptions(columns=Columns(user="uid", item="iid", time="ts", title="name", description=("text",)))
LOG = "uid,iid,stars,ts\n" + "".join(f"{user},{item},5,{time}\n" for user, item, time in ROWS)
ITEMS = 'iid,name,text\nB1,"One, ""the first""","two\nlines"\nB2,Two,\nB9,Never taken,x\n'
WANTED = [("B1", 'One, "the first"', "two\nlines"), ("B2", "Two", "")]


def write(path, content: str | bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    packed = {".gz": gzip.compress, ".zst": zstd.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(data))
    return path


def log(times) -> str:
    return "user_id,item_id,timestamp\n" + "".join(f"u,B{n},{time}\n" for n, time in enumerate(times))


def read_times(folder, times, options=None) -> list[int]:
    write(folder / "shop.csv", log(times))
    return READERS["csv"].read(folder, "shop", options or TableOptions()).interactions["timestamp"].to_list()


@pytest.mark.parametrize(
    ("format_name", "log_name", "items_name"),
    [
        ("csv", "shop.csv", "shop.items.csv"),
        ("csv", "shop/interactions.csv.gz", "shop/items.csv.zst"),
        ("csv", "shop.csv.zst", "items.csv"),
        ("tsv", "shop.tsv", "shop_items.tsv.gz"),
    ],
)
def test_text_tables_with_named_columns(tmp_path, monkeypatch, format_name, log_name, items_name):
    mark = "\t" if format_name == "tsv" else ";"
    write(tmp_path / log_name, b"\xef\xbb\xbf" + LOG.replace(",", mark).replace("\n", "\r\n").encode())
    separated = (
        ITEMS
        if format_name == "csv"
        else ITEMS.replace("iid,name,text", "iid\tname\ttext")
        .replace("B1,", "B1\t")
        .replace(',"two', '\t"two')
        .replace("Two,", "Two\t")
        .replace("B2,", "B2\t")
        .replace("B9,", "B9\t")
        .replace("taken,", "taken\t")
    )
    write(tmp_path / items_name, separated)
    reader = READERS[format_name]
    assert len(reader.sources(tmp_path, "shop", NAMED)) == 2
    for block_bytes in (lines.BLOCK_BYTES, 7):  # a quoted text is longer than the small block
        monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
        raw = reader.read(tmp_path, "shop", NAMED)
        assert raw.interactions.rows() == ROWS
        assert raw.items.rows() == WANTED


def test_parquet_with_named_columns_and_one_table_for_all_domains(tmp_path):
    table = pl.DataFrame(ROWS, schema=["uid", "iid", "ts"], orient="row")
    both = pl.concat([table.with_columns(shop=pl.lit("Home & Kitchen")), table[:1].with_columns(shop=pl.lit("games"))])
    both.with_columns(pl.col("ts") / 1000).write_parquet(tmp_path / "clicks.parquet")
    pl.DataFrame({"asin": ["B2", "B1"], "name": ["Two", "One"]}).write_parquet(tmp_path / "goods.parquet")
    options = TableOptions(
        columns=Columns(user="uid", item="iid", time="ts", id="asin", title="name", domain="shop"),
        interactions="clicks.parquet",
        items="goods.parquet",
    )
    reader = READERS["parquet"]
    assert reader.read(tmp_path, "Home---Kitchen", options).interactions.rows() == ROWS
    games = reader.read(tmp_path, "games", options)
    assert (games.interactions.rows(), games.items.rows()) == (ROWS[:1], [("B1", "One", "")])
    with pytest.raises(
        DataError, match=r"clicks\.parquet: no row is of the domain toys; .* holds Home & Kitchen, games"
    ):
        reader.read(tmp_path, "toys", options)


@pytest.mark.parametrize("layout", ["shop/shop", "shop"])
def test_recbole_files(tmp_path, layout):
    rows = "".join(f"{user}\t{item}\t{time / 1000}\n" for user, item, time in ROWS)
    write(tmp_path / f"{layout}.inter", "user_id:token\titem_id:token\ttimestamp:float\n" + rows)
    options = TableOptions(columns=Columns(title="movie_title", description=("class", "year")))
    assert not READERS["recbole"].has_texts(tmp_path, "shop")
    raw = READERS["recbole"].read(tmp_path, "shop")
    assert raw.interactions.rows() == ROWS
    assert sorted(raw.items.rows()) == [("B1", "B1", ""), ("B2", "B2", "")]  # ids take the place of titles
    header = "item_id:token\tmovie_title:token_seq\tyear:float\tclass:token_seq\n"
    write(tmp_path / f"{layout}.item", header + 'B1\tThe 5" pipe\t1995\tcrime drama\nB2\tTwo\t1996\t\n')
    write(tmp_path / f"{layout}.user", "user_id:token\tage:float\nu1\t12\n")
    raw = READERS["recbole"].read(tmp_path, "shop", options)
    assert raw.items.rows() == [("B1", 'The 5" pipe', "crime drama\n1995"), ("B2", "Two", "1996")]
    with pytest.raises(DataError, match=r"shop\.item: column title missing; .*columns = \{ title = \"movie_title\" \}"):
        READERS["recbole"].read(tmp_path, "shop")


def test_folders_of_datasets(tmp_path):
    from datasets import Dataset, DatasetDict, disable_progress_bars  # takes a second to import

    disable_progress_bars()
    table = Dataset.from_dict(
        {
            "user_id": [row[0] for row in ROWS],
            "item_id": [row[1] for row in ROWS],
            "timestamp": [datetime.fromtimestamp(row[2] / 1000, UTC) for row in ROWS],
        }
    )
    items = Dataset.from_dict({"item_id": ["B1", "B2"], "title": ["One", "Two"], "description": [["a", "b"], []]})
    DatasetDict({"interactions": table, "items": items}).save_to_disk(tmp_path / "roles")
    DatasetDict({"train": table.select([0, 1]), "test": table.select([2])}).flatten_indices().save_to_disk(
        tmp_path / "splits"
    )
    items.save_to_disk(tmp_path / "splits.items")
    (tmp_path / "hub/data").mkdir(parents=True)
    table.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    (tmp_path / "hub_items").mkdir()
    items.to_parquet(tmp_path / "hub_items/train-00000-of-00001.parquet")
    reader = READERS["datasets"]
    for domain in ("roles", "splits", "hub"):
        raw = reader.read(tmp_path, domain)
        assert raw.interactions.rows() == ROWS, domain
        assert raw.items.rows() == [("B1", "One", "a\nb"), ("B2", "Two", "")]
        assert reader.has_texts(tmp_path, domain)
    next((tmp_path / "splits/test").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="no such file, though state.json names it"):
        reader.sources(tmp_path, "splits")
    write(tmp_path / "chosen/state.json", json.dumps({"_indices_data_files": [{"filename": "indices.arrow"}]}))
    with pytest.raises(DataError, match="flatten_indices"):
        reader.sources(tmp_path, "chosen")
    with pytest.raises(DataError, match=r"no such folder for domain 'other'"):
        reader.sources(tmp_path, "other")


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (SECOND, None),
        (f"{SECOND}.0", None),
        ("1.66e9", None),
        (SECOND * 1000, None),
        (f"{SECOND * 1000}.0", "ms"),
        (SECOND * 10**6, None),
        (SECOND * 10**9, "ns"),
        ("2022-08-08T23:06:40Z", None),
        ("2022-08-08 23:06:40.000", None),
        ("2022-08-09T01:06:40+02:00", None),
        ("2022-08-08 18:06:40-0500", None),
        ("08.08.2022 23:06:40", "%d.%m.%Y %H:%M:%S"),
    ],
)
def test_forms_of_time(tmp_path, value, unit):
    assert read_times(tmp_path, [value], TableOptions(time_unit=unit)) == [SECOND * 1000]


def test_fractions_days_and_early_dates(tmp_path):
    assert read_times(tmp_path, [f"{SECOND}.123", f"{SECOND}"]) == [SECOND * 1000 + 123, SECOND * 1000]
    assert read_times(tmp_path, ["2022-08-09", "1965-01-01"]) == [1_660_003_200_000, -157_766_400_000]
    assert read_times(tmp_path, [20220809], TableOptions(time_unit="%Y%m%d")) == [1_660_003_200_000]


@pytest.mark.parametrize(
    ("times", "unit", "message"),
    [
        ([SECOND, SECOND * 1000], None, r"shop\.csv:3: timestamp is .* the year 54573 in seconds .* milliseconds"),
        ([SECOND * 1000, 0], None, r"shop\.csv:3: timestamp is 0: the year 1970 in milliseconds"),
        ([SECOND, SECOND], "ms", r"shop\.csv: its timestamps .* look like seconds; expected milliseconds .*time_unit"),
        ([SECOND * 1000], "s", r"look like milliseconds or microseconds or nanoseconds; expected seconds"),
        ([1, 2], None, r"shop\.csv:2: timestamp is 1, which is near 1970 in every unit"),
        ([20220809], None, r'if it is a date: time_unit = "%Y%m%d"'),
        ([SECOND, "soon"], None, r"shop\.csv:3: timestamp is 'soon'; expected seconds, .* or a date such as"),
        (["2022-08-09", "2022-13-01", "09.08.2022"], None, r"shop\.csv:3: timestamp is '2022-13-01'.* \(also line 4\)"),
        (["2022-08-09 25:00:00", "2022-08-09"], None, r"shop\.csv:2: timestamp is '2022-08-09 25:00:00'"),
        ([SECOND, ""], None, r"shop\.csv:3: timestamp is missing"),
        (["nan"], None, r"shop\.csv:2: timestamp is 'nan'"),
    ],
)
def test_times_that_cannot_be_right(tmp_path, times, unit, message):
    with pytest.raises(DataError, match=message):
        read_times(tmp_path, times, TableOptions(time_unit=unit))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,item_id,timestamp\n\n,,\nu,B1,1660000000\n,B2,1660000000\n", r"shop\.csv:5: user_id is missing"),
        ("user_id,item_id,timestamp\nu,B1,1660000000\nu,B2\n", r"shop\.csv:3: 2 values for 3 columns"),
        ('user_id,item_id,timestamp\nu,"B1,1660000000\nu,B2,1660000000\n', r"shop\.csv.* quote"),
        (
            'user_id,item_id,timestamp,title\nu,B1,1660000000,"One\nu,B2,1660000000,Two\n',
            r"shop\.csv:2: the row that begins in this line cannot be read \(unexpected end of data\)",
        ),
        (
            "uid,item_id,timestamp\nu,B1,1\n",
            r"user_id missing; .* if uid is its user: columns = \{ user = \"uid\" \}, or rename",
        ),
        ("user_id,item_id,timestamp,item_id\nu,B1,1,2\n", r"2 columns called item_id"),
        ("", "the file is empty"),
        ("user_id,item_id,timestamp\ru,B1,1660000000\r", "its lines end with CR alone"),
        (b"user_id,item_id,timestamp\nu,B\xe4,1660000000\n", r'shop\.csv:2: .*encoding = "cp1252"'),
        ("user_id,item_id,timestamp\nu,B1,1660000000\n".encode("utf-16-le"), r'encoding = "utf-16-le"'),
    ],
)
def test_broken_text_tables(tmp_path, content, message):
    write(tmp_path / "shop.csv", content)
    with pytest.raises(DataError, match=message):
        READERS["csv"].read(tmp_path, "shop")


def test_a_zstd_file_that_is_cut_off_is_an_error(tmp_path):
    whole = write(tmp_path / "shop.csv.zst", log([SECOND] * 50)).read_bytes()
    (tmp_path / "shop.csv.zst").write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"shop\.csv\.zst: the zstd file is cut off"):
        READERS["csv"].read(tmp_path, "shop")
    (tmp_path / "shop.csv.zst").write_bytes(b"plain text")
    with pytest.raises(DataError, match=r"name it without \.zst"):
        READERS["csv"].read(tmp_path, "shop")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8"])
def test_encodings(tmp_path, encoding, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 9)
    write(tmp_path / "shop.csv", "user_id,item_id,timestamp,title\nu,B1,1660000000,Käse für ½\n".encode(encoding))
    options = TableOptions(encoding=None if encoding == "utf-16" else encoding)
    assert READERS["csv"].read(tmp_path, "shop", options).items.rows() == [("B1", "Käse für ½", "")]


def test_ids_and_texts_of_many_types(tmp_path):
    table = pl.DataFrame(
        {
            "user_id": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
            "item_id": [100.0, 101.0, 100.0],
            "timestamp": [datetime(2022, 8, 8, 23, 6, 40)] * 3,
            "title": ["", "Two", "One"],
            "description": [["a"], None, ["b", "c"]],
        }
    )
    table.write_parquet(tmp_path / "shop.parquet")
    raw = READERS["parquet"].read(tmp_path, "shop")
    assert raw.interactions.rows() == [
        ("u", "100", SECOND * 1000),
        ("v", "101", SECOND * 1000),
        ("u", "100", SECOND * 1000),
    ]
    assert raw.items.rows() == [("101", "Two", ""), ("100", "One", "b\nc")]  # of an item, the first row with a title

    def fails(message, **columns):
        table.with_columns(**columns).write_parquet(tmp_path / "shop.parquet")
        with pytest.raises(DataError, match=message):
            READERS["parquet"].read(tmp_path, "shop")

    fails(r"shop\.parquet: row 1: item_id is 100\.5; expected an id", item_id=pl.col("item_id") + 0.5)
    fails(r"shop\.parquet: column user_id holds Struct", user_id=pl.struct("title"))
    fails(r"shop\.parquet: column description holds List\(Struct", description=pl.concat_list(pl.struct("title")))
    fails(r"shop\.parquet: column title holds Binary", title=pl.col("title").cast(pl.Binary))
    fails(r"shop\.parquet: row 2: user_id is missing", user_id=pl.Series(["u", "", "v"]))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[]", []),
        ("['one' 'two']", ["one", "two"]),
        ('["a, \\"b\\"", "c"]', ['a, "b"', "c"]),
        ("['it''s', \"it's\"]", ["it", "s", "it's"]),
        ("['x',\n 'y']", ["x", "y"]),
        ("[Deluxe] 'Foo' [2]", None),
        ("[1984]", None),
    ],
)
def test_lists_that_were_written_as_text(text, parts):
    assert listed(text) == parts


def test_nan_is_no_text_and_ratings_can_be_required(tmp_path):
    write(
        tmp_path / "shop.csv",
        "user_id,item_id,timestamp,rating\n" + "".join(f"u,B{n},{SECOND},{n}\n" for n in range(4)),
    )
    write(tmp_path / "shop.items.csv", "item_id,title,description\nB1,NaN,nan\nB2,Two,\"['a', 'b']\"\nB3,Three,[x]\n")
    raw = READERS["csv"].read(tmp_path, "shop", TableOptions(min_rating=1))
    assert raw.interactions["item_id"].to_list() == ["B1", "B2", "B3"]
    assert raw.items.rows() == [("B1", "", ""), ("B2", "Two", "a\nb"), ("B3", "Three", "[x]")]
    write(tmp_path / "shop.csv", f"user_id,item_id,timestamp,rating\nu,B1,{SECOND},good\n")
    with pytest.raises(DataError, match=r"shop\.csv:2: rating is 'good'; expected a number"):
        READERS["csv"].read(tmp_path, "shop", TableOptions(min_rating=1))


def test_json_lines_with_named_columns_domains_and_ratings(tmp_path):
    rows = [{"uid": u, "iid": i, "ts": t, "shop": "a", "stars": n} for n, (u, i, t) in enumerate(ROWS)]
    write(tmp_path / "all.jsonl.gz", "".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"shop": ""}]))
    write(tmp_path / "goods.jsonl", '{"iid": "B1", "name": "One", "text": ["a", "b"]}\n{"iid": "B2", "name": "Two"}\n')
    options = NAMED.model_copy(
        update={
            "columns": Columns(
                user="uid", item="iid", time="ts", title="name", description="text", domain="shop", rating="stars"
            ),
            "interactions": "all.jsonl.gz",
            "items": "goods.jsonl",
            "min_rating": 1.0,
        }
    )
    raw = READERS["csv"].read(tmp_path, "a", options)
    assert raw.interactions.rows() == ROWS[1:]
    assert sorted(raw.items.rows()) == [("B1", "One", "a\nb"), ("B2", "Two", "")]
    with pytest.raises(DataError, match="no stars is at least 9; lower min_rating"):
        READERS["csv"].read(tmp_path, "a", options.model_copy(update={"min_rating": 9.0}))
    with pytest.raises(DataError, match="no row is of the domain b; its column shop holds a"):
        READERS["csv"].read(tmp_path, "b", options)


def test_shards_are_read_in_order(tmp_path):
    for place, (user, item, time) in enumerate(ROWS):
        write(tmp_path / f"logs/shop-{place}.csv", f"user_id,item_id,timestamp\n{user},{item},{time}\n")
    options = TableOptions(interactions="logs/{domain}-*.csv")
    assert READERS["csv"].read(tmp_path, "shop", options).interactions.rows() == ROWS
    write(tmp_path / "logs/shop-3.csv", "user_id,item_id,timestamp\nu,B1,soon\n")
    with pytest.raises(DataError, match=r"shop-3\.csv:2: timestamp is 'soon'"):
        READERS["csv"].read(tmp_path, "shop", options)


def test_what_says_nothing_new_is_no_part_of_the_identity():
    usual = TableOptions(columns=Columns(user="user_id", rating="stars"), interactions="x/{domain}.csv")
    assert usual.identity() == TableOptions().identity() == {}
    assert json.dumps(NAMED.identity()["columns"])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", {"_data_files": [{"filename": "../secret.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "/etc/passwd"}]}),
        ("dataset_dict.json", {"splits": ["../other"]}),
    ],
)
def test_a_dataset_names_its_own_files_only(tmp_path, file, content):
    (tmp_path / "d").mkdir()
    (tmp_path / "secret.arrow").write_bytes(b"")
    (tmp_path / "d" / file).write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"{re.escape(file)}: names what is not its own"):
        splits(tmp_path / "d")


def shards(folder, numbers, total=4, stem="train"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        table = pl.DataFrame({"user_id": ["u"], "item_id": [f"B{number}"], "timestamp": [SECOND]})
        table.write_parquet(folder / f"{stem}-{number:05}-of-{total:05}.parquet")


def test_numbered_files_of_which_some_are_missing(tmp_path):
    shards(tmp_path / "shop/data", [0, 2])
    message = r"shop/data: holds 2 of the 4 files of train; train-00001-of-00004, train-00003-of-00004 missing"
    with pytest.raises(DataError, match=message):
        READERS["datasets"].sources(tmp_path, "shop")
    anywhere = TableOptions(interactions="shop/data/*.parquet")
    with pytest.raises(DataError, match=message):
        READERS["parquet"].sources(tmp_path, "shop", anywhere)
    with pytest.raises(DataError, match=message):
        look(tmp_path / "shop")
    chosen = TableOptions(interactions="shop/data/train-*-of-00004.parquet")  # these, as they are
    assert len(READERS["parquet"].sources(tmp_path, "shop", chosen)) == 2
    shards(tmp_path / "shop/data", [1, 3])
    shards(tmp_path / "shop", [1, 2], 2, "more")  # counted from 1
    for reader, options, files in (("datasets", TableOptions(), 6), ("parquet", anywhere, 4)):
        assert len(READERS[reader].sources(tmp_path, "shop", options)) == files
