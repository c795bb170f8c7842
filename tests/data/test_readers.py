"""Every format is read into the same tables, and every kind of broken file gives one clear error."""

import gzip
import json
from datetime import UTC, datetime

import polars as pl
import pytest

from mmgrid.data import READERS, Corpus, DataError, filter_interactions, read_files
from mmgrid.data.readers import lines, unpacking

TIME = 1_660_000_000_000
ROWS = [("u1", "B1", TIME), ("u1", "B2", TIME + 5), ("u2", "B1", TIME + 1)]
META = [
    {
        "parent_asin": "B1",
        "title": 'One, the "first"',
        "description": ["Two lines", "of text"],
        "images": [{"a": 1}],
    },
    {"parent_asin": "B2", "title": " Two ", "description": []},
    {"parent_asin": "B9", "title": "Never taken"},
]
HEADER = "user_id,parent_asin,rating,timestamp"


def csv_text(rows=ROWS) -> str:
    return "\n".join([HEADER, *(f"{u},{i},5.0,{t}" for u, i, t in rows)]) + "\n"


def json_text(objects) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def write(path, text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def folder(tmp_path):
    """A category in the layout of Amazon Reviews 2023."""
    write(tmp_path / "Toys.csv.gz", csv_text())
    write(tmp_path / "meta_Toys.jsonl.gz", json_text(META))
    return tmp_path


def assert_read(raw):
    assert raw.interactions.rows() == ROWS
    assert raw.interactions.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    assert raw.items.rows() == [("B1", 'One, the "first"', "Two lines\nof text"), ("B2", "Two", "")]


def test_amazon2023_ratings_and_items(folder):
    reader = READERS["amazon2023"]
    assert [path.name for path in reader.sources(folder, "Toys")] == ["Toys.csv.gz", "meta_Toys.jsonl.gz"]
    raw = reader.read(folder, "Toys")
    assert_read(raw)
    assert raw.name == "Toys"
    assert not raw.unfiltered


def test_amazon2023_accepts_uncompressed_files_and_reviews(folder):
    for path in folder.iterdir():
        write(path.with_suffix(""), gzip.decompress(path.read_bytes()))
        path.unlink()
    assert_read(READERS["amazon2023"].read(folder, "Toys"))
    (folder / "Toys.csv").unlink()
    reviews = [{"user_id": u, "parent_asin": i, "timestamp": t, "text": "Good.\nVery"} for u, i, t in ROWS]
    write(folder / "Toys.jsonl.gz", json_text(reviews))
    raw = READERS["amazon2023"].read(folder, "Toys")
    assert_read(raw)
    assert raw.unfiltered


def test_amazon2023_in_the_folders_of_the_hub(folder):
    """Ratings and shards of items with nested columns, as the repository on the Hub has them; reviews as shards, too."""
    ratings = folder / "benchmark/5core/rating_only/Toys.csv"
    ratings.parent.mkdir(parents=True)
    ratings.write_bytes(gzip.decompress((folder / "Toys.csv.gz").read_bytes()))
    items = pl.DataFrame(META, schema={"parent_asin": pl.String, "title": pl.String, "description": pl.List(pl.String)})
    items = items.with_columns(images=pl.struct(hi_res=pl.lit([None, "a"])), features=pl.lit([], pl.List(pl.String)))
    reviews = pl.DataFrame(ROWS, schema=["user_id", "parent_asin", "timestamp"], orient="row")
    for kind, table in (("meta", items), ("review", reviews)):
        (folder / f"raw_{kind}_Toys").mkdir()
        for place, part in enumerate((table[:1], table[1:])):
            part.write_parquet(folder / f"raw_{kind}_Toys/full-0000{place}-of-00002.parquet")
    for name in ("Toys.csv.gz", "meta_Toys.jsonl.gz"):
        (folder / name).unlink()
    assert len(READERS["amazon2023"].sources(folder, "Toys")) == 3
    raw = READERS["amazon2023"].read(folder, "Toys")
    assert_read(raw)
    assert not raw.unfiltered
    ratings.unlink()
    raw = READERS["amazon2023"].read(folder, "Toys")
    assert_read(raw)
    assert raw.unfiltered


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_fields_of_nested_columns_and_titles_that_are_lists(tmp_path, kind):
    from mmgrid.data.readers import Columns, TableOptions

    write(tmp_path / "r.csv", "user_id,item_id,timestamp\nu,B1,1660000000\n")
    about = [{"names": {"long": ["One", None, "more"]}, "text": "x"}]
    table = pl.DataFrame({"item_id": ["B1"], "about": about})
    path = tmp_path / f"i.{kind}"
    table.write_parquet(path) if kind == "parquet" else table.write_ipc_stream(path)
    columns = Columns(title="about.names.long", description=("about.text",))
    raw = read_files(tmp_path / "r.csv", path, "made", TableOptions(columns=columns))
    assert raw.items.rows() == [("B1", "One more", "x")]
    with pytest.raises(DataError, match=r"has no column about\.name \(title\); it has item_id, about, about\.names"):
        read_files(tmp_path / "r.csv", path, "made", TableOptions(columns=Columns(title="about.name")))


def test_files_of_every_format_give_the_same_tables(tmp_path):
    items = pl.DataFrame(
        {"item_id": ["B1", "B2"], "title": ['One, the "first"', "Two"], "description": ["Two lines\nof text", ""]}
    )
    table = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    files = []
    for frame, name in ((table, "r"), (items, "i")):
        frame.write_parquet(tmp_path / f"{name}.parquet")
        write(tmp_path / f"{name}.csv", frame.write_csv())
        write(tmp_path / f"{name}.csv.gz", b"\xef\xbb\xbf" + frame.write_csv(line_terminator="\r\n").encode())
        write(tmp_path / f"{name}.jsonl", "\n" + frame.write_ndjson())
        files.append([tmp_path / f"{name}{suffix}" for suffix in (".parquet", ".csv", ".csv.gz", ".jsonl")])
    for ratings in files[0]:
        for item_file in files[1]:
            if item_file.name == "i.csv.gz":
                continue  # its text has other line ends
            raw = read_files(ratings, item_file, "made")
            assert_read(raw)
            assert not raw.unfiltered
    moments = table.with_columns(pl.from_epoch("timestamp", "ms").dt.replace_time_zone("UTC"))
    assert moments["timestamp"][0] == datetime.fromtimestamp(TIME / 1000, UTC)
    moments.write_parquet(tmp_path / "dates.parquet")
    assert_read(read_files(tmp_path / "dates.parquet", tmp_path / "i.parquet", "made"))


def test_the_name_of_a_file_is_no_pattern(tmp_path):
    """Beside each file is one that its name would fit, were it a pattern."""
    ratings = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": ["B1", "B2"], "title": ["One", "Two"], "description": ["", ""]})
    folder, decoy = tmp_path / "a[1]*?", tmp_path / "a1xx"
    for place, title in ((folder, "Two"), (decoy, "Wrong")):
        place.mkdir()
        ratings.write_parquet(place / "r.parquet")
        items.with_columns(title=pl.lit(title)).write_parquet(place / "i.parquet")
    found = read_files(folder / "r.parquet", folder / "i.parquet", "made")
    assert set(found.items["title"]) == {"Two"}
    Corpus.from_tables("made", found.interactions, found.items).save(folder)
    assert Corpus.load(folder).name == "made"
    assert set(Corpus.load(folder).catalogue.titles) == {"Two"}


def test_the_block_size_changes_nothing(folder, monkeypatch):
    whole = READERS["amazon2023"].read(folder, "Toys")
    monkeypatch.setattr(lines, "BLOCK_BYTES", 7)
    pieces = READERS["amazon2023"].read(folder, "Toys")
    assert pieces.interactions.equals(whole.interactions)
    assert pieces.items.equals(whole.items)
    write(folder / "Toys.csv.gz", csv_text() + "u3,B1,5.0,soon\n")
    with pytest.raises(DataError, match=r"Toys\.csv\.gz:5: timestamp is 'soon'"):
        READERS["amazon2023"].read(folder, "Toys")


def test_items_with_unusual_values_are_read_line_by_line(folder):
    odd = [
        {"parent_asin": "B1", "title": None, "description": "a string"},
        {"parent_asin": "B2", "description": [1, None]},
    ]
    write(folder / "meta_Toys.jsonl.gz", json_text(odd))
    assert READERS["amazon2023"].read(folder, "Toys").items.rows() == [("B1", "", "a string"), ("B2", "", "1")]


def test_the_sample_of_amazon_reviews_2023(amazon23_sample):
    counts = {}
    for category in ("Video_Games", "Movies_and_TV", "Health_and_Household"):
        raw = READERS["amazon2023"].read(amazon23_sample, category)
        assert raw.unfiltered
        preparation = filter_interactions(raw, min_interactions=1)
        counts[category] = (len(raw.interactions), preparation.corpus.n_users, len(preparation.corpus.catalogue))
        with pytest.raises(DataError, match=r"outside the 5-core of the reviews: 150"):
            filter_interactions(raw)
    assert counts == {  # counted independently, by joining the files
        "Video_Games": (150, 30, 146),
        "Movies_and_TV": (150, 22, 76),
        "Health_and_Household": (150, 30, 150),
    }


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Toys.csv.gz", csv_text([*ROWS, ("u3", "B1", "12x")]), r"Toys\.csv\.gz:5: timestamp is '12x'"),
        ("Toys.csv.gz", csv_text() + "\nu3,B1,5.0\n", r"Toys\.csv\.gz:6: 3 values for 4 columns"),
        ("Toys.csv.gz", csv_text() + "u3,B1,5.0,1,2\n", r"Toys\.csv\.gz:5: 5 values for 4 columns"),
        ("Toys.csv.gz", csv_text([*ROWS, ("u3", "", TIME)]), r"Toys\.csv\.gz:5: parent_asin is missing"),
        ("Toys.csv.gz", csv_text().encode() + b"u3,\xff,5.0,1\n", r"Toys\.csv\.gz:5: .*utf-8"),
        (
            "Toys.csv.gz",
            csv_text().replace("timestamp", "time"),
            r"columns? timestamp missing; it has user_id, parent_asin",
        ),
        ("Toys.csv.gz", csv_text([]), r"Toys\.csv\.gz: contains no interactions"),
        ("Toys.csv.gz", "", r"Toys\.csv\.gz: the file is empty"),
        (
            "Toys.csv.gz",
            csv_text([(u, i, t // 1000) for u, i, t in ROWS]),
            r"Toys\.csv\.gz: .*1660000000.*look like seconds",
        ),
        ("Toys.csv.gz", csv_text([(u, i, t * 1000) for u, i, t in ROWS]), "look like microseconds or nanoseconds"),
        (
            "Toys.csv.gz",
            csv_text([("u", "C7", TIME)]),
            r"meta_Toys\.jsonl\.gz: contains none of the items in .*Toys\.csv\.gz",
        ),
        (
            "meta_Toys.jsonl.gz",
            json_text(META) + '{"parent_asin": "B3", "ti\n',
            r"meta_Toys\.jsonl\.gz:4: broken JSON",
        ),
        ("meta_Toys.jsonl.gz", json_text(META) + "\n[1]\n", r"meta_Toys\.jsonl\.gz:5: broken JSON \(a list"),
        (
            "meta_Toys.jsonl.gz",
            json_text([*META, {"title": "x"}]),
            r"meta_Toys\.jsonl\.gz:4: parent_asin is missing",
        ),
        (
            "meta_Toys.jsonl.gz",
            json_text([{"asin": "B1"}]),
            r"meta_Toys\.jsonl\.gz: column item_id missing; it has asin",
        ),
        ("meta_Toys.jsonl.gz", "", r"meta_Toys\.jsonl\.gz: the file is empty"),
    ],
)
def test_broken_files_of_amazon2023(folder, file, content, message):
    write(folder / file, content)
    with pytest.raises(DataError, match=message):
        READERS["amazon2023"].read(folder, "Toys")


@pytest.mark.parametrize("piece", [1 << 21, 512])
@pytest.mark.parametrize("file", ["Toys.csv.gz", "meta_Toys.jsonl.gz"])
def test_a_gzip_that_is_cut_off_is_never_a_shorter_table(folder, file, piece, monkeypatch):
    monkeypatch.setattr(unpacking, "_PIECE_BYTES", piece)
    whole = (folder / file).read_bytes()
    for length in range(1, len(whole)):
        (folder / file).write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"{file}: (the gzip file is cut off at or after line|not a gzip file)"):
            READERS["amazon2023"].read(folder, "Toys")
    (folder / file).write_bytes(gzip.decompress(whole))
    with pytest.raises(DataError, match=r"name it without \.gz"):
        READERS["amazon2023"].read(folder, "Toys")


@pytest.mark.parametrize("value", ["now", 1.5, [1], None])
def test_reviews_with_a_broken_timestamp(folder, value):
    (folder / "Toys.csv.gz").unlink()
    reviews = [{"user_id": u, "parent_asin": i, "timestamp": t} for u, i, t in ROWS]
    write(folder / "Toys.jsonl", json_text([*reviews, {"user_id": "u", "parent_asin": "B1", "timestamp": value}]))
    with pytest.raises(DataError, match=r"Toys\.jsonl:4: timestamp is "):
        READERS["amazon2023"].read(folder, "Toys")


def test_missing_files_are_errors_that_list_the_folder(folder, tmp_path):
    with pytest.raises(DataError, match=r"Books\.csv\.gz: no such file .* holds Toys\.csv\.gz, meta_Toys"):
        READERS["amazon2023"].read(folder, "Books")
    with pytest.raises(DataError, match=r"no such folder for domain 'Books'.*holds Toys"):
        READERS["parquet"].read(folder, "Books")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"interactions\.parquet: no such file; .* holds nothing"):
        READERS["parquet"].sources(tmp_path, "empty")
    with pytest.raises(DataError, match="is not there either"):
        READERS["amazon2023"].read(folder / "nowhere", "Toys")
    with pytest.raises(DataError, match=r"ratings\.rtf: unknown format.*\.csv\.gz"):
        read_files(folder / "ratings.rtf", folder / "meta_Toys.jsonl.gz", "x")


def test_broken_parquet_tables(tmp_path):
    pl.DataFrame({"item_id": ["B1"], "title": ["One"]}).write_parquet(tmp_path / "items.parquet")
    table = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")

    def read(frame=None):
        if frame is not None:
            frame.write_parquet(tmp_path / "interactions.parquet")
        return READERS["parquet"].read(tmp_path.parent, tmp_path.name)

    assert read(table).items.rows() == [("B1", "One", "")]
    with pytest.raises(DataError, match="column timestamp missing; it has user_id, item_id"):
        read(table.drop("timestamp"))
    assert read(table.cast({"timestamp": pl.String})).interactions["timestamp"].to_list() == [row[2] for row in ROWS]
    with pytest.raises(DataError, match=r"interactions\.parquet: row 1: timestamp is '1660000000000x'; expected"):
        read(table.select("user_id", "item_id", pl.col("timestamp").cast(pl.String) + "x"))
    with pytest.raises(DataError, match="column timestamp holds List"):
        read(table.select("user_id", "item_id", pl.concat_list("timestamp")))
    with pytest.raises(DataError, match=r"interactions\.parquet: row 4: user_id is missing"):
        read(pl.concat([table, table[:1].with_columns(pl.lit(None, pl.String).alias("user_id"))]))
    whole = (tmp_path / "interactions.parquet").read_bytes()
    (tmp_path / "interactions.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"interactions\.parquet: cannot be read as parquet"):
        read()


def test_a_broken_row_of_an_item_csv(tmp_path):
    ratings = write(tmp_path / "r.csv", csv_text())
    items = write(tmp_path / "i.csv", 'parent_asin,title\nB1,"One\nmore"\nB2,Two,Three\n')
    with pytest.raises(DataError, match=r"i\.csv:4: 3 values for 2 columns"):
        read_files(ratings, items, "x")
