"""Prints numbers, intervals, p-values, counts and lists, so that tables and sentences agree."""

import math

from mmgrid.quantities import UNKNOWN

MINUS = "−"


def is_number(value: object) -> bool:
    """Whether the value is a finite number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """`1234.5` → `1,234.5`; a typographic minus; with `sign` a `+` before positive numbers; a dash for null and NaN."""
    if value is None or not is_number(value):
        return UNKNOWN
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # not −0.0
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int, *, sign: bool = False) -> str:
    """`[1.20, 3.40]`, or an empty text if a bound is missing."""
    if not (is_number(low) and is_number(high)):
        return ""
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def with_interval(
    value: float | None, low: float | None, high: float | None, digits: int, *, sign: bool = False, unit: str = ""
) -> str:
    """`+1.2 % [+0.3, +2.1]`; the value alone if a bound is missing."""
    text = number(value, digits, sign=sign) + (f" {unit}" if unit else "")
    bounds = interval(low, high, digits, sign=sign)
    return f"{text} {bounds}" if bounds else text


def three_digits(value: float | None) -> str:
    """Three significant digits: `0.0123`, `1.23 × 10⁻⁵`; integer parts of up to six digits are printed in full."""
    if value is None or not is_number(value):
        return UNKNOWN
    magnitude = abs(value)
    if magnitude == 0 or 1e-3 <= magnitude < 1e6:
        decimals = 0 if magnitude == 0 else max(0, 2 - math.floor(math.log10(magnitude)))
        return number(value, decimals)
    mantissa, exponent = f"{value:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', MINUS)} × 10{power}"


def p_value(p: float | None) -> str:
    """`0.034`, `< 0.001`; a dash for null."""
    if p is None or not is_number(p):
        return UNKNOWN
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def count(amount: int, noun: str, plural: str = "") -> str:
    """`1 cell`, `3 cells`, `no cells`."""
    words = noun if amount == 1 else plural or f"{noun}s"
    return f"{number(amount) if amount else 'no'} {words}"


def listing(names: list[str], limit: int = 4) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 5 more`."""
    if len(names) > limit:
        return f"{', '.join(names[: limit - 1])} and {len(names) - limit + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def is_are(amount: int) -> str:
    """The verb after `count`."""
    return "is" if amount == 1 else "are"
