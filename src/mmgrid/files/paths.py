"""Turns names from outside (a domain, a recipe, an index file) into paths that stay within their folder."""

import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath

MAX_SEGMENT_CHARACTERS = 120
_MAX_SEGMENT_BYTES = 200  # file systems allow 255; leaves room for suffixes such as ".work" and random tokens
_KEPT_SIGNS = "._-+=,"


@lru_cache(maxsize=1 << 16)  # a grid names the same domains, phases and models thousands of times
def safe_segment(text: str) -> str:
    """`text` as one path segment: letters, digits and `. _ - + = ,` stay, any other character becomes `-`.

    Letters of every script are kept, in composed form (NFC). The function is idempotent.

    Raises:
        ValueError: the text is empty, starts with a dot (including `.` and `..`), contains a path separator or a
            control character, has no letter or digit, or is longer than 120 characters.
    """
    text = unicodedata.normalize("NFC", text)
    if not text:
        raise ValueError("a name that becomes part of a path must not be empty")
    if text.startswith("."):
        raise ValueError(f"{text!r}: a name that becomes part of a path must not start with a dot")
    for sign in text:
        if sign in "/\\" or unicodedata.category(sign).startswith("C"):
            raise ValueError(f"{text!r}: a name that becomes part of a path must not contain {sign!r}")
    segment = _kept(text)
    if not any(sign.isalnum() for sign in segment):
        raise ValueError(f"{text!r}: a name that becomes part of a path needs a letter or a digit")
    if len(segment) > MAX_SEGMENT_CHARACTERS or len(segment.encode()) > _MAX_SEGMENT_BYTES:
        raise ValueError(
            f"{text[:40]!r}…: a name that becomes part of a path may have at most {MAX_SEGMENT_CHARACTERS} "
            f"characters ({_MAX_SEGMENT_BYTES} bytes); this one has {len(segment)}: shorten it"
        )
    return segment


def file_stem(text: str) -> str:
    """A file's name (without its suffix) in the form of `safe_segment` for any text, such as the title of a grid.

    Any other character becomes `-`, dots and dashes at the beginning are left out, and a long text is cut.
    """
    stem = _kept(unicodedata.normalize("NFC", text)).lstrip(".-")
    stem = stem[:MAX_SEGMENT_CHARACTERS].encode()[:_MAX_SEGMENT_BYTES].decode(errors="ignore")
    return stem if any(sign.isalnum() for sign in stem) else "unnamed"


def _kept(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in _KEPT_SIGNS else "-" for sign in text)


def inside(root: Path, relative: str, *, allow_links: bool = False) -> Path:
    """`root / relative`, checked to lie in `root`. Neither needs to exist.

    `allow_links` permits symbolic links below `root` that a user placed there (a Hugging Face cache is full of them);
    `relative` itself is checked all the same.

    Raises:
        ValueError: `relative` is empty, absolute, contains `..`, or passes a symbolic link below `root`.
    """
    path = PurePosixPath(relative)
    if not relative or relative == "." or path.is_absolute() or ".." in path.parts or "\\" in relative:
        raise ValueError(f"{relative!r}: is not a path inside {root}")
    if "\0" in relative:
        raise ValueError(f"{relative!r}: contains a zero byte")
    current = root
    for part in path.parts:
        current = current / part
        if not allow_links and current.is_symlink():
            raise ValueError(f"{current}: is a symbolic link, which could lead out of {root}")
    return current
