"""Processes in which the package sees another system: neither `/proc`, nor modules and calls that Windows or macOS lack.

Only the package itself is deprived; other packages know the system they were built for.
"""

import os
from pathlib import Path

# Python imports `sitecustomize` at start-up if it finds a module of this name; so worker processes are deprived too.
_DEPRIVED = """\
import builtins, os, signal, types
from pathlib import Path

ABSENT = {"fcntl", "grp", "pwd", "resource", "termios"}
CALLS = '''
    O_CLOEXEC O_DIRECT O_DIRECTORY O_NOFOLLOW chown copy_file_range fchmod fdatasync fork forkpty geteuid getgid
    getloadavg getpgid getuid killpg mkfifo nice posix_fadvise posix_fallocate pread preadv pwrite pwritev
    register_at_fork sched_getaffinity sched_setaffinity sendfile setsid statvfs sync sysconf uname waitid
'''.split()
SIGNALS = "SIGALRM SIGHUP SIGKILL SIGUSR1 alarm".split()


def without(module, names):
    deprived = types.ModuleType(module.__name__)
    deprived.__dict__.update({name: value for name, value in vars(module).items() if name not in names})
    return deprived


deprived = {"os": without(os, CALLS), "signal": without(signal, SIGNALS)}
deprived["os"].supports_fd = frozenset()
usual = builtins.__import__


def import_deprived(name, scope=None, *others, **named):
    if scope and str(scope.get("__name__")).partition(".")[0] == "mmgrid":
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in deprived:
            return deprived[name]
    return usual(name, scope, *others, **named)


builtins.__import__ = import_deprived

from mmgrid.machine import memory, processes

processes._PROC, memory._STATUS = Path("/nowhere"), Path("/nowhere/status")
"""


def deprived_environment(folder: Path) -> dict[str, str]:
    """The environment of a process in which the package, in worker processes too, is deprived."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_DEPRIVED, encoding="utf-8")
    kits = str(Path(__file__).parents[1])
    path = os.pathsep.join([str(folder), kits, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
