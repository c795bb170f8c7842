"""Files as other tools and public data sets write them, compared with a plain reading of the same bytes."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from mmgrid.data import DataError, read_files
from mmgrid.data.looking import look
from mmgrid.data.readers import READERS, Columns, TableOptions, tables

T = 1_660_000_000
ROWS = [("u1", "10", T), ("u2", "20", T + 60), ("u1", "20", T + 120)]
TITLES = {"10": "Misérables, Les (1995)", "20": 'The "Other" One: Part II (1996)'}


def _read(folder: Path, log: str, items: str, **options):
    raw = read_files(folder / log, folder / items, "shop", TableOptions(**options))
    return raw.interactions.rows(), dict(raw.items.select("item_id", "title").rows())


def _expected(rows=ROWS):
    return [(user, item, time * 1000) for user, item, time in rows]


@pytest.fixture
def movielens(tmp_path):
    """The three forms in which MovieLens is published."""
    for name in ("ml-1m", "ml-100k", "ml-32m"):
        (tmp_path / name).mkdir()
    rows = [(user[1:], item, 5, time) for user, item, time in ROWS]
    for name, sign in (("ml-1m/ratings.dat", "::"), ("ml-100k/u.data", "\t")):
        (tmp_path / name).write_text("".join(f"{sign.join(map(str, row))}\n" for row in rows))
    movies = "".join(f"{item}::{title}::Drama|War\n" for item, title in TITLES.items())
    (tmp_path / "ml-1m/movies.dat").write_bytes(movies.encode("latin-1"))
    films = "".join(f"{item}|{title}|01-Jan-1995||http://x|{'|'.join('0' * 19)}\n" for item, title in TITLES.items())
    (tmp_path / "ml-100k/u.item").write_bytes(films.encode("latin-1"))
    pl.DataFrame(rows, ["userId", "movieId", "rating", "timestamp"], orient="row").write_csv(
        tmp_path / "ml-32m/ratings.csv"
    )
    pl.DataFrame({"movieId": list(TITLES), "title": list(TITLES.values()), "genres": "War"}).write_csv(
        tmp_path / "ml-32m/movies.csv"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["ml-1m", "ml-100k", "ml-32m"])
def test_movielens_is_read_as_it_is_published(movielens, name):
    raw = READERS["movielens"].read(movielens, name)
    assert raw.interactions.rows() == _expected([(user[1:], item, time) for user, item, time in ROWS])
    assert dict(raw.items.select("item_id", "title").rows()) == TITLES
    assert READERS["movielens"].has_texts(movielens, name)
    with pytest.raises(DataError, match="no rating is at least 6"):
        READERS["movielens"].read(movielens, name, TableOptions(min_rating=6))


def test_movielens_in_utf_8_and_its_broken_lines(movielens):
    folder = movielens / "ml-1m"
    (folder / "movies.dat").write_bytes((folder / "movies.dat").read_bytes().decode("latin-1").encode())
    assert _read(folder, "ratings.dat", "movies.dat")[1] == TITLES
    genres = READERS["movielens"].read(movielens, "ml-1m", TableOptions(columns=Columns(description=("genres",))))
    assert genres.items["description"].to_list() == ["Drama|War"] * 2
    with (folder / "ratings.dat").open("a") as file:
        file.write("1::10::5\n")
    with pytest.raises(DataError, match=r"ratings\.dat:4: 3 values for 4 columns \(user_id, .* in '1::10::5'; fix"):
        _read(folder, "ratings.dat", "movies.dat")


@pytest.mark.parametrize("sign", [",", "\t", "::", "\x01"])
def test_columns_by_number_where_no_line_names_them(tmp_path, sign):
    (tmp_path / "r.txt").write_text(
        "".join(f"{sign.join((user, item, '5.0', str(time)))}\n" for user, item, time in ROWS)
    )
    (tmp_path / "i.csv").write_text("item_id,title\n10,Ten\n20,Twenty\n")
    columns = Columns(user="#1", item="#2", time="#4")
    assert _read(tmp_path, "r.txt", "i.csv", columns=columns) == (_expected(), {"10": "Ten", "20": "Twenty"})
    (tmp_path / "shop.txt").write_bytes((tmp_path / "r.txt").read_bytes())
    alone = READERS["csv"].read(tmp_path, "shop", TableOptions(columns=columns, interactions="shop.txt", items="i.csv"))
    assert alone.interactions.rows() == _expected()
    (tmp_path / "i.csv").unlink()
    bare = READERS["csv"].read(tmp_path, "shop", TableOptions(columns=columns, interactions="shop.txt"))
    assert bare.items["title"].to_list() == ["10", "20"]
    with pytest.raises(DataError, match=r'look like values: .* columns = \{ user = "#1", item = "#2", time = "#3" \}'):
        READERS["csv"].read(tmp_path, "shop", TableOptions(interactions="shop.txt"))
    with pytest.raises(DataError, match=r"has no column #9 \(time\); it has #1, #2, #3, #4;"):
        READERS["csv"].read(
            tmp_path, "shop", TableOptions(columns=Columns(user="#1", item="#2", time="#9"), interactions="shop.txt")
        )


def test_objects_as_python_shows_them(tmp_path):
    """Metadata of Amazon 2014, and Steam: no JSON."""
    with gzip.open(tmp_path / "r.json.gz", "wt") as file:
        for user, item, time in ROWS:
            file.write(json.dumps({"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time}) + "\n")
    with gzip.open(tmp_path / "meta.json.gz", "wt") as file:
        for item, title in TITLES.items():
            file.write(f"{ {'asin': item, 'title': title, 'related': {'also': ('x', None)}, 'price': 4.99} }\n")
    columns = Columns(user="reviewerID", item="asin", time="unixReviewTime")
    assert _read(tmp_path, "r.json.gz", "meta.json.gz", columns=columns) == (_expected(), TITLES)
    (tmp_path / "meta.jsonl").write_text("{'asin': __import__('os').getcwd(), 'title': 'x'}\n")
    with pytest.raises(DataError, match=r"meta\.jsonl:1: broken JSON"):
        _read(tmp_path, "r.json.gz", "meta.jsonl", columns=columns)
    (tmp_path / "meta.jsonl").write_text("{'asin': " + "[" * 100_000 + "\n")
    with pytest.raises(DataError, match=r"meta\.jsonl:1: broken JSON"):
        _read(tmp_path, "r.json.gz", "meta.jsonl", columns=columns)


def test_fields_of_nested_objects_and_numbers_as_texts(tmp_path):
    """As BigQuery exports them; MongoDB writes its ids and dates so, too."""
    lines = [
        {"who": {"id": user}, "ctx": {"item": {"id": item}}, "at": {"$date": str(time * 10**6)}, "n": "7"}
        for user, item, time in ROWS
    ]
    (tmp_path / "shop.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    goods = [{"ctx.item.id": item, "info": {"names": [title]}} for item, title in TITLES.items()]
    (tmp_path / "items.json").write_text("".join(json.dumps(line) + "\n" for line in goods))
    columns = Columns(user="who.id", item="ctx.item.id", time="at.$date", title="info.names")
    raw = READERS["jsonl"].read(tmp_path, "shop", TableOptions(columns=columns))
    assert raw.interactions.rows() == _expected()
    assert dict(raw.items.select("item_id", "title").rows()) == TITLES
    with (tmp_path / "shop.json").open("a") as file:
        file.write(json.dumps({"who": {}, "ctx": {"item": {"id": "10"}}, "at": {"$date": str(T)}}) + "\n")
    with pytest.raises(DataError, match=r"shop\.json:4: who\.id is missing"):
        READERS["jsonl"].read(tmp_path, "shop", TableOptions(columns=columns))
    with pytest.raises(DataError, match=r'who is \{"id": "u1"\}; .* a field of it is named as in "who\.id"'):
        READERS["jsonl"].read(tmp_path, "shop", TableOptions(columns=Columns(user="who", item="n", time="n")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "user_id": "u"\n}\n', r"one object of JSON in several lines; write one row in a line \(jq -c \.\)"),
        ('{"user_id": ["u"], "item_id": "1", "timestamp": 1}\n', "write one row for each entry of the list"),
    ],
)
def test_json_that_is_not_one_row_in_a_line(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=message):
        _read(tmp_path, "r.json", "r.json")


def test_arrow_files_under_their_names(tmp_path):
    log = pl.DataFrame(ROWS, ["user_id", "item_id", "timestamp"], orient="row")
    goods = pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})
    for log_name, items_name in (("shop.feather", "items.feather"), ("a.arrow", "b.ipc")):
        log.write_ipc(tmp_path / log_name, compression="lz4")
        goods.write_ipc(tmp_path / items_name, compression="zstd")
        assert _read(tmp_path, log_name, items_name) == (_expected(), TITLES)
    assert READERS["arrow"].read(tmp_path, "shop").interactions.rows() == _expected()
    (tmp_path / "old.feather").write_bytes(b"FEA1\0\0\0\0" + bytes(64) + b"FEA1")
    with pytest.raises(DataError, match="first format of Feather; write it again as Feather 2"):
        _read(tmp_path, "old.feather", "items.feather")
    log.write_parquet(tmp_path / "log.pq")
    assert _read(tmp_path, "log.pq", "items.feather")[0] == _expected()


def test_capital_letters_in_the_names_of_files(tmp_path):
    text = "user_id,item_id,timestamp\n" + "".join(f"{user},{item},{time}\n" for user, item, time in ROWS)
    (tmp_path / "CLICKS.CSV.GZ").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "Items.Csv").write_text("item_id,title\n10,Ten\n20,Twenty\n")
    assert _read(tmp_path, "CLICKS.CSV.GZ", "Items.Csv")[0] == _expected()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("-", None, "read more than once, so not from a stream"),
        ("r", b"PAR1\x15\x00", r"is in parquet format; let its name end with \.parquet"),
        ("r.parquet.gzip", b"PAR1\x15\x00", r"let its name end with \.parquet"),
        ("r.csv.zip", b"PK\x03\x04", r"is in zip \(or Excel\) format; unpack"),
        ("r.csv.bz2", b"BZh91AY&SY", "is in bzip2 format; unpack it"),
        ("r.tar.gz", b"\x1f\x8b", "is an archive of files; unpack it"),
        ("r.avro", b"Obj\x01", "is in Avro format; write it as"),
        ("r.rtf", b"user_id\n", "unknown format; its name should end with"),
    ],
)
def test_files_of_other_names_are_called_what_they_are(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        tables.file_format(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2022-08-08T23:06:40+02:00[Europe/Berlin]", T * 1000 - 7_200_000),
        ("2022-08-08T23:06:40Z[UTC]", T * 1000),
        ("1660000000,25", T * 1000 + 250),
        ("1660000000250,0", T * 1000 + 250),
        ("2022-08-08T23:06:40[Europe/Berlin]", None),
        ("1.660.000.000", None),
        ("1,660", None),
    ],
)
def test_times_as_java_and_excel_write_them(tmp_path, text, milliseconds):
    (tmp_path / "r.csv").write_text(f"user_id;item_id;timestamp;rating\nu;10;{text};4,5\nv;20;{text};3\n")
    (tmp_path / "i.csv").write_text("item_id,title\n10,Ten\n20,Twenty\n")
    if milliseconds is None:
        with pytest.raises(DataError, match=r"r\.csv:2: timestamp is "):
            _read(tmp_path, "r.csv", "i.csv")
        return
    assert _read(tmp_path, "r.csv", "i.csv")[0] == [("u", "10", milliseconds), ("v", "20", milliseconds)]
    assert _read(tmp_path, "r.csv", "i.csv", min_rating=4)[0] == [("u", "10", milliseconds)]


@pytest.fixture
def events(tmp_path):
    """A folder as a job of Spark leaves it."""
    folder = tmp_path / "events"
    folder.mkdir()
    log = pl.DataFrame(ROWS, ["user_id", "item_id", "timestamp"], orient="row")
    for place in range(2):
        name = f"part-0000{3 * place}-8d2f-c000.csv"
        log[2 * place : 2 * place + 2].write_csv(folder / name)
        (folder / f".{name}.crc").write_bytes(b"crc\0")
    (folder / "_SUCCESS").touch()
    pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())}).write_csv(tmp_path / "items.csv")
    return folder


def _of_folder(folder: Path):
    raw = READERS["datasets"].read(folder.parent, folder.name, TableOptions(items="items.csv"))
    return raw.interactions.rows()


def test_folders_of_parts(events):
    assert _of_folder(events) == _expected()
    found = look(events.parent)
    assert (found.format, found.domains, found.options.items) == ("datasets", ("events",), "items.csv")
    assert found.read("events").interactions.rows() == _expected()
    by_day = events.parent / "by_day"
    for place, part in enumerate(sorted(events.glob("part-*"))):
        (by_day / f"day=2022-08-0{place}").mkdir(parents=True)
        part.rename(by_day / f"day=2022-08-0{place}" / part.name)
    assert _of_folder(by_day) == _expected()


@pytest.mark.parametrize(
    ("left", "gone", "message"),
    [
        ("_temporary/0", "_SUCCESS", "holds _temporary and no _SUCCESS: the job that writes it has not finished"),
        ("_delta_log", None, "is a table of Delta, whose log says which of its files count"),
        (".hoodie", None, "is a table of Hudi"),
        ("metadata/v1.metadata.json", "_SUCCESS", "is a table of Iceberg"),
    ],
)
def test_folders_of_which_not_all_files_count(events, left, gone, message):
    (events / left).mkdir(parents=True)
    if gone:
        (events / gone).unlink()
    with pytest.raises(DataError, match=message):
        _of_folder(events)


def test_a_part_whose_name_says_no_format_is_not_left_out(events):
    (events / "part-00009").write_text("u,10,1\n")
    with pytest.raises(DataError, match="part-00009: unknown format"):
        _of_folder(events)


def test_what_is_found_of_public_data_sets(movielens, tmp_path):
    for place in (movielens, movielens / "ml-1m", movielens / "ml-1m" / "ratings.dat"):
        found = look(place)
        assert found.format == "movielens"
        assert "ml-1m" in found.domains
        assert len(found.read("ml-1m").interactions) == len(ROWS)
    shop = tmp_path / "yelp"
    shop.mkdir()
    lines = [{"user_id": user, "business_id": item, "date": "2022-08-08 23:06:40"} for user, item, _ in ROWS]
    (shop / "reviews.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = look(shop)
    assert (found.format, found.has_texts) == ("jsonl", False)
    assert found.read("reviews").items["title"].to_list() == ["10", "20"]
    (shop / "business.json").write_text(json.dumps({"business_id": "10", "name": "Ten"}) + "\n")
    assert dict(look(shop).named) == {"user": "user_id", "item": "business_id", "time": "date", "title": "name"}


def test_what_the_caller_says_of_times_and_encoding(tmp_path):
    log = "Käufer;Ware;Tag\nu;10;08.08.2022 23:06\n"
    (tmp_path / "clicks.csv").write_bytes(log.encode("cp1252"))
    (tmp_path / "goods.csv").write_bytes("Ware;Name\n10;Grün\n".encode("cp1252"))
    given = {"user": "Käufer", "item": "Ware", "time": "Tag"}
    found = look(tmp_path, given, TableOptions(time_unit="%d.%m.%Y %H:%M", encoding="cp1252"))
    raw = found.read("clicks")
    assert raw.interactions.rows() == [("u", "10", T * 1000 - 40_000)]
    assert raw.items["title"].to_list() == ["Grün"]
    with pytest.raises(DataError, match="08.08.2022 23:06.*any other form is declared"):
        look(tmp_path, given, TableOptions(encoding="cp1252")).read("clicks")
    pl.DataFrame({"user_id": ["u"], "item_id": ["10"], "timestamp": [T]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="encoding: format 'parquet' does not take it"):
        look(tmp_path / "log.parquet", {}, TableOptions(encoding="cp1252"))


@pytest.mark.parametrize("above", ["# exported\n", "Report;;\nCreated 2022-08-08;;\n"])
def test_what_stands_above_the_names_is_to_be_removed(tmp_path, above):
    rows = f"user_id;item_id;timestamp\nu;10;{T}\n"
    (tmp_path / "r.csv").write_text(above + rows)
    (tmp_path / "i.csv").write_text("item_id,title\n10,Ten\n")
    line = above.count("\n") + 1
    with pytest.raises(DataError, match=rf"r\.csv: its columns are named in line {line}, and not in the first; remove"):
        _read(tmp_path, "r.csv", "i.csv")
