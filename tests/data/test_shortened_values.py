"""Values that tools have shortened or written with odd zones, and files that hold nothing: told, or read as they are meant."""

import base64
import gzip
import re

import polars as pl
import pytest

from mmgrid.data import READERS, DataError, read_files
from mmgrid.data.readers import TableOptions

T = 1_660_000_000_000
LOG = f"user_id,item_id,timestamp\nu,B0,{T}\n"
ITEMS = "item_id,title\nB0,Zero\n"


@pytest.fixture
def read(tmp_path):
    """Reads a log and items in CSV, or a log of bytes in the format of its name."""

    def read(log=LOG, items=ITEMS, name="r.csv", **options):
        (tmp_path / name).write_bytes(log.encode() if isinstance(log, str) else log)
        (tmp_path / "i.csv").write_text(items)
        return read_files(tmp_path / name, tmp_path / "i.csv", "shop", TableOptions(**options))

    return read


@pytest.mark.parametrize("name", ["r.arrow", "r.parquet"])
@pytest.mark.parametrize("zone", ["-03:30", "+05:30"])
def test_times_with_the_offset_of_half_an_hour(read, tmp_path, name, zone):
    """pandas makes them of texts such as 2022-08-09T04:36:40+05:30. Polars writes no such zone, so its bytes are changed."""
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["B0"], "timestamp": pl.Series([T]).cast(pl.Datetime("ms"))})
    log = log.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone("Israel"))
    if name == "r.arrow":
        log.write_ipc_stream(tmp_path / name)
        data = (tmp_path / name).read_bytes().replace(b"Israel", zone.encode())
    else:
        log.write_parquet(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        schema = re.search(rb"[A-Za-z0-9+/]{200,}=*", data)[0]
        data = data.replace(schema, base64.b64encode(base64.b64decode(schema).replace(b"Israel", zone.encode())))
    assert read(data, name=name).interactions.rows() == [("u", "B0", T)]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize("written", ["1.23457E+11", "1e+12", "1.2345678901234567e+16", '"1,23457E+11"', "-1.5E+100"])
def test_ids_whose_digits_were_dropped(read, written, column, packed):
    """Excel shows numbers of twelve digits and more in that form, and writes what it shows."""
    log = LOG + LOG.splitlines()[1].replace(
        "u," if column == "user_id" else "B0", written + "," * (column == "user_id")
    )
    data = gzip.compress(log.encode()) if packed else log
    with pytest.raises(DataError, match=rf":3: {column} is -?1.*, as Excel .* write ids as texts"):
        read(data, name=f"r.csv{packed}")
    kept = read(data, name=f"r.csv{packed}", skip_bad_lines=True)
    assert (len(kept.interactions), kept.repairs["bad_lines"]) == (1, 1)


@pytest.mark.parametrize("item", ["1.5E+1", "E+11", "12E+11", "1.5E11", "B1E+11"])
def test_ids_that_only_look_like_it(read, item):
    assert read(LOG.replace("B0", item), ITEMS.replace("B0", item)).interactions["item_id"].to_list() == [item]


def test_times_whose_digits_were_dropped(read):
    rows = "u,B0,1.66E+12\nu,B0,1.65432E+12\n"
    with pytest.raises(DataError, match=r":3: timestamp is '1.66E\+12', a time of which .* dropped the last digits"):
        read(LOG + rows)
    exact = "user_id,item_id,timestamp\nu,B0,1.660000000123e+12\nv,B0,1.66e+12\n"  # as numpy and pandas write them
    assert read(exact).interactions["timestamp"].to_list() == [T + 123, T]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_among_others(tmp_path, content):
    (tmp_path / "a.csv").write_text(LOG)
    (tmp_path / "b.csv").write_text(content)
    options = TableOptions(interactions="*.csv")
    with pytest.raises(DataError, match=r"b\.csv: the file is empty; get it again"):
        READERS["csv"].read(tmp_path, "shop", options)


def test_a_log_of_which_every_line_is_left_out(read):
    log = LOG.replace("B0", "1.2E+11") + "u,B0,soon\n"
    with pytest.raises(
        DataError, match=r"no interactions that can be read; 2 lines were left out: .*:[23]: (item|time)"
    ):
        read(log, skip_bad_lines=True)
