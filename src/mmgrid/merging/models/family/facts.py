"""Whether the files of a family are those that were written, as far as a look in milliseconds can tell."""

from __future__ import annotations

from pathlib import Path

from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.content_names import content_of
from mmgrid.merging.models.family.file import FileFacts


def check_facts(file: Path, facts: FileFacts) -> None:
    """Check size and sample of a file.

    Raises:
        MergeError: it is missing, or another one than when the family was written.
    """
    check_size(file, facts)
    if not same_sample(file, facts):
        raise MergeError(
            f"{file}: is damaged, or was changed after the family was written; copy or write the family again"
        )


def check_size(file: Path, facts: FileFacts) -> None:
    """Check that a file is there and as long as when the family was written.

    Raises:
        MergeError: it is not.
    """
    if not file.is_file():
        raise MergeError(f"{file}: is missing; copy or write the family again")
    if file.stat().st_size != facts.bytes:
        raise MergeError(
            f"{file}: has {file.stat().st_size} bytes, and had {facts.bytes} when the family was written; copy or write "
            "the family again"
        )


def same_sample(file: Path, facts: FileFacts) -> bool:
    """Whether the sampled bytes of a file, all of them up to 4 MiB, are still the same; its size is taken as known."""
    return facts.content is None or content_of([file])[file.name]["sha256"] == facts.content
