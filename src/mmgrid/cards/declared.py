"""What models declare of themselves in `mmgrid.json`: paradigm, domain, phase, and where they come from.

A checkpoint whose backbone or data have a name on the Hub declares it under `origin`: `base_model` (with its commit),
`license` and `datasets`. A merge repeats the declarations of its sources by name under `made_from`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

ORIGIN = "origin"


def checkpoints_in(declared: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The declarations of the checkpoint itself, or of all checkpoints in a merge, or a merge of merges."""
    sources = declared.get("made_from")
    if not isinstance(sources, Mapping):
        yield declared
        return
    for source in sources.values():
        if isinstance(source, Mapping):
            yield from checkpoints_in(source)


def origins_in(declared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where the checkpoints come from, for those that declare it."""
    found = [one.get(ORIGIN) for one in checkpoints_in(declared)]
    return [origin for origin in found if isinstance(origin, Mapping)]


def named_in(declared: Mapping[str, Any], key: str) -> list[str]:
    """The different values of a key, such as `domain`, in the order of the checkpoints."""
    values = [one.get(key) for one in checkpoints_in(declared)]
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))
