"""Builds the cells of a grid, several at a time on one machine."""

from mmgrid.runners.event_file import Entries
from mmgrid.runners.events import CellEvent, EventCallback, RunOutcome
from mmgrid.runners.local import default_jobs, run_local

__all__ = ["CellEvent", "Entries", "EventCallback", "RunOutcome", "default_jobs", "run_local"]
