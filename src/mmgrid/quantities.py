"""Formats durations and sizes for people; the command line and the report share one wording."""

import math

UNKNOWN = "–"
"""Stands in place of a missing number."""


def duration(seconds: float | None) -> str:
    """`< 0.1 s`, `3 s`, `9.9 s`, `3 min 05 s`, `1 h 02 min`, `2 d 03 h`: two units at most; a dash if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 9.95:
        return "< 0.1 s" if 0 < seconds < 0.095 else f"{_short(seconds)} s"
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
    """`512 B`, `34 MB`, `1.5 GB`: decimal units, one decimal below 100 unless it is zero; a dash if unknown."""
    if size_bytes is None or not math.isfinite(size_bytes):
        return UNKNOWN
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{_short(value)} {unit}" if unit != "B" else f"{value:.0f} B"
        value /= 1000.0
    return f"{_short(value)} TB"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}".removesuffix(".0")
