"""Readers under hypothesis: damaged files, and rows of any values. MMGRID_FUZZ_EXAMPLES tries more of them."""

import json
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.readers import ITEMS, LOG, SUFFIXES, attempt, folder, written

FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())  # files on which a reader failed once
EXAMPLES = int(os.environ.get("MMGRID_FUZZ_EXAMPLES", "25"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 1000, suppress_health_check=[HealthCheck.too_slow]
)
PIECES = [
    b'"',
    b",",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[",
    b"{",
    b"NaN",
    b"1e999",
    b"-",
    b"\\ud800",
]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.one_of(st.sampled_from(PIECES), st.binary(max_size=4))), max_size=6
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(
            ["B0", "B1", "100.0", "nan", "['x']", "<p>", "&#99;", 1_660_000_000, 1_660_000_000_000, "2022-01-01"]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from([*LOG.columns, *ITEMS.columns]), VALUES, min_size=1), min_size=1, max_size=4
)


def damaged(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, removed, added in edits:
        place = int(where * len(data))
        data = data[:place] + added + data[place + removed :]
    return data


@pytest.mark.parametrize("suffix", SUFFIXES)
@FUZZ
@given(edits=EDITS, is_log=st.booleans(), skip=st.booleans(), end=st.floats(0.2, 2))
def test_damaged_files_are_read_or_refused(suffix, edits, is_log, skip, end):
    good = written(LOG if is_log else ITEMS, suffix)
    data = damaged(good[: int(end * len(good))] if end < 1 else good, edits)
    with folder() as place:
        found = attempt(place, data, suffix, is_log=is_log, skip=skip)
    if data == good:
        assert found is not None
        assert found.interactions.rows() == LOG.rows()
        assert found.items["title"].to_list() == ['A "quoted", title', ""]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@FUZZ
@given(rows=ROWS, is_log=st.booleans(), skip=st.booleans())
def test_rows_of_any_values_are_read_or_refused(suffix, rows, is_log, skip):
    good = LOG if is_log else ITEMS
    if suffix == ".jsonl":
        data = written(good, suffix) + "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        texts = [{name: json.dumps(row.get(name)) for name in good.columns} for row in rows]
        data = written(pl.concat([good.cast(pl.String), pl.DataFrame(texts)]), suffix)
    with folder() as place:
        attempt(place, data, suffix, is_log=is_log, skip=skip)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("is_log", [True, False])
@pytest.mark.parametrize("file", FINDINGS, ids=lambda file: file.name)
def test_what_was_found_stays_mended(file, is_log, skip):
    with folder() as place:
        attempt(place, file.read_bytes(), file.suffix, is_log=is_log, skip=skip)
