"""Whether merges use compiled loops, and from when on: as soon as they are loaded, whatever has been done by then.

No bit depends on it, so a merge begins at once, and goes on with the loops when a thread beside it has loaded them.
On first use they must be compiled, which takes some fifteen seconds: another process does that, for it and all later
ones. `MMGRID_KERNELS` says otherwise: "off" for never, "on" for always, and then a merge waits for them.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mmgrid.merging.arrays.cache import cache_folder

if TYPE_CHECKING:
    from mmgrid.merging.kernels.loading import Loops

log = logging.getLogger(__name__)

VARIABLE = "MMGRID_KERNELS"
PAYS_FROM = 1 << 26  # elements of all sources; below, llvmlite takes longer to import than the loops save
_PATIENCE = 300.0  # seconds for another process to compile
_FOLDER = Path(__file__).parent


class Choice:
    """The compiled loops of this process, once they are there."""

    def __init__(self) -> None:
        self._loops: Loops | None = None
        self._thread: threading.Thread | None = None
        self._starting, self._loading = threading.Lock(), threading.Lock()

    def begin(self, n_elements: int) -> bool:
        """Have the loops loaded, if a merge of so many elements gains from them; whether they are or will be."""
        wanted = os.environ.get(VARIABLE, "")
        if wanted == "off" or (wanted != "on" and n_elements < PAYS_FROM):
            return False
        with self._starting:
            if self._thread is None and is_installed():
                self._thread = threading.Thread(target=self._load, name="merge-kernels", daemon=True)
                # A process that ends lets a compiler beside it finish, but never ends in the middle of loading.
                atexit.register(self._loading.acquire)
                self._thread.start()
        if wanted == "on" and self._thread is not None:
            self._thread.join()
        return self._thread is not None

    @property
    def loops(self) -> Loops | None:
        """The loops, if they are loaded and wanted."""
        return None if os.environ.get(VARIABLE, "") == "off" else self._loops

    def _load(self) -> None:
        try:
            self._loops = _loaded(self._loading)
        except Exception as error:  # of any version of numba, llvmlite or a compiler: numpy does it all
            log.warning("merging goes on without compiled loops: %s", error)


CHOICE = Choice()


def is_installed() -> bool:
    """Whether numba is there."""
    return importlib.util.find_spec("numba") is not None


def _loaded(loading: threading.Lock) -> Loops | None:
    """The loops of the user's cache, compiled if they are not there; `loading` is held but while they are compiled."""
    with loading:
        from mmgrid.merging.kernels.loading import load, processor

        path = cache_folder() / "kernels" / f"{_digest(processor())}.bin"
        loops = load(path)
    if loops is None:
        compile_into(path)
        with loading:
            loops = load(path)
    return loops


def _digest(processor: str) -> str:
    """What machine code depends on: the processor, the compiler, and the loops as they are written."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite")]
    texts = [path.read_bytes() for path in sorted(_FOLDER.glob("*.py"))]
    parts = [processor, *versions, *(hashlib.sha256(text).hexdigest() for text in texts)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def compile_into(path: Path) -> None:
    """Compile the loops in another process, which does not hold up this one.

    Raises:
        RuntimeError: it did not succeed.
    """
    command = [sys.executable, "-m", "mmgrid.merging.kernels.compiling", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the compiler failed")
