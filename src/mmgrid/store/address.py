"""The address of a cell: a readable name for people, and a fingerprint that identifies its content.

`--only` and `why` take the name, such as `checkpoint/semb/books/phase1`. On disk, the first eight digits of the
fingerprint distinguish the versions of one name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmgrid.files import safe_segment
from mmgrid.store.names import check_not_kept

SHORT_DIGITS = 8
_FINGERPRINT = re.compile(r"[0-9a-f]{8,128}")


@dataclass(frozen=True)
class Address:
    """One version of one cell.

    Args:
        kind: `corpus`, `backbone`, `checkpoint`, …
        key: distinguishes it from other cells of the kind; may be empty. Each part must be a safe path segment.
        fingerprint: at least 8 lower-case hexadecimal digits, normally the 64 of a SHA-256.

    Raises:
        ValueError: a part is not safe in a path, or one that the store keeps for itself, or the fingerprint is not hexadecimal.
    """

    kind: str
    key: tuple[str, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        for part in (self.kind, *self.key):
            if safe_segment(part) != part:
                raise ValueError(f"{part!r}: is not safe in a path; use {safe_segment(part)!r}")
            check_not_kept(part)
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise ValueError(f"{self.fingerprint!r}: a fingerprint is 8 or more lower-case hexadecimal digits")

    @classmethod
    def of(cls, name: str, fingerprint: str) -> Address:
        """The address with this readable name."""
        kind, *key = name.split("/")
        return cls(kind, tuple(key), fingerprint)

    @property
    def name(self) -> str:
        """The readable name, such as `checkpoint/semb/books/phase1`."""
        return "/".join((self.kind, *self.key))

    @property
    def folder(self) -> str:
        """The folder below the store's root, such as `checkpoint/semb/books/phase1/3fa9c1d2`."""
        return f"{self.name}/{self.fingerprint[:SHORT_DIGITS]}"
