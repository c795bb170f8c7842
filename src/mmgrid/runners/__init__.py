"""Builds the cells of a grid, several at a time on one machine."""

from mmgrid.runners.downloads import fetch_models
from mmgrid.runners.event_file import Entries
from mmgrid.runners.events import CellEvent, EventCallback, RunOutcome
from mmgrid.runners.local import run_local
from mmgrid.runners.places import default_jobs

__all__ = ["CellEvent", "Entries", "EventCallback", "RunOutcome", "default_jobs", "fetch_models", "run_local"]
