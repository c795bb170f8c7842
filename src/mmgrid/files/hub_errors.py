"""One clear line for whatever goes wrong between this machine and the Hugging Face Hub, with what to do.

The Hub's library raises errors of several lines, with addresses and request ids, and wraps some of them in others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mmgrid.files.disk import chain
from mmgrid.machine.unspoken import unspoken

_LOG_IN = "run `hf auth login`, or set HF_TOKEN"
_AGAIN = "run the same command again"


class HubError(ValueError):
    """Something on the Hub cannot be read or written; the message says why, and what to do."""


@contextlib.contextmanager
def clear_hub_errors(what: str, *, writing: bool = False) -> Iterator[None]:
    """Within this context, errors of the Hub and of the connection to it are raised as `HubError`.

    Args:
        what: the model, as the user named it.
        writing: whether something is uploaded.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        reason = _reason(error, what, writing)
        if reason is None:
            raise
        raise HubError(f"{what}: {reason}") from error


def _reason(error: Exception, what: str, writing: bool) -> str | None:
    """Why, in one line; None if the error has nothing to do with the Hub."""
    from huggingface_hub import errors

    causes = list(chain(error))
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            return f"the model is gated: accept its terms on its page on the Hub, then {_LOG_IN}"
        if isinstance(cause, errors.RevisionNotFoundError):
            return "the Hub has the model, but not this revision; name a branch, a tag or a full commit"
        if isinstance(cause, errors.HfHubHTTPError):
            return _of_answer(cause, writing)
    for cause in causes:
        if isinstance(cause, errors.LocalTokenNotFoundError):
            return f"the Hub must know who you are: {_LOG_IN}"
        if isinstance(cause, errors.HFValidationError):
            return "is not a name on the Hub; it must be NAME or ORG/NAME, of letters, digits and - _ ."
        if isinstance(cause, errors.OfflineModeIsEnabled):
            if writing:
                return "cannot be uploaded while HF_HUB_OFFLINE is set; unset it"
            fetch = f"`hf download {what.replace('@', ' --revision ')}`"
            return (
                "is not (or not wholly) in the Hub's cache on this machine, and HF_HUB_OFFLINE is set; unset it, "
                f"or fetch the model beforehand ({fetch})"
            )
    for cause in causes:
        if type(cause).__name__ == "ConnectError":
            return f"the Hub cannot be reached ({_first_line(cause)}): check the network, then {_AGAIN}"
        if isinstance(cause, errors.HTTPError):  # of httpx, or its successor: the connection
            return f"the connection to the Hub failed ({_first_line(cause)}); {_kept(writing)}"
    for cause in causes:
        if isinstance(cause, errors.LocalEntryNotFoundError):
            return "is not in the Hub's cache on this machine, and the Hub cannot be reached"
        if "consistency check failed" in str(cause).lower():
            return f"a file arrived incomplete; {_kept(writing)}"
        if type(cause).__module__.partition(".")[0] == "hf_xet" or "xet" in type(cause).__name__.lower():
            return f"the connection to the Hub's storage failed ({_first_line(cause)}); {_kept(writing)}"
        if "LFS batch API returned errors" in str(cause):
            return f"the Hub refuses a file ({_first_line(cause)}); nothing was changed there"
    return None


def _of_answer(error: Any, writing: bool) -> str:
    """For an answer of the Hub with an error code."""
    code = error.response.status_code
    if code == 401 and writing:
        return f"the Hub does not accept your token, or there is none: {_LOG_IN} to a token that may write"
    if code == 401 and "invalid" in str(error).lower():
        return f"the Hub does not accept your token: {_LOG_IN} to another one"
    if code in (401, 404):
        return f"the Hub has no model of this name, or it is private or gated: check the name, or {_LOG_IN}"
    if code == 403:
        return f"your token has no right to {'write' if writing else 'read'} there; {_LOG_IN} to one that has"
    if code == 429:
        seconds = _wait(error.response.headers)
        wait = f"{seconds} seconds" if seconds else "some minutes"
        return f"the Hub limits requests (429): wait {wait}, then {_AGAIN}"
    if code in (409, 412):
        return f"somebody else changed it on the Hub at the same time ({code}); {_AGAIN}"
    if code >= 500:
        return f"the Hub has a problem ({code}); {_kept(writing)}"
    return f"the Hub refuses the request ({code}: {_first_line(error.server_message or error)})"


def _wait(headers: Any) -> int | None:
    """Seconds to wait, as an answer states them."""
    after = str(headers.get("Retry-After") or "").strip()
    if after.isdecimal():
        return int(after)
    _, _, reset = str(headers.get("ratelimit") or "").partition(";t=")
    return int(reset) if reset.isdecimal() else None


def _kept(writing: bool) -> str:
    if writing:
        return f"a commit is made whole or not at all, and what was uploaded is not sent again: {_AGAIN} later"
    return f"what has arrived is kept: {_AGAIN} later"


def _first_line(error: object) -> str:
    lines = (unspoken(error) or repr(error)).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
