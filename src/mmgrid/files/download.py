"""Downloads of large files over HTTP that survive stalls, cuts and busy servers, and are complete or absent at the end.

What has arrived lies in `<name>.part`, and what it is a part of in `<name>.part.json`, so that a later call, also of
another process, goes on where an earlier one ended. A file appears under its name once its length is right, and its
SHA-256 where that is published, and whatever else its caller checks.
"""

import contextlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from mmgrid.files import addresses, http_headers
from mmgrid.files.digest import sha256_file
from mmgrid.files.disk import clear_disk_errors
from mmgrid.files.folder import sync_path, write_json

_CHUNK_BYTES = 1 << 20
_WHOLE = (200, 203)
_NOT_THERE = (404, 410)
_BUSY = (202, 408, 425, 429)  # and the errors of servers but these:
_LASTING = (501, 505, 511)
_LONGEST_SECONDS = 60.0  # between two attempts, if the server does not say


class DownloadError(OSError):
    """A file could not be downloaded; the message names its address, the reason and the remedy."""


@dataclass(frozen=True)
class Remote:
    """A file on a server. size_bytes, sha256: where they are known. tag: its ETag, which names one state of the file."""

    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    tag: str | None = None


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


def look(remote: Remote, patience: Patience = PATIENCE) -> Remote:
    """The file with its size and tag, as the server states them without sending it; unknown ones stay None, and all if it
    refuses to say them, as some do that would send the file.

    Raises DownloadError if there is no such file, or the server cannot be reached.
    """
    with _tries(remote.url, patience) as tries:
        while True:
            with tries.attempt():
                try:
                    with _answer(remote.url, {}, patience, method="HEAD") as answer:
                        return _stated(remote, answer.headers)
                except urllib.error.HTTPError as error:
                    if _is_busy(error.code) or error.code in _NOT_THERE:
                        raise
                    error.close()
                    return remote


def text(url: str, patience: Patience = PATIENCE, most_bytes: int = 1 << 24) -> str:
    """A short text. Raises DownloadError as `look`."""
    with _tries(url, patience) as tries:
        while True:
            with tries.attempt(), _answer(url, {}, patience) as answer, _network():
                read = answer.read(most_bytes)
                announced = http_headers.length(answer.headers) or 0
                if len(read) < min(announced, most_bytes):
                    raise HTTPException(f"the connection ended after {len(read):,} of {announced:,} bytes")
                return read.decode("utf-8", "replace")


def download(
    remote: Remote,
    path: Path,
    patience: Patience = PATIENCE,
    progress: Callable[[int], None] | None = None,
    damage: Callable[[Path], str | None] | None = None,
) -> None:
    """Download a file to `path`, or what is missing of it.

    Args:
        progress: is called with the number of bytes that are there, at first with those of an earlier call.
        damage: says what is wrong with the bytes in a file, or None; it is asked before the file gets its name.

    Raises:
        DownloadError: the server has no such file, cannot be reached, or sends another file than it announced.
        DiskFull, NotWritableError: it cannot be written; what has arrived is kept.
    """
    part = path.with_name(path.name + ".part")
    again = False
    with clear_disk_errors(path, remedy="choose another root"):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            remote = _fill(remote, part, patience, progress or (lambda arrived: None))
            problem = _problem(remote, part) or (damage(part) if damage else None)
            if problem is None:
                break
            remove_part(path)
            if again:
                raise DownloadError(
                    f"{remote.url}: {problem}, twice; nothing was kept. Try again later, or another source"
                )
            again = True
        sync_path(part)
        os.replace(part, path)  # noqa: PTH105
        remove_part(path)


def arrived_bytes(path: Path) -> int:
    """How much of a file an earlier call has left."""
    part = path.with_name(path.name + ".part")
    return part.stat().st_size if part.is_file() else 0


def remove_part(path: Path) -> None:
    """Remove what an earlier call has left of a file."""
    for suffix in (".part", ".part.json"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _fill(remote: Remote, part: Path, patience: Patience, progress: Callable[[int], None]) -> Remote:
    """Bring the part to its full length. Returns what the server said about the file."""
    known = _begun(part)
    if known is None or not _same(known, remote):
        part.unlink(missing_ok=True)
    else:
        remote = replace(remote, tag=remote.tag or known.tag, size_bytes=remote.size_bytes or known.size_bytes)
    with _tries(remote.url, patience) as tries:
        while True:
            have = part.stat().st_size if part.is_file() else 0
            tries.most = max(tries.most, have)
            progress(have)
            if have and have == remote.size_bytes:
                return remote
            with tries.attempt():
                remote, complete = _receive(remote, part, have, patience, progress, tries)
                if complete:
                    return remote  # else the server sends pieces: the next is asked for at once


def _receive(
    remote: Remote, part: Path, have: int, patience: Patience, progress: Callable[[int], None], tries: "_Tries"
) -> tuple[Remote, bool]:
    """Take what one answer sends of the file after its first `have` bytes. Returns it, and whether it is complete.

    Raises OSError or HTTPException if the answer ends early.
    """
    headers = {}
    if have:
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": remote.tag} if remote.tag else {})
    with _answer(remote.url, headers, patience) as answer:
        start, total = http_headers.span(answer.headers)
        tag = http_headers.state(answer.headers)
        if answer.status == 416:  # nothing is left to send, or what was begun is longer than the file
            if have and have == total and remote.size_bytes in (None, total):
                return replace(remote, size_bytes=total), True
            part.unlink(missing_ok=True)
            raise HTTPException("the server has less than what has arrived")
        if answer.status == 206:
            other_size = total and remote.size_bytes and total != remote.size_bytes
            if (start or 0) != have or other_size or (have and http_headers.are_different(remote.tag, tag)):
                part.unlink(missing_ok=True)  # another file than the one that was begun
                raise HTTPException("the file has changed since it was begun")
        else:
            have, total = 0, None
            if remote.sha256 is None and http_headers.are_different(remote.tag, tag):
                remote = replace(remote, size_bytes=None, tag=None)  # it has changed: what was known of it is past
        stated = _stated(remote, answer.headers, whole=not have and answer.status != 206)
        stated = replace(stated, size_bytes=stated.size_bytes or total)
        _note(part, stated)
        expected = http_headers.length(answer.headers)
        received = 0
        with part.open("ab" if have else "wb") as file:
            while chunk := _received(answer):
                file.write(chunk)
                received += len(chunk)
                tries.heard(have + received)
                progress(have + received)
        if expected is not None and received < expected:
            raise HTTPException(f"the connection ended after {have + received:,} bytes")
        if stated.size_bytes is not None and have + received < stated.size_bytes:
            if answer.status == 206 and received:
                return stated, False
            raise HTTPException(f"{have + received:,} of {stated.size_bytes:,} bytes were sent")
        return stated, True


def _problem(remote: Remote, part: Path) -> str | None:
    """Why the part is not the file; None if it is."""
    have = part.stat().st_size
    if not have:
        return "what was sent is empty"
    if remote.size_bytes is not None and have != remote.size_bytes:
        return f"{have:,} bytes were sent, and {remote.size_bytes:,} announced"
    if remote.sha256 is not None and (found := sha256_file(part)) != remote.sha256:
        return f"its SHA-256 is {found[:12]}…, and {remote.sha256[:12]}… is published"
    return None


def _begun(part: Path) -> Remote | None:
    """What the part was begun as."""
    note = part.with_name(part.name + ".json")
    if not part.is_file():
        return None
    try:
        return Remote(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(part: Path, remote: Remote) -> None:
    write_json(part.with_name(part.name + ".json"), asdict(remote), sync=False)


def _same(known: Remote, remote: Remote) -> bool:
    """Whether nothing that is known about two files says that they differ."""
    if known.sha256 is not None and known.sha256 == remote.sha256:
        return True
    pairs = ((getattr(known, field), getattr(remote, field)) for field in ("url", "size_bytes", "sha256", "tag"))
    return all(one is None or other is None or one == other for one, other in pairs)


def _stated(remote: Remote, headers: Any, *, whole: bool = True) -> Remote:
    """The file with what an answer says about it. What was known before is not replaced."""
    size_bytes = http_headers.length(headers) if whole and not headers.get("Content-Encoding") else None
    tag = http_headers.state(headers)
    return replace(remote, size_bytes=remote.size_bytes or size_bytes, tag=remote.tag or tag)


def _answer(url: str, headers: dict[str, str], patience: Patience, method: str = "GET") -> Any:
    """The answer of the server: with the file, with a part of it, or 416 to a request for a part. Raises HTTPError for
    others, also for a success without a file."""
    request = urllib.request.Request(url, headers={"User-Agent": "mmgrid", "Accept-Encoding": "identity"} | headers)
    request.method = method
    try:
        with _network():
            answer = urllib.request.urlopen(request, timeout=patience.timeout_seconds)  # http, https: see `_tries`
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in headers:
            return error
        raise
    if answer.status in (*_WHOLE, 206):
        return answer
    raise urllib.error.HTTPError(url, answer.status, answer.reason, answer.headers, answer)


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """What fails in here is the network and not the disk: any other error of the system, such as a host that cannot be
    reached, is raised as ConnectionError.
    """
    try:
        yield
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError):
        raise
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


def _received(answer: Any) -> bytes:
    """The next bytes of an answer; b"" at its end."""
    with _network():
        return answer.read1(_CHUNK_BYTES)


class _Tries:
    """Counts attempts in a row without a byte, and waits between them."""

    def __init__(self, url: str, patience: Patience) -> None:
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
            if not _is_busy(error.code):
                raise DownloadError(f"{self.url}: {_refused(error)}") from error
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
        longest = self.patience.most_pause_seconds
        later = "what has arrived is kept: run the same command again"
        if asked_seconds is not None and asked_seconds > longest:
            raise DownloadError(f"{self.url}: {why}, and asks to wait {asked_seconds:,.0f} s; {later} then") from error
        if self.failed >= self.patience.attempts:
            raise DownloadError(f"{self.url}: {why}, after {self.failed} attempts; {later} later") from error
        pause = self.patience.pause_seconds * 2 ** (self.failed - 1)
        self.patience.sleep(min(pause, _LONGEST_SECONDS) if asked_seconds is None else asked_seconds)


@contextlib.contextmanager
def _tries(url: str, patience: Patience) -> Iterator[_Tries]:
    if (problem := addresses.problem(url)) is not None:
        raise DownloadError(f"{addresses.shown(url)}: {problem}")
    yield _Tries(url, patience)


def _is_busy(code: int) -> bool:
    """Whether a status may pass."""
    return code in _BUSY or (code >= 500 and code not in _LASTING)


def _refused(error: urllib.error.HTTPError) -> str:
    if error.code in _NOT_THERE:
        return "the server has no such file; check the name of the domain and the address"
    if error.code in (401, 403):
        return f"the server refuses it ({error.code}); check the address, and whether it needs a permission"
    return f"the server answers {_code(error)}; check the address"


def _code(error: urllib.error.HTTPError) -> str:
    reason = _readable(error.reason.partition("The last 30x")[0])
    return f"{error.code} ({reason})" if reason else str(error.code)


def _readable(text: str) -> str:
    """What a server or a library says, on one line that a terminal can show."""
    line = " ".join(text.split())
    return line if line.isprintable() and len(line) < 200 else f"{ascii(line)[:60]}…"
