"""Addresses of servers: whether one can be asked at all, told before it is tried again and again."""

import re
import urllib.parse
from pathlib import Path

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # two letters at least: C: is a disk
_USER = re.compile(r"(?<=://)[^/@]*@")


def problem(url: str) -> str | None:
    """Why a server cannot be asked for this address, and what to do; None if it can."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no address ({error}); correct it"
    if parts.scheme not in ("http", "https"):
        return "is no address of a server; it should begin with https://"
    if not host:
        return "names no server; it should look like https://example.org/folder"
    if port == 0:
        return "has the port 0; correct it"
    if parts.username is not None:
        return "holds a name and a password, which are not sent; name an address that needs none"
    if parts.query or parts.fragment:
        return f"is to be the beginning of addresses, and has {'?' if parts.query else '#'} in it; name a folder"
    try:
        host.encode("idna")
    except UnicodeError:
        return f"names no server ({host}); correct it"
    wrong = re.search(r"[^\x21-\x7e]", f"{parts.path}{url if url.isascii() else ''}")
    if wrong:
        return f"has {wrong[0]!r} in it; write it as {urllib.parse.quote(wrong[0])}"
    return None


def address_in(path: Path) -> str | None:
    """The address (`s3://lab/demo`) that a path was made of, in which `//` has become `/`; None for any other path."""
    parts = path.parts
    for place, part in enumerate(parts):
        if _SCHEME.fullmatch(part) and not Path(*parts[: place + 1]).exists():
            return shown(f"{part}//{'/'.join(parts[place + 1 :])}")
    return None


def shown(url: str) -> str:
    """An address for a message: without a name and a password."""
    return _USER.sub("…@", url)
