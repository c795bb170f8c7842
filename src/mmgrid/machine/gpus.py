"""The GPUs that this process may use, asked of the driver, so that nobody needs to import torch for it."""

import os
import re
import shutil
import subprocess

from mmgrid.machine.rates import RATES, Rate

VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS = 20.0  # a driver that does not answer has no GPUs for us


def visible_gpus() -> tuple[str, ...]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them: those that the variable leaves, else all; empty without any."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        found = [name.strip() for name in named.split(",")]
        # What stands behind an invalid name is invisible; -1 is the usual one.
        return tuple(found[: next((place for place, name in enumerate(found) if name in ("", "-1")), len(found))])
    return tuple(str(number) for number, _ in enumerate(_names()))


def gpu_rate() -> Rate | None:
    """The rate of this machine's first GPU; None without one that is known."""
    visible, names = visible_gpus(), _names()
    if not visible or not names:
        return None
    first = int(visible[0]) if visible[0].isdigit() and int(visible[0]) < len(names) else 0
    return rate_of_gpu(names[first])


def rate_of_gpu(name: str) -> Rate | None:
    """The rate of a GPU by the driver's name, such as "NVIDIA A100-SXM4-80GB"; None if it is not known."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    if "rtx" in words and "4090" in words:
        return RATES["rtx4090"]
    # "RTX A1000" and "L40" have other rates than A100 and L4; an A100 with 40 GB holds less than the one that is known.
    return None if "40gb" in words else next((RATES[word] for word in words if word in RATES), None)


def _names() -> list[str]:
    """The driver's names of all GPUs, in the order of their numbers."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        answer = subprocess.run(
            [command, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
