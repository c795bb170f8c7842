"""What a process may have no more of: open files, threads and processes, folders for temporary files."""

import errno
import os

_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


def limit_reached(error: BaseException) -> str | None:
    """What to do where a limit of the system is reached; None for every other error, and for one that says so already."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES and error.strerror:
        last = "" if error.filename is None else f" (the last one was {error.filename})"
        return (
            f"too many files are open at once{last}; nothing is wrong with them. Allow more, with `ulimit -n 4096` "
            "before the command, or use fewer workers, then run the same command again"
        )
    if _no_thread(error, text):
        return (
            "no more threads or processes can be started. Allow more (`ulimit -u`, or the limit of your container or "
            "job), or more memory (`ulimit -v`), or use fewer --jobs or --workers, then run the same command again"
        )
    tried = text.partition("No usable temporary directory found in ")[2]
    if tried and isinstance(error, FileNotFoundError):
        return f"no folder for temporary files can be written (tried: {tried.strip('[]')}): set TMPDIR to one that can"
    return None


def _no_thread(error: BaseException, text: str) -> bool:
    if isinstance(error, OSError):  # of a fork; a stream that would block says other words
        return error.errno == errno.EAGAIN and error.strerror == os.strerror(errno.EAGAIN)
    # Of Python; and of what is written in Rust, such as Polars, which panics.
    return "can't start new thread" in text or ("spawn" in text and os.strerror(errno.EAGAIN) in text)
