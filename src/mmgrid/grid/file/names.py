"""Names that a grid file gives: each names a folder of the store."""

import difflib
from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import AfterValidator

from mmgrid.files import safe_segment


def folder_name(name: str) -> str:
    """The name itself, if it can name a folder of the store.

    Raises:
        ValueError: it cannot; the message has one that can.
    """
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
