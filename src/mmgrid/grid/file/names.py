"""Names that a grid file gives: each names a folder of the store."""

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


FolderName = Annotated[str, AfterValidator(folder_name)]
