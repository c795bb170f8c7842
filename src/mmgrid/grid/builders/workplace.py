"""Where a cell is built: its folder, the step checkpoints of its training, and who is told of its progress."""

import os
from dataclasses import dataclass
from pathlib import Path

from mmgrid.store import STEP_FOLDER
from mmgrid.training import StepProgress

SAVE_VARIABLE = "MMGRID_SAVE_SECONDS"


@dataclass(frozen=True)
class Workplace:
    """Of one cell in work."""

    folder: Path
    progress: StepProgress | None = None

    @property
    def step_folder(self) -> Path:
        """Where step checkpoints live until the cell is published."""
        return self.folder / STEP_FOLDER

    def save_seconds(self, default: float) -> float:
        """Least time between two step checkpoints; MMGRID_SAVE_SECONDS sets it, and it changes no weight."""
        text = os.environ.get(SAVE_VARIABLE)
        try:
            seconds = default if not text else float(text)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            raise ValueError(f"{SAVE_VARIABLE} is {text!r}: expected seconds, a number from 0")
        return seconds
