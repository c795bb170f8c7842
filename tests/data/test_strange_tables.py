"""Tables as other programs leave them, and as strangers make them: each is read as it is meant, or refused with its reason."""

import datetime as dt
import gzip
import io
import json
import os
import struct
import threading

import polars as pl
import pytest
from pydantic import ValidationError

from mmgrid.data import DataError, read_files
from mmgrid.data.readers import TableOptions, lines, nesting
from mmgrid.data.readers.arrow_lengths import claims_too_much
from mmgrid.data.readers.datasets_folder import splits
from mmgrid.data.readers.mending import listed
from mmgrid.data.readers.unpacking import Unpacked

T = 1_660_000_000_000
LOG = f"user_id,item_id,timestamp\nu,B0,{T}\n"
ITEMS = "item_id,title\nB0,Zero\n"


@pytest.fixture
def read(tmp_path):
    """Reads a log and items; by default good ones."""

    def read(log=LOG, items=ITEMS, name="r.csv", of_items="i.csv", **options):
        for file, content in ((name, log), (of_items, items)):
            path = tmp_path / file
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path)
            elif content is not None:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_files(tmp_path / name, tmp_path / of_items, "shop", TableOptions(**options))

    return read


@pytest.mark.parametrize(
    "log",
    [
        LOG.replace(",", ";").join(["sep=;\r\n", ""]),
        f"\ufeffSEP=,\n{LOG}",
        f'"sep=|"\n{LOG.replace(",", "|")}',
        f"\ufeff\ufeff{LOG}",
        LOG.replace("user_id", '"\ufeffuser_id"'),
    ],
)
def test_what_excel_writes_before_the_names(read, log):
    assert read(log).interactions.rows() == [("u", "B0", T)]
    with pytest.raises(DataError, match=rf":{log.count(chr(10)) + 1}: timestamp is 'x'"):
        read(
            log
            + LOG.splitlines()[1].replace(str(T), "x").replace(",", ";" if ";" in log else "|" if "|" in log else ",")
        )


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (f"1,7,{T}\n", "these look like values: the first line has to name the columns"),
        (f"user_id^item_id^timestamp\nu^B0^{T}\n", r"separate the values by commas, .* instead of '\^'"),
        (LOG.replace("user_id,item_id", "User,Item"), r'columns = \{ item = "Item", user = "User" \}'),
        (f"{','.join(f'c{n}' for n in range(999))}\n", "it has c0, .*, c49 and 949 more, and needs"),
        (f"user_id,{'x' * 9999},timestamp\n", "it has user_id, x{100}…, timestamp"),
        (LOG.replace(str(T), "x" * 9999), r":2: timestamp is 'x{99}…; expected"),
        (f"{LOG}u,B0,2022-08-08\n", ":3: timestamp is '2022-08-08', but most of the rows beside it are numbers"),
        (LOG.replace(str(T), "2022-02-20T10:00+99:99"), r"timestamp is '2022-02-20T10:00\+99:99'; expected"),
    ],
)
def test_errors_say_what_helps_and_stay_short(read, log, message):
    with pytest.raises(DataError, match=message) as error:
        read(log)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("202208081830", 'time_unit = "%Y%m%d%H%M"'),
        ("2022080818", 'time_unit = "%Y%m%d%H"'),
        ("20220808183000", 'time_unit = "%Y%m%d%H%M%S"'),
        ("637950000000000000", "looks like the ticks of .NET: convert"),
        ("133000000000000000", "looks like the file times of Windows"),
        ("44774.5", "as Excel counts them"),
        ("0022-08-01", "lies far outside of our time"),
        ("1900-01-01", "lies far outside of our time"),
        ("1970-01-20T05:06:40", "numbers whose unit was mistaken"),
    ],
)
def test_times_of_other_clocks(read, time, message):
    with pytest.raises(DataError, match=rf"r\.csv:2: timestamp is .*{message}"):
        read(LOG.replace(str(T), time))


@pytest.mark.parametrize("form", ["%m/%d/%Y %I:%M", "%Q-%", "%H:%M", "%d/%m", "%Y-%m-%d %H:%M %Z", "%s%f"])
def test_forms_that_name_no_moment_are_refused(form):
    with pytest.raises(ValidationError, match="a form names|names of time zones|write %.f for"):
        TableOptions(time_unit=form)


@pytest.mark.parametrize(
    ("form", "time", "found"),
    [
        ("%Y%m%d%H", "2022080823", T - 400_000),
        ("%d.%m.%Y %H:%M:%S.%f", "08.08.2022 23:06:40.250", T + 250),
        ("%m/%d/%y %I:%M:%S %p", "8/8/22 11:06:40 PM", T),
        ("%Y-%m", "2022-08", 1_659_312_000_000),
    ],
)
def test_forms_of_moments(read, form, time, found):
    assert read(LOG.replace(str(T), time), time_unit=form).interactions["timestamp"].to_list() == [found]


@pytest.mark.parametrize("encoding", ["rot13", "zlib", "base64", "undefined"])
def test_encodings_that_make_no_text_are_unknown(encoding):
    with pytest.raises(ValidationError, match="is unknown"):
        TableOptions(encoding=encoding)


@pytest.mark.parametrize(
    ("there", "here", "why"),
    [
        ("caf\u00e9", "cafe\u0301", r"'cafe\\u0301' here\. Their accents or letters"),
        ("\u200b7", "7", r"'\\u200b7' there .* quotes or invisible characters"),
        ('"=""007"""', "007", "quotes or invisible characters"),
        ("'7'", "7", "quotes or invisible characters"),
        ("x" * 9999, "7", "An item there is 'x{99}…, and here '7'"),
    ],
)
def test_ids_that_look_alike(read, there, here, why):
    with pytest.raises(DataError, match=why):
        read(LOG.replace("B0", there), ITEMS.replace("B0", here))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [dt.timedelta(1)], r"holds Duration.*; expected ids"),
        ("user_id", [dt.date(2022, 3, 1)], "holds Date; expected ids"),
        ("title", [dt.timedelta(1)], r"holds Duration.*; expected texts"),
        ("title", [[dt.timedelta(1)]], r"holds List\(Duration.*; expected texts"),
        ("timestamp", [dt.datetime(1970, 1, 1, 0, 0, 1)], "numbers whose unit was mistaken"),
        ("timestamp", [dt.date(1, 1, 1)], "far outside of our time"),
    ],
)
def test_types_that_are_no_ids_texts_or_times(read, column, values, message):
    table = pl.DataFrame({"user_id": ["u"], "item_id": ["B0"], "timestamp": [T], "title": ["Zero"]})
    table = table.with_columns(pl.Series(column, values))
    with pytest.raises(DataError, match=message):
        read(table, table, "r.parquet", "i.parquet")


def test_lists_of_numbers_that_are_none(read):
    table = pl.DataFrame({"item_id": ["B0"], "title": ["Zero"], "description": [[1.5, float("nan")]]})
    assert read(LOG, table, of_items="i.parquet").items["description"].to_list() == ["1.5"]


def _parquet_of_levels(levels):
    """A parquet file without rows, whose first column is nested so deeply: its schema is a list of elements, each of which
    says how many of the next ones lie in it, in Thrift's compact protocol."""

    def element(name, kind=None, children=None):
        type_of = bytes([0x15, 2 * kind, 0x25, 2]) if kind is not None else b"\x35\x02"
        return type_of + bytes([0x18, len(name)]) + name + (bytes([0x15, 2 * children]) if children else b"") + b"\0"

    columns = [element(name, kind) for name, kind in ((b"x", 2), (b"user_id", 6), (b"item_id", 6), (b"timestamp", 2))]
    elements = [element(b"root", children=4), *[element(b"a", children=1)] * levels, *columns]
    footer = b"\x15\x02\x19\xfc" + bytes([len(elements) & 127 | 128, len(elements) >> 7]) + b"".join(elements)
    footer += b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def _arrow_of_levels(levels):
    """An Arrow stream without rows, whose column is nested so deeply."""
    kind = pl.Int8()
    for _ in range(levels):
        kind = pl.Struct({"a": kind})
    stream = io.BytesIO()
    pl.DataFrame(schema={"x": kind}).write_ipc_stream(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("r.parquet", _parquet_of_levels(9), "contains no interactions"),
        ("r.parquet", _parquet_of_levels(9999), "its columns are nested too deeply"),  # Polars would end the process
        ("r.arrow", _arrow_of_levels(9), "columns? .* missing"),
        ("r.arrow", _arrow_of_levels(40), "its columns are nested too deeply"),
    ],
    ids=["parquet 9", "parquet 9999", "arrow 9", "arrow 40"],
)
def test_columns_that_are_nested_deeply(read, monkeypatch, name, data, message):
    monkeypatch.setattr(nesting, "MOST_LEVELS", 30)
    with pytest.raises(DataError, match=rf"r\.(parquet|arrow): {message}"):
        read(data, name=name)


def test_a_parquet_file_that_would_fill_memory(read):
    rows = 3_000_000
    table = pl.select(user_id=pl.repeat("u", rows), item_id=pl.repeat("B0", rows), timestamp=pl.repeat(T, rows))
    with pytest.raises(DataError, match="has 3,000,000 rows in .* bytes, as if made to fill memory"):
        read(table, name="r.parquet")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            pl.exceptions.PanicException("called `unwrap()`\nhint"),
            r"cannot be read as parquet \(called `unwrap\(\)`\); get",
        ),
        (RecursionError(), "its columns are nested too deeply"),
    ],
)
def test_what_ends_polars_names_the_file(read, monkeypatch, error, message):
    def end(*args, **kwargs):
        raise error

    monkeypatch.setattr(pl, "scan_parquet", end)
    table = pl.DataFrame({"user_id": ["u"], "item_id": ["B0"], "timestamp": [T]})
    with pytest.raises(DataError, match=rf"r\.parquet: {message}"):
        read(table, name="r.parquet")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder; name a file in it"),
        (os.mkfifo, "is a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to(path.name), "is a link that leads to no file"),
        (lambda path: path.symlink_to("nowhere"), "is a link that leads to no file"),
    ],
)
@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_what_stands_in_place_of_a_file(read, tmp_path, make, message, name):
    make(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        read(None, name=name)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_grows_while_it_is_read(tmp_path, pack):
    path = tmp_path / ("r.csv.gz" if pack is gzip.compress else "r.csv")
    path.write_bytes(pack(LOG.encode()))
    with Unpacked(path) as stream, path.open("ab") as writer:
        writer.write(pack(LOG.encode()))
        writer.flush()
        with pytest.raises(DataError, match="grew while it was read"):
            list(iter(lambda: stream.read(1 << 20, 1), b""))


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("{}\n" * 3, "its first lines name no columns"),
        (f'{{"x": "{"x" * 3000}"}}\n', "line is longer than"),
        (f'{{"item_id": "B0", "timestamp": {T}}}\n', "column user_id missing"),
    ],
)
def test_the_first_lines_of_json(read, monkeypatch, log, message):
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 2000)
    with pytest.raises(DataError, match=message):
        read(log, name="r.jsonl")


@pytest.mark.parametrize("first", ["broken", '{"item_id": "B0"}'])
def test_a_first_line_of_json_that_is_broken_may_be_left_out(read, first):
    good = json.dumps({"user_id": "u", "item_id": "B0", "timestamp": T})
    raw = read(f"{first}\n{good}\n", name="r.jsonl", skip_bad_lines=True)
    assert (raw.interactions.rows(), raw.repairs["bad_lines"]) == ([("u", "B0", T)], 1)


def test_long_written_lists_take_no_filter_of_warnings_for_each_part(monkeypatch):
    entered = []
    monkeypatch.setattr("warnings.catch_warnings", lambda: entered.append(1) or threading.Lock())
    assert listed("[" + "'a', " * 5000 + r"'b\'c']") == ["a"] * 5000 + ["b'c"]
    assert len(entered) == 1


def test_rows_are_not_unpacked(read):
    """Polars takes rows that begin like gzip, zlib or zstd for these, and one of them may be made to fill memory."""
    names, row = LOG.splitlines(keepends=True)
    assert read(f"{names}x\x01{row}").interactions.rows() == [("x\x01u", "B0", T)]  # as zlib begins
    with pytest.raises(DataError, match=r"r\.csv:2: "):
        read(names.encode() + gzip.compress(row.encode(), mtime=0))


def test_halves_of_characters_in_ids_make_no_two_users_one(read):
    log = "".join(
        f'{{"user_id": "{user}", "item_id": "B0", "timestamp": {T}}}\n' for user in (r"\ud83d\ude00", r"\ud800")
    )
    with pytest.raises(DataError, match=r'r\.jsonl:2: user_id is "\\ud800"; expected an id'):
        read(log, name="r.jsonl")
    assert read(log, name="r.jsonl", skip_bad_lines=True).interactions["user_id"].to_list() == ["😀"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset_dict.json", '{"splits": 5}'),
        ("dataset_dict.json", '{"splits": [["train"]]}'),
        ("dataset_dict.json", "[" * 100_000),
        ("state.json", '{"_data_files": ["a.arrow"]}'),
        ("state.json", '{"_data_files": {"filename": "a.arrow"}}'),
    ],
)
def test_a_dataset_whose_files_have_another_form(tmp_path, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=rf"{file}: is broken \(.*\); save the dataset again"):
        splits(tmp_path)


@pytest.mark.parametrize("write", ["write_ipc", "write_ipc_stream"])
@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_is_as_long_as_it_says(tmp_path, write, compression):
    """Polars takes the memory that a file claims, and ends the process where there is none."""
    file = tmp_path / "t.arrow"
    table = pl.DataFrame(
        {"user_id": ["u", None] * 500, "flag": [True] * 1000, "none": [None] * 1000, "l": [["a"]] * 1000}
    )
    getattr(table, write)(file, compression=compression)
    whole = file.read_bytes()
    assert not claims_too_much(file)
    for end in range(8, len(whole) - 8, 97):
        file.write_bytes(whole[:end])
        assert claims_too_much(file), end


def test_a_carriage_return_within_a_value_ends_no_row(read):
    names, row = "user_id,item_id,timestamp,note\n", f"u,B0,{T},"
    for text in ("a\rb", '"a\rb"', '5" pipe\rb', "\rb"):
        log = f"{names}{row}{text}\nv,B0,{T},{text}\n"
        assert read(log).interactions["user_id"].to_list() == ["u", "v"]
        with pytest.raises(DataError, match=r"r\.csv:3: timestamp"):
            read(log.replace(f"v,B0,{T}", "v,B0,x"))
    raw = read(f"{names}{row}a\rb\n,B0,{T},c\n", skip_bad_lines=True)
    assert (raw.interactions["user_id"].to_list(), raw.repairs["bad_lines"]) == (["u"], 1)


def test_a_list_of_objects_is_no_json_lines_in_any_mode(read):
    row = json.dumps({"user_id": "u", "item_id": "B0", "timestamp": T})
    for skip in (False, True):
        with pytest.raises(DataError, match="is a list of objects in JSON"):
            read(f"[\n{row},\n{row}\n]\n", name="r.jsonl", skip_bad_lines=skip)


def test_a_list_longer_than_the_footer_of_parquet_is_refused_soon(tmp_path):
    footer = b"\x19\xf3" + b"\x80" * 7 + b"\x04"  # a list of 2**51 bytes, skipped one by one
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")
    assert not nesting.is_too_deep(file, "parquet")
