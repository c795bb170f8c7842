"""Memory that was freed goes back to the system."""

import ctypes
import sys


def release_freed() -> None:
    """Return what the C library keeps of freed memory, where it can be told to (glibc).

    Millions of texts that came and went leave gaps, which it keeps for later ones: hundreds of MiB after a large file.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # musl has none
    if trim is not None:
        trim(0)
