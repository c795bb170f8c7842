"""Phases in order, half-open, and errors that name the two phases and dates."""

from datetime import date

import pytest

from mmgrid.data import PAPER_CALENDAR, Calendar, CalendarError
from mmgrid.data.calendar import format_time, milliseconds

DATES = {
    "pretrain": ["2008-07-01", "2013-07-01"],
    "phase1": ["2013-07-01", "2013-10-01"],
    "phase2": ["2013-10-01", "2014-01-01"],
    "test": ["2014-01-01", "2014-04-01"],
}


def test_dates_are_midnight_utc():
    calendar = Calendar.from_dates(DATES)
    assert calendar.t0 == 1372636800000  # date -u -d 2013-07-01 +%s
    assert (calendar.t0, calendar.t1, calendar.t2) == tuple(phase.end for phase in calendar.phases[:3])
    assert calendar.phase("phase2") is calendar.phase2
    assert Calendar.from_dates(calendar.as_dates()) == calendar


def test_toml_dates_and_times_of_day_are_accepted():
    calendar = Calendar.from_dates(DATES | {"pretrain": [date(2008, 7, 1), "2013-06-30T12:30:00.250"]})
    assert calendar.pretrain.start == milliseconds("2008-07-01")
    assert calendar.as_dates()["pretrain"][1] == "2013-06-30T12:30:00.250"
    assert milliseconds("2013-07-01T02:00:00+02:00") == milliseconds("2013-07-01")


def test_gaps_are_allowed_and_overlaps_are_not():
    Calendar.from_dates(DATES | {"pretrain": ["2008-07-01", "2013-01-01"]})
    with pytest.raises(CalendarError, match=r"pretrain \[2008-07-01, 2013-07-02\).*phase1 \[2013-07-01, 2013-10-01\)"):
        Calendar.from_dates(DATES | {"pretrain": ["2008-07-01", "2013-07-02"]})
    with pytest.raises(CalendarError, match=r"phase1.*phase2"):
        Calendar.from_dates(DATES | {"phase1": DATES["phase2"], "phase2": DATES["phase1"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": ["2014-04-01", "2014-01-01"]}, "'test': its start 2014-04-01 must be before its end 2014-01-01"),
        ({"test": ["2014-01-01", "2014-01-01"]}, "must be before"),
        ({"test": ["2014-01-01"]}, "phases.test: expected"),
        ({"test": "2014-01-01"}, "phases.test: expected"),
        ({"test": ["2014-01-01", "April"]}, "phases.test: 'April'"),
        ({"test": ["2014-01-01", 20140401]}, "phases.test: 20140401"),
        ({"phase3": ["2014-01-01", "2014-04-01"]}, r"phases\.phase3: unknown phase; did you mean phase"),
    ],
)
def test_wrong_phases_are_refused(change, message):
    with pytest.raises(CalendarError, match=message):
        Calendar.from_dates(DATES | change)


def test_missing_phases_are_refused():
    with pytest.raises(CalendarError, match="phase1, phase2 missing"):
        Calendar.from_dates({"pretrain": DATES["pretrain"], "test": DATES["test"]})
    with pytest.raises(CalendarError, match="unknown phase"):
        PAPER_CALENDAR.phase("phase9")


def test_the_phases_of_the_paper():
    assert PAPER_CALENDAR.as_dates()["phase1"] == ["2022-07-01", "2022-10-01"]
    assert format_time(-1) == "1969-12-31T23:59:59.999"
