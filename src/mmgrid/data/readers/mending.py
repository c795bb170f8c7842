"""Texts that are no texts: what pandas, csv and other tools write in place of a text, and marks of web pages.

`NaN` and its kin become "". A list that was written as text (`['x', 'y']`) becomes its paragraphs. Tags and entities of
HTML become the text that a browser shows; control characters become spaces. All other texts stay as they are.
"""

import ast
import html
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from threading import Lock

import polars as pl

NO_VALUE = ("NaN", "nan", "None", "null", "NULL", "<NA>")  # what tools write for a missing value
NO_TEXT = (*NO_VALUE, "NA", "N/A", "#N/A", "\\N", "[nan]", "[None]", "[null]")  # R, Excel, and databases among them

_QUIET = Lock()  # filters of warnings are those of all threads

_LITERAL = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_NONE = r"(?:None|nan|NaN|null|<NA>)(?=[\s,\]])"
_LIST = re.compile(rf"\[\s*(?:(?:{_LITERAL}|{_NONE})[\s,]*)*\]", re.DOTALL)
_PARTS = re.compile(rf"{_LITERAL}|{_NONE}", re.DOTALL)
_LIST_BEGINS = r"""^\[\s*(?:\]|'|"|None|nan|NaN|null|<NA>)"""
_TAGS = (
    "a|abbr|b|big|blockquote|br|center|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|li|ol|p|pre|s|script|small|span|strike"
    "|strong|style|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul"
)
_BREAKS = r"(?i)<\s*(?:br|/p|/div|/li|/tr|/h[1-6]|hr|/ul|/ol|/dd|/dt|/table)\b[^<>]*>"
_TAG = rf"(?i)</?\s*(?:{_TAGS})(?:\s[^<>]*)?/?>|<!--(?s:.*?)-->"
_UNSEEN = r"(?is)<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>"
_ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});"
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]"


def mended(column: pl.Series, counts: Counter[str], line_break: str = "\n", *, controls: bool = True) -> pl.Series:
    """The texts, mended.

    Args:
        column: texts without nulls.
        counts: kind of repair → number of texts, to which those of this column are added.
        line_break: what takes the place of tags that break lines, such as <br>.
        controls: whether there may be control characters.
    """
    stripped = column.str.strip_chars()
    column = _unwritten(_without_no_text(column, stripped, counts), stripped, counts)
    marked = _containing(column, "<", _TAG) | _containing(column, "&", _ENTITY)
    column = _replaced(column, marked, lambda found: _shown(found, line_break), "html", counts)
    if not controls:
        return column
    controlled = column.str.contains(_CONTROL)
    return _replaced(
        column, controlled, lambda found: found.str.replace_all(_CONTROL, " "), "control characters", counts
    )


def listed(text: str) -> list[str] | None:
    """The texts of a list in its Python, numpy or JSON form, without those that are none; None for any other text."""
    if not _LIST.fullmatch(text):
        return None
    try:
        parts = [_whole_characters(part) for part in json.loads(text) if isinstance(part, str)]
    except ValueError:
        # numpy writes ['one' 'two'], which Python would read as one text
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown escapes
            parts = [_unquoted(part) for part in _PARTS.findall(text) if part[0] in "'\""]
    return [part for part in parts if part.strip() not in NO_TEXT]


def _unquoted(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    try:
        return _whole_characters(str(ast.literal_eval(literal)))
    except (SyntaxError, ValueError):  # a line break or a broken escape
        return literal[1:-1]


def _whole_characters(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _without_no_text(column: pl.Series, stripped: pl.Series, counts: Counter[str]) -> pl.Series:
    none = stripped.is_in(NO_TEXT)
    return _replaced(column, none, lambda found: pl.Series([""] * len(found), dtype=pl.String), "no text", counts)


def _unwritten(column: pl.Series, stripped: pl.Series, counts: Counter[str]) -> pl.Series:
    likely = stripped.str.starts_with("[") & stripped.str.ends_with("]")
    if not likely.any():
        return column
    likely &= stripped.str.contains(_LIST_BEGINS) & (column != "")  # no text: counted before
    read = [(row, listed(stripped[row])) for row in likely.arg_true().to_list()]
    changed = {row: "\n".join(parts) for row, parts in read if parts is not None}
    chosen = _none_of(column).scatter(list(changed), True)
    return _replaced(column, chosen, lambda found: pl.Series(list(changed.values()), dtype=pl.String), "lists", counts)


def _containing(column: pl.Series, sign: str, pattern: str) -> pl.Series:
    """bool: whether each text holds the pattern, of which `sign`, cheap to look for, is a part."""
    some = column.str.contains(sign, literal=True).any()
    return column.str.contains(pattern) if some else _none_of(column)


def _none_of(column: pl.Series) -> pl.Series:
    return pl.repeat(False, len(column), dtype=pl.Boolean, eager=True)


def _shown(column: pl.Series, line_break: str) -> pl.Series:
    """The texts without tags and with the characters that entities stand for."""
    column = column.str.replace_all(_UNSEEN, " ").str.replace_all(_BREAKS, line_break).str.replace_all(_TAG, "")
    texts = [html.unescape(text).replace("\xa0", " ") if "&" in text else text for text in column]
    texts = pl.Series(texts, dtype=pl.String).str.replace_all(r"[ \t]*\n[ \t]*", "\n").str.replace_all(r"\n{2,}", "\n")
    return texts.str.replace_all(r" {2,}", " ").str.strip_chars()


def _replaced(
    column: pl.Series, chosen: pl.Series, change: Callable[[pl.Series], pl.Series], kind: str, counts: Counter[str]
) -> pl.Series:
    """The column with `change` applied to the chosen texts, which are counted."""
    if not chosen.any():
        return column
    counts[kind] += int(chosen.sum())
    return column.scatter(chosen.arg_true(), change(column.filter(chosen)))
