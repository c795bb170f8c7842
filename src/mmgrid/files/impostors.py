"""Recognises files that are not what their name says: pointers of Git LFS, error pages, empty files.

A clone without Git LFS, a download through a proxy and an interrupted copy leave files with the right name.
"""

import re
import stat
from pathlib import Path

START_BYTES = 512
"""How much of a file's start is enough to tell."""

_AGAIN = "download the file again"
_BOM = b"\xef\xbb\xbf"
_LFS = re.compile(rb"version https://(?:git-lfs|hawser)\.")
_WEB_PAGE = re.compile(rb"<(?:!doctype html|!--|html|head|title|meta|body|script)\b|<!--")
_XML = re.compile(rb"<(?:\?xml|error>)")
# What servers say instead of a file.
_MESSAGE = re.compile(
    rb"(?:entry|repository|file|page|not) not found|not found|[45]\d\d[: ]|access (?:to|denied)|access ?denied|forbidden"
    rb"|unauthori[sz]ed|invalid (?:username|credentials)|internal (?:server )?error|bad gateway|we had to rate limit|too many req"
)


def impostor(start: bytes, *, whole: bool = True) -> str | None:
    """What a file is, and what to do, if its first `START_BYTES` are surely no data; None otherwise.

    Args:
        whole: a JSON object that begins with "error" or "message" is the answer of a server, and not the first of many.
    """
    text = start.removeprefix(_BOM).lstrip().lower()
    return _pointer(text) or _answer(text, whole)


def no_file(path: Path) -> str | None:
    """What stands at a path in place of a file with content, and what to do; None if nothing does."""
    kinds = {
        stat.S_ISDIR: "is a folder; name a file in it",
        stat.S_ISFIFO: "is a named pipe, which cannot be read twice; write it into a file first",
        stat.S_ISSOCK: "is a socket; name a file",
        stat.S_ISCHR: "is a device; name a file",
        stat.S_ISBLK: "is a device; name a file",
    }
    try:
        mode = path.stat().st_mode
    except OSError:
        return "is a link that leads to no file; repair or remove it" if path.is_symlink() else None
    return next((what for is_kind, what in kinds.items() if is_kind(mode)), None)


def _pointer(text: bytes) -> str | None:
    if _LFS.match(text):
        return "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its folder"
    if text.startswith(b"# xet version"):
        return f"is a pointer of Xet, not the file itself; {_AGAIN}, with a newer huggingface_hub"
    if b"annex/objects/" in text and text.startswith((b"/annex", b".", b"/")):
        return "is a pointer of git-annex, not the file itself; run `git annex get` in its folder"
    return None


def _answer(text: bytes, whole: bool) -> str | None:
    """What a server or an interrupted program has left."""
    if not text:
        return f"is empty; {_AGAIN}"
    if not text.strip(b"\0"):
        return f"holds only zeros, as an interrupted download leaves; {_AGAIN}"
    if _WEB_PAGE.match(text):
        return f"is a web page, such as the error page of a failed download; {_AGAIN}"
    if _XML.match(text):
        return f"is XML, such as the error message of a file store; {_AGAIN}"
    if _MESSAGE.match(text) or (whole and re.match(rb'\{\s*"(?:error|message)"\s*:\s*["{]', text)):
        said = text.splitlines()[0][:80].decode(errors="replace")
        return f"is the error message of a server ({said}); {_AGAIN}"
    if text.startswith(b"<<<<<<< "):
        return "holds the marks of a conflict of Git; resolve it"
    return None
