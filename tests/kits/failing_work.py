"""Work that fails in one of two processes, while the other waits for it; and an odd error."""

import os
import signal
from pathlib import Path

import torch.distributed as dist

from mmgrid.training.progress import StepProgress


def die(folder: Path, progress: StepProgress | None) -> None:
    """The second process is killed while the first waits for it."""
    if dist.get_rank() == 0:
        (folder / "waiting").write_text(str(os.getpid()))
    dist.barrier()
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


class OddError(ValueError):
    """One that cannot be pickled."""

    def __init__(self, one: int, other: int):
        super().__init__(f"{one} is not {other}")
