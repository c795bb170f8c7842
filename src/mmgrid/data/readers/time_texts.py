"""Texts as times: ISO dates and times, and texts of a declared form for strptime. Without a zone they are UTC."""

import re

import polars as pl

from mmgrid.data.calendar import DAY_MS

_ISO = (
    r"^\s*(\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d|60)(?:[.,](\d{1,9}))?)?"
    r"\s*(?:(Z|z|UTC|GMT|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)(?:\[[\w/+-]+\])?)?)?\s*$"  # Java names the zone after it
)
_HOURS = r"%-?[HIkMSTRsXcr+]"


def of_iso(column: pl.Series) -> pl.Series:
    """int64: ms UTC of ISO dates and times; null for other texts."""
    parts = pl.col("text").str.extract_groups(_ISO)
    number = {place: parts.struct.field(str(place)).cast(pl.Int64, strict=False).fill_null(0) for place in (2, 3, 4)}
    day = parts.struct.field("1").str.to_date("%Y-%m-%d", strict=False).dt.epoch("d").cast(pl.Int64)
    fraction = parts.struct.field("5").fill_null("0").str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64)
    zone = parts.struct.field("6").fill_null("Z").str.replace(":", "")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    hours = zone.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    clock = (number[2] * 60 + number[3]) * 60_000 + number[4] * 1000 + fraction
    return pl.DataFrame({"text": column}).select(
        (day * DAY_MS + clock - sign * (hours * 60 + minutes) * 60_000).alias("timestamp")
    )["timestamp"]


def of_form(column: pl.Series, form: str) -> pl.Series:
    """int64: ms UTC of texts of a form for strptime; null for other texts."""
    column, form = column.str.strip_chars(), _of_chrono(form)
    if not re.search(_HOURS, form):
        return column.str.to_date(form, strict=False).dt.epoch("d").cast(pl.Int64) * DAY_MS
    if not re.search(r"%-?[MTRXcrs+]", form):  # the library needs minutes beside hours
        column, form = column + " 00", f"{form} %M"
    zone = "UTC" if re.search(r"%z|%#z|%:z|%\+", form) else None
    return column.str.to_datetime(form, time_unit="ms", time_zone=zone, strict=False).dt.epoch("ms")


def usable_form(form: str) -> str | None:
    """Why texts of a form for strptime cannot be read as times; None if they can."""
    if "%Z" in form:
        return "names of time zones (%Z) are not known; write offsets such as +02:00 (%z)"
    if re.search(r"(?<!\.)%f", form):
        return "write %.f for fractions of a second with their point, or %3f, %6f or %9f for so many digits"
    moment = 1_660_000_000_000
    try:
        text = pl.Series([moment]).cast(pl.Datetime("ms", "UTC")).dt.strftime(_of_chrono(form).replace("%#z", "%z"))
        read = of_form(text, form)[0]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        read = None
    if read is None or abs(read - moment) > (DAY_MS // 24 if re.search(_HOURS, form) else 366 * DAY_MS):
        return 'a form names year, month and day, and hours by %H, or by %I and %p, as in "%d.%m.%Y %H:%M"'
    return None


def _of_chrono(form: str) -> str:
    """A form as Python writes it, in the signs of the library that reads it."""
    return form.replace(".%f", "%.f")
