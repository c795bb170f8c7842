"""`mmgrid.json` beside a checkpoint's weights: what it is, for those who find it outside a store."""

import json
from pathlib import Path
from typing import Any

from mmgrid.data import Calendar

FACTS_FILE = "mmgrid.json"


class CheckpointError(ValueError):
    """The folder is no checkpoint that can be loaded; the message says why."""


def facts(folder: Path) -> dict[str, Any]:
    """What `mmgrid.json` says of a checkpoint: paradigm, domain, phase, calendar, recipe."""
    try:
        return json.loads((folder / FACTS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {FACTS_FILE} cannot be read ({error})") from None


def trained_until(about: dict[str, Any]) -> int | None:
    """From what `facts` says of a checkpoint: the end (ms) of the newest phase that it was trained on.

    None for what was trained on no phase, such as a base, or does not say, such as a merge.
    """
    if not about.get("phase") or "phases" not in about:
        return None
    phase = about.get("recipe", {}).get("until", about["phase"])  # `all` ends where the grid's newest phase ends
    return Calendar.from_dates(about["phases"]).phase("phase2" if phase == "all" else phase).end
