"""The units of times that are numbers since 1970, UTC: seconds, milliseconds, microseconds or nanoseconds.

Which of them a file has is found from the size of its numbers: a wrong unit would put the years near 1970, or far beyond
5000.
"""

import re
from typing import NoReturn

import polars as pl

from mmgrid.data.errors import DataError
from mmgrid.data.readers.piece import Piece

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
TO_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}  # times the first, by the second

# The years 1973 and 5138: seconds, milliseconds, microseconds and nanoseconds of this span do not overlap.
LEAST_SECONDS, MOST_SECONDS = 10**8, 10**11
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# Read as numbers since 1970, all of these would lie in a few months of 1974, 1976, 1990 or the future.
_DATES_IN_DIGITS = {10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%3f"}
# Units of 100 ns, since the years 1 and 1601.
_TICKS = {"ticks of .NET": (6.2e17, 6.5e17), "file times of Windows": (1.24e17, 1.42e17)}


def unit_of(name: str, numbers: list[tuple[Piece, pl.Series]]) -> str:
    """The unit that most rows of a file have; of two with as many, that of the earlier row.

    name: the column's, for errors. numbers: the file's pieces with their values.

    Raises DataError if the values are of no unit, or of another clock.
    """
    rows = {unit: sum(int(is_of(values, unit).sum()) for _, values in numbers) for unit in PER_SECOND}
    best = max(rows.values())
    if best:
        _refuse_other_clocks(name, numbers)
        units = [unit for unit in rows if rows[unit] == best]
        for _, values in numbers if len(units) > 1 else ():
            firsts = {unit: is_of(values, unit).arg_max() for unit in units if is_of(values, unit).any()}
            if firsts:
                return min(firsts, key=lambda unit: firsts[unit] or 0)
        return units[0]
    piece, values = numbers[0]
    first = values[0]
    hint = ""
    if re.fullmatch(r"(19|20)\d\d[01]\d[0-3]\d", str(int(first))):
        hint = ' (if it is a date: time_unit = "%Y%m%d")'
    elif 20_000 <= first < 80_000:
        hint = " (if it is a day as Excel counts them: let Excel write dates as 2022-07-01 18:30:00)"
    why = "is near 1970" if abs(first) < LEAST_SECONDS else "lies far outside of our time"
    raise DataError(
        f"{piece.place(0)}: {name} is {first}, which {why} in every unit{hint}; expected seconds, "
        "milliseconds or microseconds since 1970"
    )


def is_of(values: pl.Series, unit: str) -> pl.Series:
    """bool: whether each value lies in the years 1973 to 5138 in this unit."""
    per_second = PER_SECOND[unit]
    least, most = LEAST_SECONDS * per_second, min(MOST_SECONDS * per_second, 2**63 - 1)
    return (values >= least) & (values < most)


def _refuse_other_clocks(name: str, numbers: list[tuple[Piece, pl.Series]]) -> None:
    """Raise DataError if all numbers of a file are those of a clock that does not count from 1970.

    As nanoseconds, or as milliseconds for dates in digits, they would all lie in a few months of another year.
    """
    filled = [(piece, values) for piece, values in numbers if values.min() is not None]
    low = min(float(values.min()) for _, values in filled)  # pyright: ignore[reportArgumentType]
    high = max(float(values.max()) for _, values in filled)  # pyright: ignore[reportArgumentType]

    def refuse(what: str) -> NoReturn:
        piece, values = filled[0]
        row = int(values.is_not_null().arg_max() or 0)
        raise DataError(f"{piece.place(row)}: {name} is {values[row]}, which looks like {what}")

    for digits, form in _DATES_IN_DIGITS.items():
        years = low // 10 ** (digits - 4), high // 10 ** (digits - 4)
        if years[0] >= 1970 and years[1] < 2100 and all(_are_dates(values, digits) for _, values in filled):
            refuse(f'a date: declare time_unit = "{form}"')
    for clock, (least, most) in _TICKS.items():
        if least <= low and high < most:
            refuse(f"the {clock}: convert them to milliseconds since 1970")


def _are_dates(numbers: pl.Series, digits: int) -> bool:
    """Whether all numbers are a year, month, day, hour and minute in digits, such as 202208081830."""
    month, day, hour, minute = (numbers // 10 ** max(0, digits - end) % 100 for end in (6, 8, 10, 12))
    right = month.is_between(1, 12) & day.is_between(1, 31) & (hour < 24)
    return bool((right & (minute < 60) if digits >= 12 else right).all())
