"""Runs the command line in separate processes, with failures injected at a planned moment."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

PATIENCE_SECONDS = 300.0  # time limit of a process on a busy machine

# Python imports `sitecustomize` at start-up if it finds a module of this name.
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

    `code` can use the modules `worker` and `store`, to patch them, and `build_cell`, the worker's original function.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_ACCIDENT + textwrap.indent(textwrap.dedent(code), "    "))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def start(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts `mmgrid` with these arguments in a new session."""
    return subprocess.Popen(
        [sys.executable, "-c", "from mmgrid.cli.main import console; console()", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # tests under nohup ignore it
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Waits for the end; returns exit code, output and errors."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out, err


def kill(process: subprocess.Popen[str]) -> None:
    """Kills the process and all processes that it started, with SIGKILL."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Waits for a condition; `process` must not end before."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < patience, "the condition was not reached in time"
        time.sleep(0.005)


def living(session: int) -> list[str]:
    """The command lines of all living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(stat.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # the process has just ended
            continue
    return found
