"""Names that a grid file gives: each names a folder of the store."""

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from mmgrid.files import safe_segment
from mmgrid.store.names import check_not_kept


def folder_name(name: str) -> str:
    """The name itself, if it can name a folder of the store.

    Raises:
        ValueError: it cannot; the message has one that can.
    """
    check_not_kept(name)
    if unicodedata.normalize("NFC", name) == safe_segment(name) != name:
        raise ValueError(
            f"{name!r} cannot name a folder of the store: its accents are signs of their own (Unicode's form NFD), "
            f"which looks the same; write {safe_segment(name)!r} in the form NFC"
        )
    if safe_segment(name) != name:
        raise ValueError(f"{name!r} cannot name a folder of the store; rename it to {safe_segment(name)!r}")
    return name


def not_in_grid(names: Sequence[str], known: Collection[str]) -> str:
    """The problem with names of domains or paradigms that the grid does not have, and the nearest that it has."""
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not in the grid; {instead(names, known)}"


def instead(names: Sequence[str], known: Collection[str]) -> str:
    """What to write in place of unknown names: `did you mean kitchen?` if they are close to known ones, else these."""
    near = [difflib.get_close_matches(name, known, n=1) for name in names]
    if near and all(near):
        return f"did you mean {', '.join(match[0] for match in near)}?"
    return f"it has {', '.join(known)}"


FolderName = Annotated[str, AfterValidator(folder_name)]


def alike_but_for_case(names: Iterable[str]) -> str | None:
    """The problem with two cells whose folders are one where upper and lower case are the same, as on a Mac; None if there
    are none.
    """
    seen: dict[tuple[str, ...], str] = {}
    for name in sorted(names):
        folded: tuple[str, ...] = ()
        for part in name.split("/"):
            folded = (*folded, _folded(part))
            if (other := seen.setdefault(folded, part)) != part:
                return (
                    f"{other} and {part}, in the names of cells, differ only in upper and lower case, which many disks do "
                    "not tell apart (macOS, Windows): rename one"
                )
    return None


@lru_cache(maxsize=1 << 16)
def _folded(part: str) -> str:
    return "".join(sign if len(sign.casefold()) > 1 else sign.casefold() for sign in part)
