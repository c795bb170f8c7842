"""Where cells are built."""

from mmgrid.runners.events import Event, Outcome
from mmgrid.runners.local import default_jobs, run_local

__all__ = ["Event", "Outcome", "default_jobs", "run_local"]
