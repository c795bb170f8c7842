"""Experiment trackers, through Transformers' `report_to`. They watch a training and never change its result.

What a tracker writes on this machine lands in the folder that is given here, unless the user's own environment variable
of the tracker names another. Imports no torch.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
"""Tracker → the packages of which one must be installed; the last is the smallest."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError for a tracker that is unknown or not installed; the message says what to do."""
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"{name!r} is no tracker; known are {', '.join(PACKAGES)}")
        if not any(_is_installed(package) for package in PACKAGES[name]):
            raise ValueError(f"{name} is not installed: `pip install {PACKAGES[name][-1]}`, or remove it from the list")


def _is_installed(package: str) -> bool:
    with suppress(ValueError):  # a module that is half imported
        return find_spec(package) is not None
    return False


@dataclass(frozen=True)
class Tracking:
    """How one training is tracked.

    Attributes:
        report_to: names of trackers.
        project: the project (of mlflow: the experiment) that the run belongs to.
        run: its name.
        folder: for what trackers write on this machine; each has a folder of its own there.
        place: the folder of the run below that of TensorBoard, which takes its name from it.
    """

    report_to: tuple[str, ...]
    project: str
    run: str
    folder: Path
    place: str

    def environment(self) -> dict[str, str]:
        """The variables that tell the trackers project and folder."""
        return {
            "TENSORBOARD_LOGGING_DIR": str(self.folder / "tensorboard" / self.place),
            "TRACKIO_DIR": str(self.folder / "trackio"),
            "WANDB_DIR": str(self.folder / "wandb"),
            "WANDB_PROJECT": self.project,
            "MLFLOW_TRACKING_URI": f"sqlite:///{(self.folder / 'mlflow' / 'mlflow.db').as_posix()}",
            "MLFLOW_EXPERIMENT_NAME": self.project,
        }


@contextmanager
def tracked(tracking: Tracking | None) -> Iterator[None]:
    """Track the trainings inside. A run that a tracker left open is finished at the end, so the next has its own."""
    if tracking is None or not tracking.report_to:
        yield
        return
    added = {name: value for name, value in tracking.environment().items() if name not in os.environ}
    for name in ("wandb", "mlflow"):  # they make no folder
        if name in tracking.report_to:
            (tracking.folder / name).mkdir(parents=True, exist_ok=True)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        for name in ("wandb", "trackio"):
            finish = getattr(sys.modules.get(name), "finish", None) if name in tracking.report_to else None
            if finish is not None:
                with suppress(Exception):  # it has no open run
                    finish()
