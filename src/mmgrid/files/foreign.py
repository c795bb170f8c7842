"""Files that others wrote: whatever is wrong with one of them ends in one error, which names it.

Libraries that read models, tables and tokenizers index what they have not checked, and raise errors of any kind.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mmgrid.files.limits import limit_reached
from mmgrid.machine.unspoken import unspoken

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What the content of a file raises that is taken apart and has another form than expected."""

_SAYS_ENOUGH = (ValueError, OSError, RuntimeError)
_SAYS_LITTLE = (NotImplementedError, RecursionError)  # subclasses of RuntimeError


def explains_itself(error: BaseException) -> bool:
    """Whether the message of an error is enough for a user: errors of these types are raised on purpose, by plug-ins too."""
    enough = isinstance(error, _SAYS_ENOUGH) and not isinstance(error, _SAYS_LITTLE)
    return enough or limit_reached(error) is not None


def in_one_line(error: BaseException) -> str:
    """An error in one line, without secrets; its type is added where the message alone does not explain it."""
    text = limit_reached(error) or " ".join(unspoken(error).split())
    if text and explains_itself(error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def foreign(what: str | Path, raised: type[Exception], problem: str, remedy: str = "") -> Iterator[None]:
    """Within this context, which reads files of others and does nothing else, every error is a `raised`.

    One that is a `raised` already passes.

    Args:
        what: the file or folder.
        problem: what cannot be done with it, such as "cannot be loaded"; the error follows in brackets.
        remedy: what to do, in the imperative.
    """
    try:
        yield
    except raised:
        raise
    except Exception as error:
        advice = f"; {remedy}" if remedy else ""
        raise raised(f"{what}: {problem} ({_beginning(error)}){advice}") from error


def _beginning(error: Exception) -> str:
    """The first line of a message: those of libraries go on for many."""
    text = str(error).strip().partition("\n")[0].strip()
    return text if text and explains_itself(error) else f"{type(error).__name__}: {text}".removesuffix(": ")
