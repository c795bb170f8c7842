"""Builds the native loops: a shared library of plain C, once, when the package is installed. Standard library only.

The loops are compiled once for each level of instructions; which level a machine can run is asked when they are loaded.
`hatch_build.py` calls this for wheels and editable installations. In an installed package,
`python -m mmgrid.merging.kernels.building` builds them later, once there is a C compiler.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
LIBRARY = SOURCES / {"win32": "loops.dll", "darwin": "loops.dylib"}.get(sys.platform, "loops.so")

# Level → what the compiler may use beyond the least that every processor of its kind has. In rising order.
LEVELS: Mapping[str, Sequence[str]] = {
    "base": (),
    "avx2": ("-mavx2", "-mbmi2", "-mpopcnt"),
    "avx512": (
        *("-mavx2", "-mbmi2", "-mpopcnt", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        "-mprefer-vector-width=512",
    ),
}
# No product is fused into a sum, and no sum reordered: the bits are numpy's. Floating-point exceptions are not looked at.
_FLAGS = (
    *("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    *(("-fvisibility=hidden",) if sys.platform == "win32" else ("-fPIC", "-fvisibility=hidden")),
)
_COMPILERS = ("cc", "gcc", "clang")
_PATIENCE_SECONDS = 300


class CannotBuild(Exception):  # noqa: N818
    """There is no C compiler, or it fails; the message says why."""


def digest() -> str:
    """The digest of everything that the library depends on: its sources and how they are compiled."""
    whole = hashlib.sha256(repr((_FLAGS, LEVELS)).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def build(target: Path = LIBRARY) -> Path:
    """Compiles the library to `target`, which is replaced once the new one is whole and can be loaded.

    `CC` names the compiler, `ARCHFLAGS` the architecture on macOS.

    Raises:
        CannotBuild: there is no compiler, or it fails.
    """
    import tempfile

    compiler, machine = _compiler(), os.environ.get("ARCHFLAGS", "").split()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        objects, levels = [], list(LEVELS) if _is_x86(machine) else ["base"]
        built = []
        for level in levels:
            made = Path(folder) / f"{level}.o"
            try:
                _run(*compiler, *machine, *_FLAGS, *LEVELS[level], f"-DLEVEL={level}", "-c", str(SOURCES / "loops.c"), "-o", str(made))  # fmt: skip
            except CannotBuild:
                if level == "base":
                    raise
                break  # an old compiler: the levels below do
            objects.append(str(made))
            built.append(level)
        about = str(Path(folder) / "about.o")
        known = [f"-DHAS_{level.upper()}" for level in built]
        _run(*compiler, *machine, *_FLAGS, *known, f'-DDIGEST="{digest()}"', "-c", str(SOURCES / "about.c"), "-o", about)  # fmt: skip
        shared = ("-dynamiclib",) if sys.platform == "darwin" else ("-shared",)
        static = ("-static-libgcc",) if sys.platform == "win32" else ()
        library = Path(folder) / target.name
        _run(*compiler, *machine, *shared, *static, *objects, about, "-o", str(library))
        if not machine and not is_current(library):
            raise CannotBuild(f"{compiler[0]}: what it builds cannot be loaded by {sys.executable}")
        library.replace(target)
    return target


def is_current(library: Path = LIBRARY) -> bool:
    """Whether a library can be loaded, in a process of its own, and was built from the sources as they are."""
    import subprocess

    script = (
        "import ctypes, sys; l = ctypes.CDLL(sys.argv[1]); l.mmgrid_digest.restype = ctypes.c_char_p; "
        "l.mmgrid_level(); sys.exit(l.mmgrid_digest().decode() != sys.argv[2])"
    )
    command = [sys.executable, "-I", "-c", script, str(library), digest()]
    return library.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _compiler() -> list[str]:
    import shlex
    import shutil

    wanted = shlex.split(os.environ.get("CC", ""))
    for command in [wanted] if wanted else [[name] for name in _COMPILERS]:
        if shutil.which(command[0]):
            return command
    raise CannotBuild(f"no C compiler: {' '.join(wanted) or ', '.join(_COMPILERS)} is not on the path")


def _is_x86(machine: Sequence[str]) -> bool:
    """Whether the library is for x86-64 alone, by macOS's `-arch` flags or else by this machine."""
    import itertools
    import platform

    named = [name for flag, name in itertools.pairwise(machine) if flag == "-arch"] or [platform.machine()]
    return sys.maxsize > 2**32 and {name.lower() for name in named} <= {"x86_64", "amd64"}


def _run(*command: str) -> None:
    import subprocess

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{command[0]}: {error}") from error
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}: exit code {done.returncode}:\n{done.stderr.strip()[-2000:]}")


def main() -> int:
    """Builds the library if it is missing or old. Returns the exit code."""
    try:
        print(LIBRARY if is_current() else build())
    except CannotBuild as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
