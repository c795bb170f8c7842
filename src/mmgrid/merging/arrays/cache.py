"""The folder for caches."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME/mmgrid`, by default `~/.cache/mmgrid`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmgrid"
