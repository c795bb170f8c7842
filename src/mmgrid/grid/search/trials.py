"""The trials of a search, one line of JSON each, so that a search that was stopped goes on where it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.files import clear_disk_errors, write_bytes, write_json
from mmgrid.files.foreign import MALFORMED
from mmgrid.grid.search.errors import SearchError

TRIALS_FILE = "trials.jsonl"
SEARCH_FILE = "search.json"


@dataclass(frozen=True)
class Trial:
    """Numbers that were tried, and what came of them on the users that choose.

    Attributes:
        number: from 0.
        values: key → number.
        quality: domain → the metric; empty if there is no such merge.
        problem: why there is none, such as weights that add up to zero.
    """

    number: int
    values: Mapping[str, float]
    quality: Mapping[str, float]
    problem: str = ""


class TrialLog:
    """The file of trials in a folder of the store."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], keys: Collection[str] = (), domains: Collection[str] = ()
    ) -> None:
        """Args:
            about: what is searched, for readers of the folder.
            keys, domains: what each trial has values and qualities of; not checked if there are none.

        Raises:
            SearchError: a line of the file cannot be read, or is of another search.
        """
        self.folder, self._keys, self._domains = folder, set(keys), set(domains)
        with clear_disk_errors(folder, remedy="free some space, or name another store (--store)"):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / SEARCH_FILE, dict(about))
        self.trials = self._read()

    def add(self, values: Mapping[str, float], quality: Mapping[str, float], problem: str = "") -> Trial:
        """Append a trial; it is on the disk when this returns."""
        trial = Trial(len(self.trials), dict(values), dict(quality), problem)
        told = {"number": trial.number, "values": trial.values, "quality": trial.quality}
        line = json.dumps(told | ({"problem": problem} if problem else {}))
        with clear_disk_errors(self.folder, remedy="free some space, or name another store (--store)"):
            with (self.folder / TRIALS_FILE).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.trials.append(trial)
        return trial

    def _read(self) -> list[Trial]:
        """All lines; the last one may be cut off by a kill, and is then dropped from the file."""
        file = self.folder / TRIALS_FILE
        found: list[Trial] = []
        if not file.exists():
            return found
        lines = file.read_bytes().split(b"\n")
        if lines.pop():
            write_bytes(file, b"".join(line + b"\n" for line in lines))
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
                problem = str(value.get("problem", ""))
                values = _numbers(value["values"], self._keys)
                quality = {} if problem else _numbers(value["quality"], self._domains)
                found.append(Trial(len(found), values, quality, problem))
            except MALFORMED:
                raise SearchError(
                    f"{file}: line {number} cannot be read; remove this line, and the search goes on with the others"
                ) from None
        return found


def _numbers(told: Mapping[str, Any], names: Collection[str]) -> dict[str, float]:
    """Finite numbers by name; ValueError if they are none, or of other names."""
    found = dict(told)
    if names and found.keys() != set(names):
        raise ValueError("other names")
    if not all(type(value) in (int, float) and math.isfinite(value) for value in found.values()):
        raise ValueError("no numbers")
    return found
