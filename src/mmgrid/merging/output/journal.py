"""The journal of finished tensors, from which a killed merge is resumed."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.machine.processes import boot

JOURNAL_FILE = "journal.jsonl"


class Journal:
    """One line for each finished tensor, after a first line that identifies the merge.

    A line is appended when the whole tensor is written. The writes of a killed process reach the disk; those before a
    crash of the machine may not, so a journal from before the last boot is ignored.

    Args:
        folder: the folder that is being filled.
        facts: everything that the bytes depend on: recipe, state of the sources, plan.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL_FILE
        text = json.dumps({**facts, "boot": boot()}, sort_keys=True, default=str)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self.kept: dict[str, dict[str, tuple[int, int]]] = dict(self._read())

    @property
    def finished(self) -> frozenset[str]:
        """The tensors that are completely written."""
        return frozenset(self.kept)

    def _read(self) -> list[Any]:
        lines: list[Any] = []
        with contextlib.suppress(OSError, ValueError):
            whole = [
                line for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
            ]
            lines = [json.loads(line) for line in whole]  # a kill may have truncated the last line, which is left out
        return lines[1:] if lines and lines[0] == self._key else []

    @property
    def can_resume(self) -> bool:
        """Whether an earlier process began the same merge and finished some of its tensors."""
        return bool(self.finished)

    def begin(self) -> None:
        """Start a new journal without finished tensors."""
        self.path.write_text(json.dumps(self._key) + "\n", encoding="utf-8")

    def add(self, tensor: str, kept: Mapping[str, tuple[int, int]]) -> None:
        """Add a finished tensor; `kept`: source → elements left by stages, and elements in all."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([tensor, kept]) + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
