"""Decides whether a merge uses compiled loops: by default, large merges use them as soon as they are loaded.

Both paths give the same bits, so a merge starts with numpy at once and switches to the loops when a background thread
has loaded them. On first use they must be compiled, which takes about fifteen seconds: another process does that and
caches the result for later runs. `MMGRID_KERNELS` overrides the choice: "off" never uses the loops; "on" always uses
them, and the merge waits until they are loaded.
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
PAYS_FROM = 1 << 26  # elements of all sources; below this, importing llvmlite takes longer than the loops save
_PATIENCE = 300.0  # seconds for another process to compile
_FOLDER = Path(__file__).parent


class Choice:
    """Loads the compiled loops of this process in the background, and holds them."""

    def __init__(self) -> None:
        self._loops: Loops | None = None
        self._thread: threading.Thread | None = None
        self._starting, self._loading = threading.Lock(), threading.Lock()

    def begin(self, n_elements: int) -> bool:
        """Starts loading the loops if a merge of `n_elements` gains from them. Returns whether loading was started."""
        wanted = os.environ.get(VARIABLE, "")
        if wanted == "off" or (wanted != "on" and n_elements < PAYS_FROM):
            return False
        with self._starting:
            if self._thread is None and is_installed():
                self._thread = threading.Thread(target=self._load, name="merge-kernels", daemon=True)
                # The process may exit while the other one compiles, but not in the middle of loading.
                atexit.register(self._loading.acquire)
                self._thread.start()
        if wanted == "on" and self._thread is not None:
            self._thread.join()
        return self._thread is not None

    @property
    def loops(self) -> Loops | None:
        """The loops, if they are loaded and not switched off."""
        return None if os.environ.get(VARIABLE, "") == "off" else self._loops

    def _load(self) -> None:
        try:
            self._loops = _loaded(self._loading)
        except Exception as error:  # numba, llvmlite and compilers raise many types; numpy can do everything
            log.warning("merging continues without compiled loops: %s", error)


CHOICE = Choice()


def is_installed() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def _loaded(loading: threading.Lock) -> Loops | None:
    """The loops from the user's cache, compiled first if missing. Holds `loading` except during compilation."""
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
    """Digest of everything that the machine code depends on: processor, compiler versions, source of the loops."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite")]
    texts = [path.read_bytes() for path in sorted(_FOLDER.glob("*.py"))]
    parts = [processor, *versions, *(hashlib.sha256(text).hexdigest() for text in texts)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def compile_into(path: Path) -> None:
    """Compiles the loops in another process, so that this one is not slowed down.

    Raises:
        RuntimeError: compilation failed.
    """
    command = [sys.executable, "-m", "mmgrid.merging.kernels.compiling", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the compiler failed")
