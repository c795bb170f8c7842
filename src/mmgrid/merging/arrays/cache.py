"""Where what can be made again is remembered."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where the user's caches are: `$XDG_CACHE_HOME/mmgrid`, by default `~/.cache/mmgrid`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmgrid"
