"""A small server that speaks the HTTP of the Hugging Face Hub, as far as mmgrid uses it, and fails when told to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

TOKEN = "hf_" + "t" * 34
_LFS = (".safetensors", ".bin")


@dataclass
class Fault:
    """What to answer instead, for requests of this method whose path contains a text.

    Attributes:
        status: of the answer; 0 cuts the connection: in the middle of a file, otherwise before an answer.
        times: how often.
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1_000_000


@dataclass
class Repo:
    """A repository: its commits by id (path → bytes), and branches and tags (name → commit)."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        number = hashlib.sha1(f"{len(self.commits)} {branch}".encode()).hexdigest()
        self.commits[number] = dict(files)
        self.refs[branch] = number
        return number

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        number = self.refs.get(revision, revision)
        return (number, self.commits[number]) if number in self.commits else None


class Hub:
    """The server: its repositories, the objects that were uploaded, and what it was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.faults: list[Fault] = []
        self.url = ""

    def add(self, repo: str, files: Mapping[str, bytes] | Path, *, private: bool = False) -> str:
        """Publish files, or a folder. Returns the commit."""
        if isinstance(files, Path):
            paths = [path for path in sorted(files.rglob("*")) if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        return self.repos.setdefault(repo, Repo(private)).commit(files)

    def fail(self, method: str, path: str, status: int, *, times: int = 1_000_000, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(method, path, status, named, times))

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None


@contextlib.contextmanager
def running_hub(cache: Path, patch: pytest.MonkeyPatch, *, token: str | None = TOKEN) -> Iterator[Hub]:
    """A server in a thread, to which the Hub's library of this process speaks. cache: the folder of its cache."""
    hub = Hub()
    handler = type("OneHub", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    constants = "huggingface_hub.constants"
    patch.setattr(f"{constants}.ENDPOINT", hub.url)
    patch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    patch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
    patch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    patch.setattr(f"{constants}.HF_TOKEN_PATH", str(cache / "token"))
    patch.setattr(f"{constants}.HF_STORED_TOKENS_PATH", str(cache / "tokens"))
    unhurried = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    patch.setattr("huggingface_hub.utils._http.time", unhurried)
    patch.setenv("HF_TOKEN", token) if token else patch.delenv("HF_TOKEN", raising=False)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names of the base class

    def _answer(self) -> None:
        path = unquote(urlparse(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        fault = self.hub.fault(self.command, path)
        if fault is not None and fault.status:
            self._send(fault.status, {"error": "as the test wants it"}, fault.headers)
        elif fault is not None and not (self.command == "GET" and "/resolve/" in path):
            self.close_connection = True
        else:
            self._route(path, body, cut=fault is not None)

    def _route(self, path: str, body: bytes, *, cut: bool) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", TOKEN):
            self._send(401, {}, {"X-Error-Message": "Invalid credentials in Authorization header"})
            return
        routes = {
            r"PUT /objects/(?P<oid>\w+)": self._put,
            r"GET /api/whoami-v2": self._whoami,
            r"POST /api/repos/create": self._create,
            r"POST /api/validate-yaml": lambda body: self._send(200, {"errors": [], "warnings": []}),
            r"POST /api/models/(?P<repo>\w[\w./-]*?)/preupload/(?P<revision>.+)": self._preupload,
            r"POST /(?P<repo>[\w./-]+)\.git/info/lfs/objects/batch": self._batch,
            r"POST /api/models/(?P<repo>\w[\w./-]*?)/commit/(?P<revision>.+)": self._commit,
            r"POST /api/models/(?P<repo>\w[\w./-]*?)/branch/(?P<revision>.+)": self._branch,
            r"GET /api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>.+)": self._tree,
            r"GET /api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>.+))?": self._info,
            r"(GET|HEAD) /(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)": self._file,
        }
        for pattern, route in routes.items():
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match is None:
                continue
            if self.command == "POST" and token != TOKEN:
                self._send(401, {"error": "Invalid username or password."}, {})
                return
            found = match.groupdict()
            repo = self.hub.repos.get(found.get("repo") or "")
            if "repo" in found and (repo is None or (repo.private and token != TOKEN)):
                self._send(404 if token else 401, {}, {"X-Error-Code": "RepoNotFound"})
                return
            if "repo" in found:
                found["repo"] = repo  # type: ignore[assignment]
                if "file" in found or self.command == "GET":
                    found["state"] = repo.at(found.pop("revision") or "main")  # type: ignore[union-attr, assignment]
                    if found["state"] is None:
                        self._send(404, {}, {"X-Error-Code": "RevisionNotFound"})
                        return
            more = {"cut": cut} if "file" in found else {}
            route(body, **found, **more)  # type: ignore[operator]
            return
        self._send(404, {"error": f"the test's Hub does not know {self.command} {path}"}, {})

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _whoami(self, body: bytes) -> None:
        self._send(200, {"type": "user", "name": "me", "orgs": []})

    def _info(self, body: bytes, repo: Repo, state: Any) -> None:
        number, files = state
        siblings = [self._sibling(file, data) for file, data in files.items()]
        self._send(200, {"id": self._name(repo), "sha": number, "private": repo.private, "siblings": siblings})

    def _tree(self, body: bytes, repo: Repo, state: Any) -> None:
        self._send(200, [self._entry(file, data) for file, data in state[1].items()])

    def _name(self, repo: Repo) -> str:
        return next(name for name, one in self.hub.repos.items() if one is repo)

    @classmethod
    def _sibling(cls, file: str, data: bytes) -> dict[str, Any]:
        entry = cls._entry(file, data)
        large = {"lfs": entry["lfs"] | {"sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {}
        return {"rfilename": file, "size": len(data), "blobId": entry["oid"], **large}

    @staticmethod
    def _entry(file: str, data: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": blob}
        if file.endswith(_LFS):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, body: bytes, repo: Repo, state: Any, file: str, *, cut: bool) -> None:
        number, files = state
        if file not in files:
            self._send(404, {}, {"X-Error-Code": "EntryNotFound"})
            return
        data = files[file]
        entry = self._entry(file, data)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(begin[1]) if begin else 0
        self.send_response(206 if begin else 200)
        self.send_header("X-Repo-Commit", number)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Linked-Size", str(len(data)))
        if begin:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[start : start + (len(data) - start) // 2] if cut else data[start:])
            self.close_connection |= cut

    # ---- writing ---------------------------------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        known = name in self.hub.repos
        if not known:
            self.hub.repos[name] = Repo(wanted.get("visibility") == "private" or bool(wanted.get("private")))
            self.hub.repos[name].commit({".gitattributes": b""})
        self._send(409 if known else 200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _preupload(self, body: bytes, repo: Repo, revision: str) -> None:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(_LFS) else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def _batch(self, body: bytes, repo: Repo) -> None:
        answers = []
        for one in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}
            answers.append(one if one["oid"] in self.hub.objects else one | {"actions": upload})
        self._send(200, {"transfer": "basic", "objects": answers})

    def _put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self._send(200, {})

    def _branch(self, body: bytes, repo: Repo, revision: str) -> None:
        known = revision in repo.refs
        repo.refs.setdefault(revision, repo.refs["main"])
        self._send(409 if known else 200, {})

    def _commit(self, body: bytes, repo: Repo, revision: str) -> None:
        _, files = repo.at(revision) or ("", {})
        files = dict(files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        number = repo.commit(files, revision)
        self._send(
            200,
            {"success": True, "commitOid": number, "commitUrl": f"{self.hub.url}/{self._name(repo)}/commit/{number}"},
        )

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
