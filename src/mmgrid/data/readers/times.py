"""Times, from the forms that files give them, as whole milliseconds since 1970, UTC.

Numbers are of one unit in each file (`time_units`); texts are ISO dates and times, or of a declared form (`time_texts`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import polars as pl

from mmgrid.data.calendar import DAY_MS, format_time
from mmgrid.data.errors import DataError, short
from mmgrid.data.readers.piece import BadRows, Piece
from mmgrid.data.readers.repairs import Repairs
from mmgrid.data.readers.time_texts import of_form, of_iso
from mmgrid.data.readers.time_units import LEAST_SECONDS, MOST_SECONDS, PER_SECOND, TO_MS, UNITS, is_of, unit_of

# Dates before it are first days of other clocks (those of Excel and .NET), or have a year of two digits.
_FIRST_DATE_MS = -2_208_902_400_000  # 1900-01-02
# Numbers of seconds to microseconds that were taken for those of a smaller unit become dates before it.
_MISTAKEN_UNTIL_MS = 31 * DAY_MS

_EXPECTED = (
    "seconds, milliseconds or microseconds since 1970, or a date such as 2022-07-01T18:30:00Z; any other form is declared, "
    'as in time_unit = "%d.%m.%Y %H:%M"'
)
_WITH_EXPONENT = r"^\s*\d(?:\.(\d+))?[eE]\+\d+\s*$"
_DECIMAL_COMMA = r"^\s*(-?\d{9,}),(\d+)\s*$"  # too many digits before it for a group of thousands
_MOST_DROPPED = 6  # decimals, to which Excel and %g round: months of milliseconds, hours of seconds
_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d+)?\s*")


@dataclass
class Times:
    """Collects the times of a table, piece by piece; each file has one unit.

    unit: "s", "ms", "us" or "ns"; a form for strptime, which holds a "%"; or None, then it is found.
    latest_ms: times after it (ms UTC) are wrong; None: none is.
    """

    name: str
    unit: str | None = None
    latest_ms: int | None = None
    _pieces: list[tuple[Piece, pl.Series, bool]] = field(default_factory=list)  # piece, values, whether they are ms

    def add(self, piece: Piece) -> None:
        """Read the times of a piece. Raises DataError, naming the row, for a value that is no time."""
        column = piece.frame[self.name]
        if column.dtype == pl.String and self.unit is not None and "%" in self.unit:
            self._add_moments(piece, column, of_form(column, self.unit), f"a time like {self.unit}")
        elif column.dtype in (pl.Date, pl.Datetime):
            self._add_moments(piece, column, column.dt.epoch("ms"), "a time")
        elif column.dtype.is_integer():
            self._add_numbers(piece, column, column.cast(pl.Int64, strict=False))
        elif column.dtype.is_float() or isinstance(column.dtype, pl.Decimal):
            self._add_numbers(piece, column, _finite(column.cast(pl.Float64)))
        elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
            self._add_texts(piece, column.cast(pl.String))
        elif column.dtype == pl.Null:
            self._add_numbers(piece, column, column.cast(pl.Int64))
        else:
            piece.refuse_column(self.name, f"holds {column.dtype}; expected times: numbers, dates or texts")

    def extend(self, later: "Times") -> None:
        """Add the times of other files."""
        self._pieces += later._pieces

    def milliseconds(self, repairs: Repairs | None = None) -> pl.Series:
        """int64: all times, ms UTC; null for those that are left out.

        Raises DataError if a file mixes units, or the declared one is wrong, for times after the latest that can be, and
        for those outside the years of its unit, if they are not to be left out.
        """
        repairs = repairs or Repairs()
        self._check_declared()
        read = []
        for _, pieces in groupby(self._pieces, lambda entry: entry[0].path):
            own = list(pieces)
            numbers = [(piece, values) for piece, values, are_ms in own if not are_ms]
            unit = (self.unit or unit_of(self.name, numbers)) if numbers else ""
            for piece, values, are_ms in own:
                moments = values
                if not are_ms:
                    usable = self._within(piece, values, unit, repairs)
                    times, by = TO_MS[unit]
                    values = values.set(~usable, None)
                    moments = values * times // by if values.dtype == pl.Int64 else (values * times / by).round(0)
                moments = moments.cast(pl.Int64)
                self._check_come(piece, moments)
                read.append(moments)
        return pl.concat(read).alias("timestamp") if read else pl.Series("timestamp", [], pl.Int64)

    def _add_texts(self, piece: Piece, column: pl.Series) -> None:
        if piece.exponents:
            self._refuse_rounded(piece, column)
        numbers = column.str.strip_chars().cast(pl.Int64, strict=False)
        if numbers.null_count() > column.null_count():
            pointed = column.str.replace(_DECIMAL_COMMA, "$1.$2").str.strip_chars()
            numbers = _finite(pointed.cast(pl.Float64, strict=False))
        moments = of_iso(column) if numbers.null_count() > column.null_count() else numbers
        dates = moments.null_count() < numbers.null_count()
        piece.refuse(
            numbers.is_not_null() & moments.is_null() if dates else moments.is_not_null() & numbers.is_null(),
            lambda row: (
                f"{self.name} is {_shown(column[row])}, but most of the rows beside it are {'dates' if dates else 'numbers'}; "
                "write all times in one form"
            ),
        )
        if dates:
            self._add_moments(piece, column, moments, _EXPECTED)
        else:
            self._add_numbers(piece, column, numbers)

    def _refuse_rounded(self, piece: Piece, column: pl.Series) -> None:
        """Raise BadRows if all numbers that have an exponent have so few digits that a tool has dropped the others."""
        exponents = column.str.contains(_WITH_EXPONENT).fill_null(False)
        if not exponents.any():
            return
        decimals = column.filter(exponents).str.extract(_WITH_EXPONENT, 1).str.len_bytes()
        if (decimals.max() or 0) <= _MOST_DROPPED:  # type: ignore[operator]
            piece.refuse(
                exponents,
                lambda row: (
                    f"{self.name} is {_shown(column[row])}, a time of which a tool such as Excel has dropped the last digits; "
                    "write all of them"
                ),
            )

    def _add_moments(self, piece: Piece, column: pl.Series, moments: pl.Series, expected: str) -> None:
        self._refuse_missing(piece, column, moments, expected)
        moments = moments.cast(pl.Int64)
        piece.refuse(
            moments < _FIRST_DATE_MS,
            lambda row: (
                f"{self.name} is {_shown(column[row])}, which lies far outside of our time; correct it, or remove the row"
            ),
        )
        piece.refuse(
            (moments >= 0) & (moments < _MISTAKEN_UNTIL_MS),
            lambda row: (
                f"{self.name} is {_shown(column[row])}: dates in January 1970 are numbers whose unit was mistaken (pandas: "
                'pd.to_datetime(..., unit="s")), or missing ones; correct it, or remove the row'
            ),
        )
        self._append(piece, column, moments, are_ms=True)

    def _add_numbers(self, piece: Piece, column: pl.Series, numbers: pl.Series) -> None:
        expected = f"a number of {UNITS[self.unit]}" if self.unit in UNITS else _EXPECTED
        self._refuse_missing(piece, column, numbers, expected)
        if self.unit is not None and "%" in self.unit:
            texts = numbers.cast(pl.Int64).cast(pl.String)
            self._add_moments(piece, column, of_form(texts, self.unit), f"a time like {self.unit}")
            return
        self._append(piece, column, numbers, are_ms=False)

    def _append(self, piece: Piece, column: pl.Series, values: pl.Series, *, are_ms: bool) -> None:
        before = [other for earlier, _, other in self._pieces if earlier.path == piece.path]
        if len(values) and before and before[-1] != are_ms:
            raise DataError(
                f"{piece.place(0)}: {self.name} is {_shown(column[0])}: the rows before are "
                f"{'numbers' if are_ms else 'dates'}; write all times in one form"
            )
        if len(values):
            self._pieces.append((piece.emptied(), values, are_ms))

    def _refuse_missing(self, piece: Piece, column: pl.Series, read: pl.Series, expected: str) -> None:
        missing = column.is_null() if column.dtype != pl.String else column.fill_null("").str.len_bytes() == 0
        piece.refuse(missing, lambda row: f"{self.name} is missing; fill it in, or remove the row")
        piece.refuse(read.is_null(), lambda row: f"{self.name} is {_shown(column[row])}; expected {expected}")

    def _check_declared(self) -> None:
        """Raise DataError if all values are of another unit than the declared one."""
        numbers = [(piece, values) for piece, values, are_ms in self._pieces if not are_ms]
        if self.unit is None or not numbers:
            return
        low = min(values.min() for _, values in numbers)  # pyright: ignore[reportArgumentType]
        high = max(values.max() for _, values in numbers)  # pyright: ignore[reportArgumentType]
        units, place = list(UNITS), list(UNITS).index(self.unit)
        if high < LEAST_SECONDS * PER_SECOND[self.unit]:
            others = units[:place]
        elif low >= MOST_SECONDS * PER_SECOND[self.unit]:
            others = units[place + 1 :]
        else:
            return
        looks = " or ".join(UNITS[unit] for unit in others) or "no time since 1970"
        raise DataError(
            f"{numbers[0][0].path}: its {self.name}s (from {low} to {high}) look like {looks}; expected "
            f"{UNITS[self.unit]} since 1970 UTC: declare the right `time_unit`, or convert them"
        )

    def _within(self, piece: Piece, values: pl.Series, unit: str, repairs: Repairs) -> pl.Series:
        """bool: which values are of this unit. Raises DataError for those of another one, and for values of no unit, if they are
        not to be left out."""
        wrong = ~is_of(values, unit)
        if not wrong.any():
            return ~wrong
        other = {name: is_of(values, name) & wrong for name in UNITS if name != unit}
        found = "they are declared as" if self.unit is not None else "most rows are"
        remedy = "declare the right `time_unit`" if self.unit is not None else "write all times in one unit"

        def problem(row: int) -> str:
            value = values[row]
            year = 1970 + int(value / PER_SECOND[unit] / 31_556_952)
            name = next((UNITS[name] for name, mask in other.items() if mask[row]), None)
            looks = f", but this one looks like {name}" if name else ""
            return (
                f"{self.name} is {value}: the year {year} in {UNITS[unit]} ({found} {UNITS[unit]}{looks}); {remedy}, or "
                "remove the row"
            )

        if any(mask.any() for mask in other.values()):
            raise BadRows(piece, wrong, problem)  # never left out: it may be half of the file
        _refuse(piece, wrong, problem, repairs)
        return ~wrong

    def _check_come(self, piece: Piece, moments: pl.Series) -> None:
        """Raise BadRows for moments that have not come yet. They are never left out: tomorrow, others would be."""
        if self.latest_ms is None or not len(moments) or (moments.max() or 0) <= self.latest_ms:  # type: ignore[operator]
            return
        piece.refuse(
            (moments > self.latest_ms).fill_null(False),
            lambda row: (
                f"{self.name} is {format_time(int(moments[row]))}, which has not come yet; correct it, or remove the row "
                "(skip_bad_lines does not leave it out, since the answer would change with the clock)"
            ),
        )


def _shown(value: Any) -> str:
    """A value for an error: a number without quotes, whichever type its block was read as."""
    return short(value.strip()) if isinstance(value, str) and _NUMBER.fullmatch(value) else short(repr(value))


def _refuse(piece: Piece, wrong: pl.Series, problem: Callable[[int], str], repairs: Repairs) -> None:
    """Leave the wrong rows out, or raise BadRows about them."""
    bad = BadRows(piece, wrong, problem)
    if not repairs.skip_bad_lines:
        raise bad
    repairs.skip_rows(bad)


def _finite(numbers: pl.Series) -> pl.Series:
    """The numbers, null in place of NaN and the infinities."""
    return pl.DataFrame({"number": numbers}).select(pl.when(pl.col("number").is_finite()).then("number"))["number"]
