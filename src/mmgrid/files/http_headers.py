"""What the headers of an answer over HTTP say: length, range, state of the file, the pause that is asked for.

Headers that are no such thing say nothing. Source: https://www.rfc-editor.org/rfc/rfc9110
"""

import email.utils
import time
from collections.abc import Mapping
from email.message import Message

Headers = Mapping[str, str] | Message


def length(headers: Headers) -> int | None:
    """The bytes that an answer announces. Servers and proxies that add the header once more repeat it (`9, 9`)."""
    values = {part.strip() for part in headers.get("Content-Length", "").split(",")}
    return whole_number(values.pop()) if len(values) == 1 else None


def span(headers: Headers) -> tuple[int | None, int | None]:
    """First byte and whole length of `bytes 5-9/10`, or of `bytes */10`."""
    first, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return whole_number(first.partition("-")[0]), whole_number(total)


def state(headers: Headers) -> str | None:
    """What names one state of a file, byte for byte: its ETag, or when it was changed if the ETag is weak or missing."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def are_different(one: str | None, other: str | None) -> bool:
    """Whether two states are known to be those of different files: an ETag and a time cannot be compared."""
    if one is None or other is None or one.startswith('"') != other.startswith('"'):
        return False
    return one != other


def pause_seconds(headers: Headers) -> float | None:
    """Seconds that a server asks to wait, from `Retry-After`: a number or a date."""
    asked = (headers.get("Retry-After") or "").strip()
    if (seconds := whole_number(asked)) is not None:
        return float(min(seconds, 10**9))
    try:
        moment = email.utils.parsedate_to_datetime(asked)
        return max(0.0, moment.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def whole_number(text: str) -> int | None:
    """A number in the digits 0 to 9 alone."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 400 else None
