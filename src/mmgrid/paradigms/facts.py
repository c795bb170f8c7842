"""`mmgrid.json` next to a checkpoint's weights: describes the checkpoint, so that it can be used outside a store.

A checkpoint declares its paradigm, domain, phase, the calendar of its grid, how it was trained (`recipe`), and how its
grid evaluates it (`evaluation`). A merge repeats the declarations of its sources by name under `made_from`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgrid.data import Calendar
from mmgrid.files.foreign import foreign

FACTS_FILE = "mmgrid.json"


class CheckpointError(ValueError):
    """The folder is no checkpoint that can be loaded; the message says why."""


def facts(folder: Path) -> dict[str, Any]:
    """The content of `mmgrid.json`. Raises CheckpointError if it cannot be read."""
    try:
        found = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        error: object = "not a JSON object"
    except (OSError, ValueError, RecursionError) as problem:
        error = problem
    raise CheckpointError(f"{folder}: {FACTS_FILE} cannot be read ({error})") from None


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint, or all sources of a merge, declare. A fact is None or empty if missing, or if sources differ.

    Attributes:
        paradigm: its name.
        phase: of a checkpoint; empty for a merge.
        domains: the domains that it was trained on.
        calendar: of its grid.
        trained_until: end (ms UTC) of the newest phase that it was trained on.
        catalogue: `closed` or `open`.
        seed: of its grid.
        threads: the number of threads in training; an evaluation with the same number gives the same bits.
        evaluation: how its grid evaluates it: `target`, `max_users`, `sample_seed`, `values` (of the recipe's
            `EVALUATION`), and `embedder` if another model than the backbone embeds titles.
    """

    paradigm: str | None = None
    phase: str = ""
    domains: tuple[str, ...] = ()
    calendar: Calendar | None = None
    trained_until: int | None = None
    catalogue: str | None = None
    seed: int | None = None
    threads: int | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> CheckpointFacts:
        """From a folder's `mmgrid.json`; all facts are empty if there is none, as for a published language model."""
        if not (folder / FACTS_FILE).is_file():
            return cls()
        with foreign(folder / FACTS_FILE, CheckpointError, "has not the form that mmgrid writes"):
            return cls._read(folder)

    @classmethod
    def _read(cls, folder: Path) -> CheckpointFacts:
        declared = facts(folder)
        if "made_from" not in declared and (sources := source_folders(declared, folder)):
            # older merges do not repeat the declarations of their sources
            declared |= {
                "made_from": {name: facts(one) for name, one in sources.items() if (one / FACTS_FILE).is_file()}
            }
        return cls.of(declared)

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> CheckpointFacts:
        """From the content of `mmgrid.json`."""
        from mmgrid.cards import checkpoints_in

        checkpoints = list(checkpoints_in(declared))
        recipes = [one.get("recipe", {}) for one in checkpoints]
        calendars = [one.get("phases") for one in checkpoints]
        ends = [end for one in checkpoints if (end := _trained_until(one)) is not None]
        dates = _agreed(calendars)
        return cls(
            paradigm=_agreed([one.get("paradigm") for one in checkpoints]),
            phase=declared.get("phase") or "",
            domains=tuple(dict.fromkeys(one["domain"] for one in checkpoints if one.get("domain"))),
            calendar=Calendar.from_dates(dates) if dates else None,
            trained_until=max(ends, default=None),
            catalogue=_agreed([one.get("catalogue") for one in recipes]),
            seed=_agreed([one.get("seed") for one in recipes]),
            threads=_agreed([one.get("threads") for one in recipes]),
            evaluation=_agreed([one.get("evaluation", {}) for one in checkpoints]) or {},
        )


def source_folders(declared: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The folders of a merge's sources by name; declared: the content of the `mmgrid.json` in `folder`."""
    recipe = declared.get("recipe")
    sources = recipe.get("sources", []) if isinstance(recipe, dict) else []
    return {
        one["name"]: folder.parent / one["path"]
        for one in sources
        if isinstance(one, dict) and {"name", "path"} <= set(one)
    }


def _agreed(values: list[Any]) -> Any:
    """The common value of all; None if they differ."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _trained_until(declared: Mapping[str, Any]) -> int | None:
    if not declared.get("phase") or "phases" not in declared:
        return None
    phase = declared.get("recipe", {}).get("until", declared["phase"])  # `all` ends with the grid's newest phase
    return Calendar.from_dates(declared["phases"]).phase("phase2" if phase == "all" else phase).end
