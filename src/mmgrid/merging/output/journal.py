"""What a merge has finished, so that a killed one can be gone on with instead of begun again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JOURNAL_FILE = "journal.jsonl"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """The finished tensors, one line each, behind a line that says of what merge.

    A line is appended when all of a tensor is written. A killed process leaves its writes with the system, so they
    are there; after a crash of the machine they may not be, and the journal is not believed.

    Args:
        folder: the folder that is being filled.
        facts: all that the bytes depend on: recipe, sources as they stand, plan.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL_FILE
        boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
        text = json.dumps({**facts, "boot": boot}, sort_keys=True, default=str)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self.kept: dict[str, dict[str, tuple[int, int]]] = dict(self._read())

    @property
    def finished(self) -> frozenset[str]:
        """The tensors that are written."""
        return frozenset(self.kept)

    def _read(self) -> list[Any]:
        lines: list[Any] = []
        with contextlib.suppress(OSError, ValueError):
            whole = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            lines = [json.loads(line) for line in whole]  # a kill may have cut the last one, which is left out
        return lines[1:] if lines and lines[0] == self._key else []

    @property
    def can_resume(self) -> bool:
        """Whether an earlier process began this very merge and finished some of it."""
        return bool(self.finished)

    def begin(self) -> None:
        """Start a new journal, with nothing finished."""
        self.path.write_text(json.dumps(self._key) + "\n")

    def add(self, tensor: str, kept: Mapping[str, tuple[int, int]]) -> None:
        """All of a tensor is written; `kept`: source → elements that stages left, and elements in all."""
        with self.path.open("a") as stream:
            stream.write(json.dumps([tensor, kept]) + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
