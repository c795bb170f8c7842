"""Downloads of large files over HTTP that survive stalls, cuts and busy servers, and are complete or absent at the end.

What has arrived lies in `<name>.part`, and what it is a part of in `<name>.part.json`, so that a later call, also of
another process, goes on where an earlier one ended. A file appears under its name once its length is right, and its
SHA-256 where that is published, and whatever else its caller checks.
"""

import json
import os
import urllib.error
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from mmgrid.files import http_headers
from mmgrid.files.attempts import (
    PATIENCE,
    Attempts,
    DownloadError,
    Patience,
    answer_of,
    is_busy,
    is_gone,
    network,
)
from mmgrid.files.digest import sha256_file
from mmgrid.files.disk import clear_disk_errors
from mmgrid.files.folder import sync_path, write_json

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file on a server. size_bytes, sha256: where they are known. tag: its ETag, which names one state of the file."""

    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    tag: str | None = None


def look(remote: Remote, patience: Patience = PATIENCE) -> Remote:
    """Ask a server for the size and the tag of a file, without the file.

    What the server does not say stays as it was: all of it where a server refuses to answer, which may still send the file.

    Raises DownloadError if there is no such file, or the server cannot be reached.
    """
    tries = Attempts(remote.url, patience)
    while True:
        with tries.attempt():
            try:
                with answer_of(remote.url, {}, patience, method="HEAD") as answer:
                    return _stated(remote, answer.headers)
            except urllib.error.HTTPError as error:
                if is_busy(error.code) or is_gone(error.code):
                    raise
                error.close()
                return remote


def text(url: str, patience: Patience = PATIENCE, most_bytes: int = 1 << 24) -> str:
    """A short text. Raises DownloadError as `look`."""
    tries = Attempts(url, patience)
    while True:
        with tries.attempt(), answer_of(url, {}, patience) as answer, network():
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
        DownloadError: the server has no such file, cannot be reached, or sends another file than it announced, or a
            folder is where the file, or what has arrived of it, is to be written.
        DiskFull, NotWritableError: it cannot be written; what has arrived is kept.
    """
    part = path.with_name(path.name + ".part")
    for place in (path, part, part.with_name(part.name + ".json")):
        if place.is_dir():
            raise DownloadError(f"{place}: is a folder, and a file is to be written there; move the folder away")
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
    tries = Attempts(remote.url, patience)
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
    remote: Remote, part: Path, have: int, patience: Patience, progress: Callable[[int], None], tries: Attempts
) -> tuple[Remote, bool]:
    """Take what one answer sends of the file after its first `have` bytes. Returns it, and whether it is complete.

    Raises OSError or HTTPException if the answer ends early.
    """
    headers = {}
    if have:
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": remote.tag} if remote.tag else {})
    with answer_of(remote.url, headers, patience) as answer:
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
                if stated.size_bytes is not None and have + received > stated.size_bytes:
                    return stated, True  # whatever it sends is another file
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
    if remote.size_bytes is not None and have > remote.size_bytes:
        return f"more was sent than the {remote.size_bytes:,} bytes that were announced"
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


def _received(answer: Any) -> bytes:
    """The next bytes of an answer; b"" at its end."""
    with network():
        return answer.read1(_CHUNK_BYTES)
