"""The command line as processes of its own, and accidents that befall them at a planned moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PATIENCE_SECONDS = 300.0  # how long a process may take on a busy machine

# Python runs a module of this name, where it finds one, before anything else.
_ACCIDENT = """\
import sys

if any("spawn_main" in argument for argument in sys.orig_argv):  # only where cells are built
    import os, signal, time
    from pathlib import Path

    from mmgrid.runners import worker
    from mmgrid.store import store

    build_cell = worker.build_cell

"""


def accident(folder: Path, code: str) -> dict[str, str]:
    """An environment in which each process that builds cells first runs `code`.

    It finds `worker` and `store`, the modules to tamper with, and `build_cell`, the worker's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_ACCIDENT + textwrap.indent(textwrap.dedent(code), "    "))
    return {"PYTHONPATH": str(folder)}


def start(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`mmgrid` with these arguments, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from mmgrid.cli.main import main; main()", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and errors, once it has ended."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, err


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 for it and all processes that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for what another process does; it must not end before."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < patience, "it never came"
        time.sleep(0.005)


def living(session: int) -> list[str]:
    """The command lines of all living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(stat.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has just ended
            continue
    return found
