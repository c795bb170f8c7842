"""Where a cell is built: its folder, the step checkpoints of its training, a callback for progress, and trackers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mmgrid.grid.file.spec import TrainingSpec
from mmgrid.store import STEP_FOLDER
from mmgrid.training import StepProgress
from mmgrid.training.tracking import Tracking

SAVE_VARIABLE = "MMGRID_SAVE_SECONDS"


@dataclass(frozen=True)
class Workplace:
    """The workplace of one cell while it is built."""

    folder: Path
    progress: StepProgress | None = None
    tracking: Tracking | None = None
    training: TrainingSpec = field(default_factory=TrainingSpec)

    @property
    def step_folder(self) -> Path:
        """The folder of step checkpoints until the cell is published."""
        return self.folder / STEP_FOLDER

    def save_seconds(self, default: float) -> float:
        """Minimum seconds between two step checkpoints; they do not change the weights.

        Set by MMGRID_SAVE_SECONDS, otherwise by the grid's `training.save_minutes`.
        """
        if self.training.save_minutes is not None:
            default = 60 * self.training.save_minutes
        text = os.environ.get(SAVE_VARIABLE)
        try:
            seconds = default if not text else float(text)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            raise ValueError(f"{SAVE_VARIABLE} is {text!r}: must be a number of seconds, 0 or more")
        return seconds
