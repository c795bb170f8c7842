"""Where a limit of the system is reached, one sentence says which, and what to do."""

import errno
import os

import pytest

from mmgrid.files.foreign import explains_itself, in_one_line
from mmgrid.files.limits import limit_reached


class PanicException(BaseException):
    """What Polars raises where its code in Rust gives up."""


AGAIN = os.strerror(errno.EAGAIN)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, AGAIN),  # of a fork
        PanicException(f'failed to spawn polars-ooc cleaner thread: Os {{ code: 11, message: "{AGAIN}" }}'),
        PanicException(f'could not spawn threads: ThreadPoolBuildError {{ message: "{AGAIN}" }}'),
    ],
)
def test_a_lack_of_threads_is_the_users_to_mend_and_no_fault_of_ours(error: BaseException) -> None:
    assert explains_itself(error)
    assert in_one_line(error).startswith("no more threads or processes can be started. Allow more (`ulimit -u`")


def test_a_file_without_a_name_is_not_named() -> None:
    said = limit_reached(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert said is not None
    assert said.startswith("too many files are open at once; nothing is wrong")
    named = limit_reached(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "shard.safetensors"))
    assert named is not None
    assert "(the last one was shard.safetensors)" in named


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking"),
        RuntimeError("failed to spawn: no such file"),
        PanicException("index out of bounds"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "config.json"),
    ],
)
def test_other_errors_are_as_they_were(error: BaseException) -> None:
    assert limit_reached(error) is None
