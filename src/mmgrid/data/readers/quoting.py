"""Quoted values of text tables, in which separators, line breaks and doubled quotes belong to the value.

A quoted value begins at the start of a value; a quote elsewhere, as in 5" pipe, is a character like any other. Most blocks
are well formed and are looked at as a whole, in a fifth of the time of one value after the other.
"""

import re
from functools import cache

import numpy as np

_QUOTE = ord('"')


def end_of_rows(data: bytes, separator: str | None) -> int:
    """Where the last whole row ends. separator: None: values hold no line breaks."""
    end = data.rfind(b"\n") + 1
    if separator is None or b'"' not in data:
        return end
    rows = _rows(separator).match(data)
    if rows is not None and rows.end() == end:
        return end
    mark = re.escape(separator.encode())
    for quoted in re.finditer(rb"(?:\A|(?<=[\n" + mark + rb']))"[^"]*+(?:""[^"]*+)*+("?)', data):
        if not quoted[1] or quoted.end() > end:
            return data.rfind(b"\n", 0, quoted.start()) + 1
    return end


def is_misquoted(data: bytes, separator: str) -> bool:
    """Whether a quote stands alone within a quoted value, as in "a \\"b\\" c", or a value holds `swallowed_rows`."""
    if b'"' not in data or (separator != "\t" and not _stands_alone(data, separator)):
        return False
    return _values(separator).fullmatch(data) is None


def swallowed_rows(value: str, separator: str) -> bool:
    """Whether a quoted value holds tabs and line breaks, in a table whose values are separated by tabs: its quote was meant
    as a character, or never closed."""
    return separator == "\t" and "\t" in value and "\n" in value


def _stands_alone(data: bytes, separator: str) -> bool:
    """Whether a quote is neither beside the end of a value nor beside another quote."""
    signs = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(signs == _QUOTE)
    quotes = quotes[(quotes > 0) & (quotes + 1 < len(data))]
    inner = np.ones(256, np.bool_)
    inner[[_QUOTE, *b"\r\n", ord(separator)]] = False
    return bool((inner[signs[quotes - 1]] & inner[signs[quotes + 1]]).any())


@cache
def _values(separator: str) -> re.Pattern[bytes]:
    """Any number of well-formed values, separators and line breaks."""
    return re.compile(rb"(?:" + _value(separator) + rb"|[\n" + re.escape(separator.encode()) + rb"])*+")


@cache
def _rows(separator: str) -> re.Pattern[bytes]:
    """Any number of whole rows of well-formed values."""
    return re.compile(rb"(?:(?:" + _value(separator) + rb"|" + re.escape(separator.encode()) + rb")*+\n)*+")


def _value(separator: str) -> bytes:
    mark = re.escape(separator.encode())
    end = rb'"(?=[\r\n' + mark + rb"]|\Z)"
    others = (b"\n", mark) if separator == "\t" else (b"",)  # see `swallowed_rows`
    quoted = [rb'"[^"' + other + rb']*+(?:""[^"' + other + rb"]*+)*+" + end for other in others]
    return b"|".join([*quoted, rb'[^"\n' + mark + rb"][^\n" + mark + rb"]*+"])
