"""Gives a reader hostile variants of its file: it reads them, or raises one error that names the file.

    PYTHONPATH=tests:src python tests/fuzz/fuzzing.py --seconds 600

prints each finding, with the number that makes it again, and ends with status 1 if there is one.
"""

import argparse
import contextlib
import io
import random
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path
from unittest.mock import patch

import huggingface_hub.file_download
import huggingface_hub.hf_api  # noqa: F401

from fuzz.files_of_others import Reader, readers
from fuzz.mutations import variant

MOST_SECONDS = 5
MOST_BYTES = 1 << 28
_OF_THE_LANGUAGE = (
    "JSONDecodeError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "RecursionError",
    "NotImplementedError",
)


class TooLongError(BaseException):
    """A reader takes longer than `MOST_SECONDS`."""


def finding(reader: Reader, number: int) -> str | None:
    """What is wrong with how a variant is read; None if nothing is.

    number: of the variant.
    """
    content = variant(reader.content, random.Random(f"{reader.name} {number}"))
    reader.file.write_bytes(content)
    try:
        offline = patch("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # names of models are not asked for
        with offline, _limited(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            reader.read()
        return None
    except (ValueError, OSError, RuntimeError) as error:
        named = reader.means or reader.file.name in str(error) or str(reader.file.parent.parent) in str(error)
        if named and type(error).__name__ not in _OF_THE_LANGUAGE:
            return None
        problem = f"{type(error).__name__}: {error}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of Rust are no Exceptions
        problem = f"{type(error).__name__}: {error}"
    finally:
        reader.file.write_bytes(reader.content)
    return f"{reader.name} {number}: {problem[:300]!r} from {content[:300]!r}"


@contextlib.contextmanager
def _limited():
    def late(*_: object) -> None:
        raise TooLongError(f"more than {MOST_SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
        if peak > MOST_BYTES:
            raise TooLongError(f"{peak:,} bytes")
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--first", type=int, default=0, help="the number of the first variant")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [reader for reader in readers(Path(folder)) if given.only in reader.name]
        end, number, found = time.monotonic() + given.seconds, given.first, 0
        while time.monotonic() < end:
            for reader in chosen:
                problem = finding(reader, number)
                if problem:
                    found += 1
                    print(problem, flush=True)
            number += 1
        print(f"{(number - given.first) * len(chosen):,} variants of {len(chosen)} files, {found} findings")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
