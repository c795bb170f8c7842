"""Text from files, data and folders, made harmless for a terminal.

A title or a path may hold any character. A terminal obeys control characters (C0, C1, DEL), some readers obey marks
that reverse the direction of text, and a lone surrogate (a byte of a file name that is not UTF-8) cannot be printed
at all. All of them are shown as escapes, such as `\\x1b`.
"""

import logging
import re

from mmgrid.machine.unspoken import unspoken

_HIDDEN = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_OBEYED = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_RAW_IN_JSON = re.compile(f"[{_HIDDEN}]")


def visible(value: object) -> str:
    """`value` as one line of text, in which a terminal finds nothing to obey."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def visible_lines(value: object) -> str:
    """As `visible`, but line breaks stay: for messages of several lines."""
    return "\n".join(visible(line) for line in str(value).split("\n"))


def visible_json(text: str) -> str:
    """JSON with the same content, in which these characters are escaped; JSON itself escapes C0."""
    return _RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class VisibleFormatter(logging.Formatter):
    """Formats log records without secrets, and without characters that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(unspoken(super().format(record)))


def show_warnings_visibly() -> None:
    """Let the handler that prints warnings of a process without other handlers use this format."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(VisibleFormatter())
