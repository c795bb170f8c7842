"""Numbers as people read them in a column: as many digits as matter, and never 0 for what is not 0.

A column of floats has one number of decimals, chosen by its largest value: four digits, three below 1. A value that
would keep fewer than two digits gets decimals of its own, and one below 0.001 an exponent: 0.0001432 is 1.4e-4.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmgrid.quantities import UNKNOWN

MOST_DECIMALS = 5
LEAST_PLAIN = 1e-3
_PLAIN = re.compile(r"-?[\d,]*\d(\.\d+)?")


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its interval."""

    value: float | None
    low: float | None
    high: float | None


def column_texts(values: Sequence[Any]) -> list[str]:
    """The texts of a column's values: numbers with the same decimals, a dash for null and NaN, others as they are."""
    decimals = _decimals([number for value in values for number in _numbers(value)])
    return [_text(value, decimals) for value in values]


def short_number(value: float) -> str:
    """A percentage with three digits: `249`, `34.1`, `3.42`, `0.34`; a dash for NaN."""
    if not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    return f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"


def on_the_point(texts: Sequence[str]) -> list[str]:
    """The texts with spaces on the right, such that the decimal points of right-aligned numbers stand in one line."""
    found = [_PLAIN.fullmatch(text) for text in texts]
    after = [len(match[1] or "") if match else None for match in found]
    widest = max((width for width in after if width is not None), default=0)
    return [text if width is None else text + " " * (widest - width) for text, width in zip(texts, after, strict=True)]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Interval):
        return [number for part in (value.value, value.low, value.high) for number in _numbers(part)]
    return [value] if isinstance(value, float) and math.isfinite(value) else []


def _decimals(numbers: Sequence[float]) -> int:
    """The decimals of a column: by its largest value, without zeros that all numbers end with."""
    sizes = [abs(number) for number in numbers if number]
    if not sizes:
        return 0
    exponent = math.floor(math.log10(max(sizes)))
    decimals = min(max(3 - exponent if exponent >= 0 else 2 - exponent, 0), MOST_DECIMALS)
    while decimals and all(f"{number:.{decimals}f}".endswith("0") for number in numbers):
        decimals -= 1
    return decimals


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, Interval):
        middle, low, high = (_text(part, decimals) for part in (value.value, value.low, value.high))
        return middle if low == high == UNKNOWN else f"{middle} [{low}, {high}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _of_float(value, decimals) if math.isfinite(value) else UNKNOWN
    return f"{value:,}" if isinstance(value, int) else str(value)


def _of_float(value: float, decimals: int) -> str:
    size = abs(value)
    if 0 < size < LEAST_PLAIN:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 1e15:
        return f"{value:.3e}"
    if 0 < size < 10.0 ** (1 - decimals) and round(value, decimals) != value:
        decimals = max(decimals, 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"
