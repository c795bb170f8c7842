"""Runs a piece of work in several processes of this machine that train one model together.

Each process has a GPU of its own among those that this one sees (NCCL), or computes on the cores (gloo). The first one's
progress and result are passed on. If one fails or dies, the others are ended: they would wait for it for ever.
"""

import faulthandler
import logging
import multiprocessing as mp
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from mmgrid.backbone.device import device
from mmgrid.files.foreign import in_one_line
from mmgrid.machine.orphans import end_with_parent
from mmgrid.training.errors import TrainingError
from mmgrid.training.progress import StepProgress
from mmgrid.training.share import Share
from mmgrid.visible import VisibleFormatter

logger = logging.getLogger(__name__)

Work = Callable[[StepProgress | None], Any]
"""What each process does: it is given the callback for progress, and what it returns counts for the first one only."""
SECOND_SIGNS = 1.0  # seconds in which the cause of a failure is looked for: the others fail when a process dies
END_SECONDS = 10.0


class _DiedError(TrainingError):
    """A process ended without a word."""


@dataclass
class _Process:
    """A process, and our end of its pipe."""

    share: Share
    process: SpawnProcess
    pipe: Connection

    def end(self, *, at_once: bool) -> None:
        if not at_once:
            self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> _DiedError:
        self.process.join()
        return _DiedError(
            f"process {self.share.index + 1} of the {self.share.of} of this training ended with code "
            f"{self.process.exitcode} (was it out of memory, or killed?)"
        )


def in_processes(work: Work, count: int, progress: StepProgress | None = None) -> Any:
    """Do `work` in `count` processes; returns what the first one returns.

    Args:
        work: can be pickled, with the module that it is from.
        progress: called in this process with the progress of the first one.

    Raises:
        TrainingError: there are too few GPUs for them, or a process has died; the message names it and its exit code.
        Exception: the error of the process that failed first.
    """
    if device() == "mps":
        raise TrainingError(f"processes = {count}: on a Mac, one process trains; set processes = 1")
    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise TrainingError(
            f"processes = {count} needs as many GPUs, and {torch.cuda.device_count()} are visible; set processes to "
            "that, which gives the same results"
        )
    with TemporaryDirectory(prefix="mmgrid-") as folder:
        started: list[_Process] = []
        done = False
        try:
            meeting = Path(folder) / "meeting"
            started.extend(_start(work, Share(index, count), meeting, progress is not None) for index in range(count))
            result = _followed(started, progress)
            done = True
            return result
        finally:
            for one in started:
                one.end(at_once=not done)


def _start(work: Work, share: Share, meeting: Path, reports: bool) -> _Process:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, work, share, meeting, reports), daemon=True)
    process.start()
    theirs.close()
    return _Process(share, process, ours)


def _followed(processes: list[_Process], progress: StepProgress | None) -> Any:
    """Receive what the processes send until all are done; returns the result of the first."""
    working: dict[Any, _Process] = {one.pipe: one for one in processes}
    result = None
    while working:
        for index, (kind, value) in _received(working, None):
            if kind == "failed":
                raise _cause(value, working)
            if kind == "progress" and progress is not None:
                progress(*value)
            elif kind == "done" and index == 0:
                result = value
    return result


def _received(working: dict[Any, _Process], seconds: float | None) -> list[tuple[int, tuple[str, Any]]]:
    """The next message of each process that has one, deaths first; a process that is done or has failed is taken out."""
    found = []
    for pipe in wait([*working], seconds):
        one = working[pipe]
        try:
            message = pickle.loads(one.pipe.recv_bytes())
        except (EOFError, OSError):
            message = ("failed", one.death())
        if message[0] != "progress":
            del working[pipe]
        found.append((one.share.index, message))
    return sorted(found, key=lambda each: not isinstance(each[1][1], _DiedError))


def _cause(first: BaseException, working: dict[Any, _Process]) -> BaseException:
    """The error to report: that of a process that died, if one did, since it made the others fail."""
    others = _received(working, SECOND_SIGNS) if working and not isinstance(first, _DiedError) else ()
    return next((error for _, (_, error) in others if isinstance(error, _DiedError)), first)


def _run(pipe: Connection, work: Work, share: Share, meeting: Path, reports: bool) -> None:
    """The main function of a process."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends its processes
    _log(share)

    def send(kind: str, value: Any) -> None:
        pipe.send_bytes(pickle.dumps((kind, value)))  # `send` would leave tensors in memory of this process

    def progress(step: int, steps: int, loss: float | None) -> None:
        send("progress", (step, steps, loss))

    try:
        with _together(share, meeting):
            result = work(progress if reports and share.index == 0 else None)
        send("done", result if share.index == 0 else None)
    except BaseException as error:
        logger.error("process %d of %d failed", share.index + 1, share.of, exc_info=error)
        with suppress(OSError):
            send("failed", sendable(error))
    pipe.close()


@contextmanager
def _together(share: Share, meeting: Path) -> Iterator[None]:
    """Within it, the process belongs to a group, which accelerate and torch find by themselves."""
    os.environ |= _environment(share)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(share.index)
        backend = "cuda:nccl,cpu:gloo"
    dist.init_process_group(backend, init_method=meeting.as_uri(), rank=share.index, world_size=share.of)
    yield
    dist.destroy_process_group()  # after an error it could wait for the others


def _environment(share: Share) -> Mapping[str, str]:
    """What torchrun would set; the address is not used, since the processes meet in a file."""
    index, of = str(share.index), str(share.of)
    ranks = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": of, "LOCAL_WORLD_SIZE": of}
    return ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def _log(share: Share) -> None:
    """Log to the error stream, which is that of the parent: all of the first process, and warnings of the others."""
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("mmgrid").setLevel(logging.INFO if share.index == 0 else logging.WARNING)
    logging.captureWarnings(True)
    faulthandler.enable()


def sendable(error: BaseException) -> BaseException:
    """The error itself if it can be pickled, else one with its message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return TrainingError(in_one_line(error))
    return error
