"""Requests over HTTP to servers that stall, cut and are busy: attempts in a row, with a pause between them."""

import contextlib
import logging
import re
import ssl
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from mmgrid.files import addresses, http_headers

_LOG = logging.getLogger(__name__)

_WHOLE = (200, 203)
_GONE = (404, 410)
_BUSY = (202, 408, 425, 429)  # and the errors of servers but these:
_LASTING = (501, 505, 511)
_LONGEST_SECONDS = 60.0  # between two attempts, if the server does not say
_SAID_SECONDS = 5.0  # a pause of which one is told


class DownloadError(OSError):
    """A file could not be downloaded; the message names its address, the reason and the remedy."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    attempts: in a row without a byte. timeout_seconds: without a byte within one attempt. pause_seconds: before the second
    attempt, doubled for each later one. most_pause_seconds: a server that asks for a longer pause is not waited for.
    """

    attempts: int = 6
    timeout_seconds: float = 60.0
    pause_seconds: float = 1.0
    most_pause_seconds: float = 900.0
    sleep: Callable[[float], None] = time.sleep


PATIENCE = Patience()


class Attempts:
    """Counts attempts in a row without a byte, and waits between them. Raises DownloadError if `url` is no address over HTTP."""

    def __init__(self, url: str, patience: Patience) -> None:
        if (problem := addresses.problem(url)) is not None:
            raise DownloadError(f"{addresses.shown(url)}: {problem}")
        self.url, self.patience, self.failed, self.most = url, patience, 0, 0

    def heard(self, arrived: int) -> None:
        """So many bytes have arrived; if these are more than ever, the server gets all attempts again."""
        if arrived > self.most:
            self.failed, self.most = 0, arrived

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """One attempt. If it fails in a way that may pass, it ends after a pause. Raises DownloadError otherwise."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            if not is_busy(error.code):
                raise DownloadError(f"{self.url}: {_refused(error, self.url)}") from error
            self._wait(f"the server answers {_code(error)}", http_headers.pause_seconds(error.headers), error)
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"{self.url}: its certificate is not valid ({reason}); check the address"
                ) from error
            if isinstance(reason, TimeoutError):
                reason = f"nothing came for {self.patience.timeout_seconds:g} s"
            self._wait(_readable(str(reason)) or type(error).__name__, None, error)

    def _wait(self, why: str, asked_seconds: float | None, error: Exception) -> None:
        self.failed += 1
        if (proxy := _proxy(self.url)) is not None:
            why += f" (through the proxy {proxy})"
        longest = self.patience.most_pause_seconds
        later = "what has arrived is kept: run the same command again"
        if asked_seconds is not None and asked_seconds > longest:
            raise DownloadError(f"{self.url}: {why}, and asks to wait {asked_seconds:,.0f} s; {later} then") from error
        if self.failed >= self.patience.attempts:
            raise DownloadError(f"{self.url}: {why}, after {self.failed} attempts; {later} later") from error
        pause = self.patience.pause_seconds * 2 ** (self.failed - 1)
        pause = min(pause, _LONGEST_SECONDS) if asked_seconds is None else asked_seconds
        if pause >= _SAID_SECONDS:
            _LOG.warning("%s: %s; is asked again in %.0f s", self.url, why, pause)
        self.patience.sleep(pause)


def answer_of(url: str, headers: dict[str, str], patience: Patience, method: str = "GET") -> Any:
    """The answer of the server: with the file, with a part of it, or 416 to a request for a part.

    Raises HTTPError for any other answer, also for a success without a file.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "mmgrid", "Accept-Encoding": "identity"} | headers)
    request.method = method
    try:
        with network():
            answer = urllib.request.build_opener(_Redirects).open(request, timeout=patience.timeout_seconds)
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in headers:
            return error
        raise
    if answer.status in (*_WHOLE, 206):
        return answer
    raise urllib.error.HTTPError(url, answer.status, answer.reason, answer.headers, answer)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other addresses over HTTP, and to nothing else; what is only looked at is only looked at there."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = headers.get("location") or headers.get("uri")
        if target and (problem := _unreachable(req.full_url, target)):
            raise urllib.error.HTTPError(
                req.full_url, code, f"to {addresses.shown(target)}, which {problem}", headers, fp
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None:
            found.method = req.get_method()
        return found


def _unreachable(url: str, target: str) -> str | None:
    """Why a server cannot be asked for what it sends us to; None if it can."""
    try:
        place = urllib.parse.urljoin(url, urllib.parse.quote(target, safe=string.punctuation))
    except ValueError as error:
        return f"is no address ({error})"
    return addresses.problem(re.split("[?#]", place, maxsplit=1)[0])


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Tell errors of the network from those of the disk: an error of the system, such as a host that cannot be reached,
    becomes a ConnectionError.
    """
    try:
        yield
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError):
        raise
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


def is_busy(code: int) -> bool:
    """Whether a status may pass."""
    return code in _BUSY or (code >= 500 and code not in _LASTING)


def is_gone(code: int) -> bool:
    """Whether a status says that there is no such file."""
    return code in _GONE


def _refused(error: urllib.error.HTTPError, url: str) -> str:
    if is_gone(error.code):
        return "the server has no such file; check the name of the domain and the address"
    if error.code in (401, 403):
        return f"the server refuses it ({error.code}); check the address, and whether it needs a permission"
    if error.code == 407:
        return f"the proxy {_proxy(url) or 'on the way'} asks for a name and a password; write them into its address"
    return f"the server answers {_code(error)}; check the address"


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address, without a name and a password."""
    parts = urllib.parse.urlsplit(url)
    found = urllib.request.getproxies().get(parts.scheme)
    return None if not found or urllib.request.proxy_bypass(parts.netloc) else found.rpartition("@")[2]


def _code(error: urllib.error.HTTPError) -> str:
    reason = _readable(error.reason.partition("The last 30x")[0])
    return f"{error.code} ({reason})" if reason else str(error.code)


def _readable(text: str) -> str:
    """What a server or a library says, on one line that a terminal can show."""
    line = " ".join(text.split())
    return line if line.isprintable() and len(line) < 200 else f"{ascii(line)[:60]}…"
