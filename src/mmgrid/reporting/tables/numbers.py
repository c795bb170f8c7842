"""Numbers as a reader wants them: durations, sizes, thousands, signs.  One place, so that all tables agree."""

from __future__ import annotations

import math

NOTHING = "–"
"""What stands where there is no number."""

MINUS = "−"


def is_number(value: object) -> bool:
    """Whether there is a finite number to show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """``1234.5`` → ``1,234.5``; a typographic minus; ``+`` before gains where ``sign``; a dash for nothing."""
    if value is None or not is_number(value):
        return NOTHING
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # no −0.0
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int, *, sign: bool = False) -> str:
    """``[1.20, 3.40]``, or nothing at all where a bound is missing."""
    if not (is_number(low) and is_number(high)):
        return ""
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def with_interval(
    value: float | None, low: float | None, high: float | None, digits: int, *, sign: bool = False, unit: str = ""
) -> str:
    """``+1.2 % [+0.3, +2.1]``; the value alone where a bound is missing."""
    text = number(value, digits, sign=sign) + (f" {unit}" if unit else "")
    bounds = interval(low, high, digits, sign=sign)
    return f"{text} {bounds}" if bounds else text


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, however small: ``0.0123``, ``1.23 × 10⁻⁵``; whole numbers of six digits in full."""
    if value is None or not is_number(value):
        return NOTHING
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e6:
        after = 0 if size == 0 else max(0, digits - 1 - math.floor(math.log10(size)))
        return number(value, after)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', MINUS)} × 10{raised}"


def p_value(p: float | None) -> str:
    """``0.034``, ``< 0.001``; a dash for nothing."""
    if p is None or not is_number(p):
        return NOTHING
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12 s``, ``3 min 05 s``, ``1 h 02 min``, ``2 d 03 h``; two units at most."""
    if seconds is None or not is_number(seconds):
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.095 else "< 0.1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def size(size_bytes: float | None) -> str:
    """Bytes in decimal units: ``512 B``, ``1.5 GB``."""
    if size_bytes is None or not is_number(size_bytes):
        return NOTHING
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000.0
    return f"{value:.1f} TB"


def count(amount: int, noun: str, plural: str = "") -> str:
    """``1 cell``, ``3 cells``, ``no cells``."""
    words = noun if amount == 1 else plural or f"{noun}s"
    return f"{number(amount) if amount else 'no'} {words}"


def listing(names: list[str], limit: int = 4) -> str:
    """``a``, ``a and b``, ``a, b and c``, ``a, b, c and 5 more``."""
    if len(names) > limit:
        return f"{', '.join(names[: limit - 1])} and {len(names) - limit + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def is_are(amount: int) -> str:
    return "is" if amount == 1 else "are"
