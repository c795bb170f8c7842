"""Builds the cells of a grid, several at a time, on one machine or on several."""

from mmgrid.runners.crew import Crew
from mmgrid.runners.downloads import fetch_models
from mmgrid.runners.event_file import Entries
from mmgrid.runners.events import CellEvent, EventCallback, RunOutcome
from mmgrid.runners.local import LocalCrew, run_local
from mmgrid.runners.places import default_jobs
from mmgrid.runners.run import run_cells

__all__ = [
    "CellEvent",
    "Crew",
    "Entries",
    "EventCallback",
    "LocalCrew",
    "RunOutcome",
    "default_jobs",
    "fetch_models",
    "run_cells",
    "run_local",
]
