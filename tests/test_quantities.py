"""Durations and sizes round to the next unit and never print one that is full (60 s, 1000 MB)."""

import pytest

from mmgrid.quantities import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.01, "< 0.1 s"),
        (0.42, "0.4 s"),
        (3.04, "3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (86399, "1 d 00 h"),
        (200000, "2 d 08 h"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (34_000_000, "34 MB"),
        (34_260_000, "34.3 MB"),
        (560_400, "560 kB"),
        (999_900, "1 MB"),
        (1_500_000_000, "1.5 GB"),
        (2e15, "2000 TB"),
        (None, "–"),
    ],
)
def test_sizes(size_bytes, text):
    assert size(size_bytes) == text
